import json
import math

import pytest
from typer.testing import CliRunner

from fineline.errors import DataError
from fineline_training.agreement import (
    agreement,
    as_markdown,
    corpus_labels,
    differences,
    draw_sample,
    item_id,
    read_pass,
    write_sheet,
)
from fineline_training.commands.labels import app
from fineline_training.corpus import Item


def item(number, *, flagged=True, label="violence", lang="en", frame=None, pair=None):
    frame = frame or f"f{number}"
    return Item(
        text=f"text {number}",
        act="threaten" if flagged else "report",
        flagged=flagged,
        labels=(label,) if flagged else (),
        topic=label,
        lang=lang,
        frame=frame,
        pair=pair or frame,
    )


def test_sample_is_balanced_and_holds_no_twins_or_expansions():
    items = [item(n, flagged=n % 2 == 0, lang=("zh", "en", "fr")[n % 3]) for n in range(120)]
    items += [item(200 + n, flagged=n % 2 == 0, frame="twins") for n in range(2)]
    items += [item(300 + n, frame="slot", pair=f"slot{n}") for n in range(20)]
    drawn = draw_sample(items, 16, seed=1)
    assert sum(i.flagged for i in drawn) == 8 == len(drawn) / 2
    assert [sum(i.lang == lang for i in drawn) for lang in ("zh", "en", "fr")] == [4, 4, 8]
    assert len({i.frame for i in drawn}) == len(drawn) and "slot" not in {i.frame for i in drawn}
    assert draw_sample(items, 16, seed=1) == drawn != draw_sample(items, 16, seed=2)


def test_sheet_gives_nothing_away(tmp_path):
    write_sheet([item(1)], tmp_path / "sheet.jsonl")
    row = json.loads((tmp_path / "sheet.jsonl").read_text())
    assert row == {"id": item_id(item(1)), "lang": "en", "context": None, "text": "text 1"}


def passes(*labels):
    return {str(n): frozenset(given) for n, given in enumerate(labels)}


def test_alpha_of_known_votes():
    # Votes on 'any': 1 1 0 0 against 1 0 0 0. By hand: observed disagreement 2/8, expected (2*3*5)/(8*7).
    first = passes({"violence"}, {"violence"}, (), ())
    second = passes({"violence"}, (), (), ())
    results = {row.label: row for row in agreement(first, second, first)}
    assert results["any"].alpha == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert results["violence"].positives == 2
    assert results["violence"].corpus == 0.75
    assert math.isnan(results["sexual"].alpha)
    assert results["any"].low <= results["any"].alpha <= results["any"].high
    assert "| any | 4 | 2 | 0.53 |" in as_markdown(list(results.values()))


def test_differences_of_verdict_come_first():
    first = passes({"violence"}, {"violence"}, ())
    second = passes({"violence", "insult"}, {"violence"}, ())
    corpus = passes({"violence"}, {"violence"}, {"insult"})
    assert differences(first, second, corpus) == ["2", "0"]


def test_inciting_hatred_discriminates():
    (labels,) = corpus_labels([item(1, label="ethnic_hatred")]).values()
    assert labels == {"ethnic_hatred", "discrimination/ethnicity"}


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ('{"id": "a"}', "pass_row"),
        ("no json", "pass_row"),
        ('{"id": "a", "labels": ["rude"]}', "pass_label"),
        ('{"id": "a", "labels": []}\n{"id": "a", "labels": []}', "pass_twice"),
    ],
)
def test_malformed_passes_are_refused(tmp_path, lines, code):
    (tmp_path / "p.jsonl").write_text(lines)
    with pytest.raises(DataError) as caught:
        read_pass(tmp_path / "p.jsonl")
    assert caught.value.code == code and "p.jsonl line" in caught.value.message


def test_passes_without_common_items_are_refused():
    with pytest.raises(DataError):
        agreement(passes(()), {"other": frozenset()}, {})


def test_committed_passes_still_fit_the_corpus():
    folder = "training/annotation"
    names = [f"{folder}/passes/pass_{name}.jsonl" for name in "ab"]
    result = CliRunner().invoke(app, ["corpus-agreement", *names, "--show", "1"])
    assert result.exit_code == 0, result.output
    assert "630" in result.output
    blind = [f"{folder}/passes/answers_blind.jsonl"] * 2
    assert "556" in CliRunner().invoke(app, ["corpus-agreement", *blind]).output
