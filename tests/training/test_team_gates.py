"""The gates for a team's rows: rights are named, personal data and evaluation texts stay out, shares are counted."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fineline import Classifier
from fineline.errors import DataError
from fineline_training.build import LEAKED
from fineline_training.labels.near import NearIndex
from fineline_training.labels.team_gates import (
    NEARLY_LEAKED,
    GateOutcome,
    Personal,
    Placed,
    bundle_judge,
    check_rights,
    check_rows,
)
from fineline_training.labels.votes import LabelledRow
from fineline_training.leakage import EvaluationKeys
from fineline_training.personal import EMAIL, PHONE
from fineline_training.records import Record

NOTHING, NOTHING_NEAR = EvaluationKeys([]), NearIndex([])
SUITE = "The caretaker asked the tenants to stop leaving their bicycles in the stairwell at night."
MAIL = "jo.doe@mail-host.net"


def row(text: str, mark: int = 0, **fields: object) -> LabelledRow:
    made = LabelledRow(id=text[:8], text=text, lang="en", source="desk", votes={"ann": {"insult": mark}})
    return replace(made, **fields)  # type: ignore[arg-type]


def gated(*rows: LabelledRow, personal: Personal = "stop", **options: object) -> GateOutcome:
    placed = [Placed("team.jsonl", line, found) for line, found in enumerate(rows, 1)]
    given = {"evaluation": NOTHING, "near": NOTHING_NEAR} | options
    return check_rows(placed, personal=personal, **given)  # type: ignore[arg-type]


# --- rights


def test_named_rights_pass_and_are_returned_for_the_record() -> None:
    assert check_rights(" CC-BY-4.0 ", "consent of the writers") == {
        "licence": "CC-BY-4.0",
        "basis": "consent of the writers",
    }


@pytest.mark.parametrize(
    ("licence", "basis", "code"),
    [
        ("", "consent", "licence_missing"),
        ("Unknown", "consent", "licence_missing"),
        ("MIT", "  ", "basis_missing"),
        ("MIT", "未知", "basis_missing"),
        ("CC-BY-NC-4.0", "consent", "licence_not_permissive"),
        ("cc_by_nc_sa", "consent", "licence_not_permissive"),
        ("CC BY-ND 4.0", "consent", "licence_not_permissive"),
        ("for non-commercial use", "consent", "licence_not_permissive"),
    ],
)
def test_rights_that_are_not_named_or_do_not_allow_it_stop(licence: str, basis: str, code: str) -> None:
    with pytest.raises(DataError) as caught:
        check_rights(licence, basis)
    assert caught.value.code == code


def test_research_licences_pass_on_request() -> None:
    assert check_rights("CC-BY-NC-4.0", "consent", any_licence=True)["licence"] == "CC-BY-NC-4.0"
    with pytest.raises(DataError):
        check_rights("", "consent", any_licence=True)


def test_a_word_that_only_holds_the_letters_is_no_restriction() -> None:
    assert check_rights("Acme Inc. and Nduka Ltd. service terms", "contract")


# --- personal data


HOLDERS = (
    row(f"Write to {MAIL} today."),
    row("Fine.", context="Ring 139-1234-5678 for me."),
    row("Also fine.", meta={"sender": MAIL, "page": "3"}),
)


def test_personal_data_stops_the_import_by_default() -> None:
    with pytest.raises(DataError) as caught:
        gated(row("Nothing here."), *HOLDERS)
    assert caught.value.code == "personal_data"
    assert "3 rows" in caught.value.message
    assert "team.jsonl, line 2" in caught.value.message
    assert MAIL not in caught.value.message


def test_personal_data_is_masked_in_text_context_and_meta() -> None:
    outcome = gated(row("Nothing here."), *HOLDERS, personal="mask")
    rows = [placed.row for placed in outcome.rows]
    assert [found.text for found in rows] == ["Nothing here.", "Write to [EMAIL] today.", "Fine.", "Also fine."]
    assert rows[2].context == "Ring [PHONE] for me."
    assert rows[3].meta == {"sender": "[EMAIL]", "page": "3"}
    assert [found.votes for found in rows[1:]] == [found.votes for found in HOLDERS]
    assert not outcome.dropped
    assert outcome.report["personal"] == {"choice": "mask", "rows": 3, "found": {EMAIL: 2, PHONE: 1}}


def test_rows_with_personal_data_are_dropped_by_choice() -> None:
    outcome = gated(row("Nothing here."), *HOLDERS, personal="drop")
    assert [placed.line for placed in outcome.rows] == [1]
    assert outcome.dropped == (
        ("team.jsonl", 2, f"holds {EMAIL}"),
        ("team.jsonl", 3, f"holds {PHONE}"),
        ("team.jsonl", 4, f"holds {EMAIL}"),
    )


# --- evaluation suites


def test_equal_and_near_copies_of_evaluation_texts_are_dropped() -> None:
    outcome = gated(
        row(SUITE.upper()),
        row(SUITE.replace("tenants", "neighbours")),
        row("Fine.", context=SUITE),
        row("The caretaker is on holiday until Monday, so please keep the key."),
        evaluation=NOTHING.with_texts([SUITE]),
        near=NOTHING_NEAR.with_texts([SUITE]),
    )
    assert [(refusal.line, refusal.reason) for refusal in outcome.dropped] == [
        (1, LEAKED),
        (2, NEARLY_LEAKED),
        (3, LEAKED),
    ]
    assert [placed.line for placed in outcome.rows] == [4]
    assert outcome.report["dropped"] == {LEAKED: 2, NEARLY_LEAKED: 1}


def test_a_mask_does_not_hide_or_make_an_evaluation_text() -> None:
    suite = f"My address is {MAIL}, write to me."
    masked_suite = "My address is [EMAIL], write to me."
    for held in (suite, masked_suite):
        outcome = gated(row(suite), personal="mask", evaluation=NOTHING.with_texts([held]))
        assert [refusal.reason for refusal in outcome.dropped] == [LEAKED]


def test_evaluation_texts_are_judged_before_personal_data_stops() -> None:
    suite = f"My address is {MAIL}, write to me."
    assert not gated(row(suite), evaluation=NOTHING.with_texts([suite])).rows


def test_the_committed_suites_are_the_default() -> None:
    bank = "Ask them: what legal grounds let a court dissolve a political party?"
    outcome = check_rows([Placed("a.jsonl", 1, row(bank)), Placed("a.jsonl", 2, row("The kettle is on."))])
    assert [placed.line for placed in outcome.rows] == [2]


# --- unlawful share


def test_a_label_set_may_be_all_flagged_and_its_share_is_reported() -> None:
    outcome = gated(row("You fool.", 1), row("You dolt.", 1), row("Tea?", source="chat"))
    assert len(outcome.rows) == 3
    assert outcome.report["unlawful"]["shares"] == {"chat": 0.0, "desk": 1.0}


def test_ordinary_text_has_a_limit_by_source() -> None:
    rows = [row(f"Tea at {hour}?") for hour in range(18)] + [row("You fool.", 1)]
    with pytest.raises(DataError, match=r"desk: 5\.3%") as caught:
        gated(*rows, ordinary=True)
    assert caught.value.code == "unlawful_share"
    assert gated(*rows, ordinary=True, unlawful_limit=0.06).report["unlawful"]["limit"] == 0.06


def test_a_judge_sees_what_labels_of_ordinary_text_do_not_say() -> None:
    seen: list[str] = []

    def judge(records: Sequence[Record]) -> list[bool]:
        seen.extend(record.text for record in records)
        return [True] * len(records)

    with pytest.raises(DataError):
        gated(row("Tea?"), row("More tea?"), ordinary=True, judge=judge)
    assert sorted(seen) == ["More tea?", "Tea?"]


def test_a_bundle_judges_as_its_policy_does(classifier: Classifier) -> None:
    records = [Record(text=text, lang="en", labels={}, source="s") for text in ("find you", "help", "他说要打断你的手")]
    expected = [bool(verdict.flagged) for verdict in classifier.classify([record.text for record in records])]
    assert list(bundle_judge(classifier)(records)) == expected


# --- report


def test_report_is_plain_data_without_texts() -> None:
    outcome = gated(*HOLDERS, row(SUITE), personal="mask", evaluation=NOTHING.with_texts([SUITE]))
    written = json.dumps(outcome.report)
    assert (outcome.report["rows"], outcome.report["kept"]) == (4, 3)
    assert [gate["gate"] for gate in outcome.report["gates"]] == ["personal data", "leakage"]
    assert MAIL not in written
    assert SUITE not in written


def test_no_rows_pass_all_gates() -> None:
    outcome = gated()
    assert outcome.rows == outcome.dropped == ()
