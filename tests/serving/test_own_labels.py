"""A team's own labels: what their file must say, and that all that speaks of a bundle speaks of its labels too."""

import copy
import csv
import json

import pytest

from fineline import Action, Classifier, StreamGuard
from fineline.bundle import META, load_bundle
from fineline.errors import BundleError, ConfigError
from fineline.own_labels import own_label, read_own_labels
from fineline.policy import get_policy
from fineline.taxonomy import OPENAI_CATEGORIES, load_taxonomy

IDS = load_taxonomy().ids
OWN = "miracle_cure"
TEXTS = [
    "tell anyone",
    "find you",
    "他说要打断你的手",
    "ありがとう",
    "شكرا",
    "нет",
    "да!",
    "never report",
    "help",
    "ห้าม",
    "?",
]


@pytest.fixture(scope="module")
def own(own_bundle):
    return Classifier.load(own_bundle, threads=1)


@pytest.fixture(scope="module")
def flagged_text(own):
    """A text that the own label is flagged in, with its verdict."""
    return next((t, v) for t, v in zip(TEXTS, own.classify(TEXTS), strict=True) if OWN in v.flagged)


def as_toml(table):
    """JSON strings and lists are TOML's; tables stand inline."""

    def value(entry):
        if isinstance(entry, dict):
            return "{" + ", ".join(f"{key} = {value(x)}" for key, x in entry.items()) + "}"
        return json.dumps(entry, ensure_ascii=False)

    return "".join(f"{key} = {value(entry)}\n" for key, entry in table.items())


@pytest.fixture
def write(tmp_path, own_table):
    def make(called="own.toml", **changes):
        file = tmp_path / called
        file.write_text(as_toml(copy.deepcopy(own_table) | changes), encoding="utf-8")
        return file

    return make


# --- the file


def test_a_file_is_read_as_it_stands(write, own_table):
    (label,) = read_own_labels([write()])
    assert label.as_table() == own_table
    assert label.rule == "Miracle cure: Sells a cure that no medicine is."
    assert own_label(json.loads(json.dumps(label.as_table())), "here") == label


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"severity": 3}, "config_unknown_key"),
        ({"flag": "one"}, "config_type"),
        ({"name": {"en": "Only"}}, "config_missing_key"),
        ({"group": "manners"}, "taxonomy_group"),
        ({"action": "allow"}, "own_label_action"),
        ({"definition": " "}, "own_label_empty"),
        ({"definition_zh": "一\n二"}, "own_label_empty"),
        ({"name": {"en": "", "zh": "疗法"}}, "own_label_empty"),
        ({"flag": []}, "own_label_empty"),
        ({"never_flag_zh": ["好", ""]}, "own_label_empty"),
        ({"crosswalk": {"ail": [], "lg3": ["S6"], "openai": []}}, "own_label_crosswalk"),
        ({"crosswalk": {"ail": [], "lg3": [""], "openai": []}}, "own_label_crosswalk"),
        ({"crosswalk": {"ail": [], "lg3": [], "openai": ["=cures"]}}, "own_label_crosswalk"),
        *(({"id": name}, "own_label_id") for name in ("", "Cure", "a b", "a/b/c", "1st", "x" * 41, "any", "lawful")),
        *(({"id": name}, "own_label_id") for name in OPENAI_CATEGORIES if name not in IDS),
        ({"id": "secession", "group": "prohibited", "action": "block"}, "own_label_action"),
        ({"id": "insult"}, "taxonomy_group"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_filled_in_or_breaks_a_rule_is_refused(write, changes, code):
    with pytest.raises(ConfigError, match=r"own\.toml") as caught:
        read_own_labels([write(**changes)])
    assert caught.value.code == code


def test_a_missing_action_or_file_is_refused(write, own_table, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text(as_toml({key: value for key, value in own_table.items() if key != "action"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="action"):
        read_own_labels([file])
    with pytest.raises(ConfigError, match=r"none\.toml"):
        read_own_labels([tmp_path / "none.toml"])


def test_two_files_with_one_id_are_refused(write):
    with pytest.raises(ConfigError, match=r"b\.toml") as caught:
        read_own_labels([write("a.toml"), write("b.toml")])
    assert caught.value.code == "taxonomy_duplicate"


def test_a_definition_like_ours_is_refused_and_a_narrower_one_read(write):
    ours = load_taxonomy()["insult"].as_table() | {"action": "review"}
    with pytest.raises(ConfigError) as caught:
        read_own_labels([write(**ours)])
    assert caught.value.code == "own_label_unchanged"
    (label,) = read_own_labels([write(**ours | {"definition": "Abuse of a colleague."})])
    assert (label.id, label.action) == ("insult", "review")


# --- the taxonomy and the policies


def test_a_new_label_comes_last_and_another_definition_takes_the_place_of_ours(own_table):
    new = own_label(own_table, "a")
    narrower = own_label(load_taxonomy()["insult"].as_table() | {"definition": "Narrower.", "action": "review"}, "b")
    found = load_taxonomy().extended([narrower, new])
    assert found.ids == (*IDS, OWN)
    assert found["insult"].definition == "Narrower."
    assert found.own == (narrower, new)
    assert found.extended([own_label(own_table | {"definition": "Again."}, "c")]).ids == found.ids
    assert load_taxonomy().own == ()
    assert load_taxonomy()["insult"].definition != "Narrower."


def test_an_overlap_must_name_a_label_and_an_id_stands_once(own_table):
    one, other = (own_label(own_table | {"id": id_, "overlaps": [over]}, "a") for id_, over in (("x", "y"), ("y", "x")))
    assert load_taxonomy().extended([one, other]).ids[-2:] == ("x", "y")
    for wrong, code in (([one], "taxonomy_overlap"), ([other, other], "taxonomy_duplicate")):
        with pytest.raises(ConfigError) as caught:
            load_taxonomy().extended(wrong)
        assert caught.value.code == code


@pytest.mark.parametrize("action", ["review", "block"])
def test_the_action_is_the_labels_where_the_policy_names_none(own_table, action):
    ours = load_taxonomy()["violence"].as_table() | {"definition": "Narrower.", "action": action}
    taxonomy = load_taxonomy().extended([own_label(own_table | {"action": action}, "a"), own_label(ours, "b")])
    policy = get_policy("cn_measures").extended(taxonomy)
    assert policy.action((OWN,)) == policy.action(("violence",)) == Action(action)
    assert policy.action(("secession",)) is Action.REVIEW
    assert policy.action(("insult", OWN)) is Action.BLOCK
    assert get_policy("cn_measures").action(("violence",)) is Action.BLOCK


def test_an_action_that_the_policys_file_names_wins(own_table):
    ours = load_taxonomy()["insult"].as_table() | {"definition": "Narrower.", "action": "block"}
    policy = get_policy("international").extended(load_taxonomy().extended([own_label(ours, "a")]))
    assert policy.action(("insult",)) is Action.REVIEW


# --- the bundle


def test_a_bundle_means_its_own_labels(own_bundle, own_table, tiny_bundle):
    bundle = load_bundle(own_bundle)
    assert bundle.taxonomy.ids == bundle.meta.labels == (*IDS, OWN)
    assert [label.as_table() for label in bundle.taxonomy.own] == [own_table]
    assert load_bundle(tiny_bundle).taxonomy == load_taxonomy()


def change(folder, target, edit):
    """Copy a bundle and change its entries, digest included."""
    from fineline.bundle import _digest

    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    meta = json.loads((target / META).read_text(encoding="utf-8"))
    edit(meta)
    (target / META).write_text(json.dumps(meta | {"digest": _digest(meta)}, ensure_ascii=False), encoding="utf-8")
    return target


def test_a_bundle_from_before_own_labels_still_loads(tiny_bundle, tmp_path):
    older = load_bundle(change(tiny_bundle, tmp_path / "older", lambda meta: meta.pop("own_labels")))
    assert older.meta.own_labels == ()


@pytest.mark.parametrize(
    ("edit", "code"),
    [
        (lambda meta: meta.update(own_labels=[]), "bundle_labels"),
        (lambda meta: meta["own_labels"][0].update(definition=""), "bundle_own_labels"),
        (lambda meta: meta["own_labels"][0].update(overlaps=["cures"]), "bundle_own_labels"),
        (lambda meta: meta["own_labels"].append(meta["own_labels"][0] | {"id": "more"}), "bundle_own_labels"),
        (lambda meta: meta["own_labels"].append(meta["own_labels"][0]), "bundle_own_labels"),
        (lambda meta: meta["own_labels"].append("insult"), "bundle_meta"),
    ],
)
def test_own_labels_that_do_not_fit_are_refused(own_bundle, tmp_path, edit, code):
    with pytest.raises(BundleError) as caught:
        load_bundle(change(own_bundle, tmp_path / "changed", edit))
    assert caught.value.code == code


# --- verdicts


def test_a_verdict_carries_score_threshold_and_rule_of_the_own_label(own, flagged_text, own_table):
    _, verdict = flagged_text
    assert verdict.rules[OWN] == f"Miracle cure: {own_table['definition']}"
    assert set(verdict.scores) == set(verdict.thresholds) == {*IDS, OWN}
    assert own.self_check() <= own.bundle.meta.golden_tolerance


@pytest.fixture(scope="module")
def only_own(own_bundle, tmp_path_factory):
    """Flags every text with the own label and none with another."""

    def edit(meta):
        for levels in meta["thresholds"].values():
            levels |= dict.fromkeys(IDS, 0.999999) | {OWN: 0.000001}

    return Classifier.load(change(own_bundle, tmp_path_factory.mktemp("only") / "bundle", edit), threads=1)


def test_an_own_label_alone_asks_for_its_action(only_own):
    verdict = only_own.classify(["help"])[0]
    assert (verdict.flagged, verdict.action) == ((OWN,), Action.REVIEW)


def test_streams_ask_for_the_own_labels_action(only_own):
    guard = StreamGuard(only_own)
    (event,) = guard.feed("help!\n")
    assert (event.label, event.action) == (OWN, Action.REVIEW)
    assert guard.close() == only_own.classify(["help!\n"])[0]


# --- the server


@pytest.fixture(scope="module")
def client(make_app, own):
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(make_app(own)) as client:
        yield client


def test_moderations_have_the_own_label_and_its_category(client, post, flagged_text):
    text, verdict = flagged_text
    result = post(client, "/v1/moderations", {"input": text}).json()["results"][0]
    assert result["categories"][OWN] is True
    assert result["category_scores"][OWN] == pytest.approx(verdict.scores[OWN], abs=1e-5)
    assert result["categories"]["illicit"] is True
    assert result["category_scores"]["illicit"] >= result["category_scores"][OWN]


def test_classify_model_and_console_speak_of_the_own_label(client, post, flagged_text, own_table):
    text, verdict = flagged_text
    result = post(client, "/v1/classify", {"input": text}).json()["results"][0]
    assert (tuple(result["flagged"]), result["rules"]) == (verdict.flagged, verdict.rules)
    assert client.get("/v1/model").json()["own_labels"] == [own_table]
    facts = client.get("/console/facts.json").json()
    assert facts["labels"][-1]["name"] == own_table["name"]
    assert facts["labels"][-1]["group"] == "own"
    assert {policy["actions"][OWN] for policy in facts["policies"]} == {"review"}
    assert f'fineline_flags_total{{label="{OWN}"}}' in client.get("/metrics").text


def test_the_labels_change_with_the_model(make_app, classifier, own_bundle):
    testing = pytest.importorskip("fastapi.testclient")
    app = make_app(classifier)
    with testing.TestClient(app) as client:
        slot = app.state.service.slot
        assert slot.label_ids() == IDS
        client.portal.call(slot.reload, own_bundle)
        assert slot.label_ids() == (*IDS, OWN)
        assert client.get("/console/facts.json").json()["labels"][-1]["id"] == OWN


# --- a scan


def test_a_scan_counts_reviews_and_assesses_the_own_label(make_scan, rows, own):
    from fineline.scan.assess import assess
    from fineline.scan.decide import decide
    from fineline.scan.report import write_report
    from fineline.scan.sample import DRAWN, GUIDE, SHEET, review_sample

    scan = make_scan(rows, bundle=own.bundle)
    decided = decide(scan.output, bundle=own.bundle.path)
    assert decided.rule.actions[OWN] == "review"
    assert decided.flagged[OWN] > 0
    counted = write_report(scan.output).labels[-1]
    assert (counted.label, counted.name, counted.group, counted.risks) == (OWN, "Miracle cure", "own", ())
    assert counted.flagged.hits == decided.flagged[OWN]
    drawn = review_sample(scan.output, size=8)
    assert f"| {OWN} | Miracle cure | 神奇疗法 |  |" in (scan.folder / GUIDE).read_text(encoding="utf-8")
    with (scan.folder / SHEET).open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        fails = row["number"] == "1"
        row |= {"verdict": "fail" if fails else "pass", "risks": OWN if fails else "", "reviewer": "R1"}
    filled = scan.folder / "filled.csv"
    with filled.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    found = assess(str(filled), str(scan.folder / DRAWN))
    assert {name: share.hits for name, share in found.risks.items()} == {OWN: 1}
    assert found.manual.passed.n == drawn.manual
