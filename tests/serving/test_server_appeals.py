"""Appeals over HTTP: what may be filed, what is kept and for whom, settling, export, and a database in trouble."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
from fastapi import FastAPI
from fastapi.testclient import TestClient

from fineline import Action, Verdict, load_taxonomy
from fineline.errors import ConfigError
from fineline.server import desk as desk_module
from fineline.server.appeals import router
from fineline.server.auth import Guard
from fineline.server.desk import FIELDS, Desk, FeedbackRequest
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_settings import FeedbackSettings, Keeping
from fineline.server.keys import new_key, write_keys
from fineline.server.problems import HttpError, NotFoundError
from fineline.server.refusals import add_refusals
from fineline.server.sealing import Sealer, write_secret
from fineline.server.settings import ServerSettings
from fineline.server.verdict_ids import VerdictIds

LABELS = (*load_taxonomy().ids, "miracle_cure")
"""Of the model in use, which a team's label is among."""

SECRET = b"s" * 32
MARKER = "zebrawhisper"
TEXT, CONTEXT, NOTE = f"{MARKER} 文本 😀", f"prompt {MARKER}", f"note {MARKER}"
VERDICT = Verdict(
    action=Action.BLOCK,
    flagged=("violence",),
    scores={},
    thresholds={},
    windows=(),
    rules={},
    model="fineline-1@1.2.0",
    policy="cn_measures",
)


@dataclass(frozen=True, kw_only=True)
class Office:
    """A running app with appeals, and keys by name: two teams that appeal, and one person who settles."""

    client: TestClient
    keys: dict[str, str]
    ids: VerdictIds
    database: Path

    def call(self, method: str, path: str, body: object = None, who: str = "team"):
        headers = {"authorization": f"Bearer {self.keys[who]}"}
        return self.client.request(method, path, json=body, headers=headers)

    def appeal(self, who: str = "team", verdict_id: str | None = None, **changes: object):
        body = {"verdict_id": verdict_id or self.issue(), "expected_labels": [], "reason": "quoted_or_reported"}
        return self.call("POST", "/v1/feedback", body | changes, who)

    def issue(self, text: str = TEXT, context: str | None = CONTEXT) -> str:
        return self.ids.issue(VERDICT, text, context, bundle="f" * 64)

    def admin(self, method: str, path: str, body: object = None):
        return self.call(method, f"/admin/feedback{path}", body, "ops")


@pytest.fixture
def open_office(tmp_path) -> Iterator:
    with ExitStack() as stack:

        def make(**changes: object) -> Office:
            made = {name: new_key(name, [scope]) for name, scope in
                    (("team", "feedback"), ("rival", "feedback"), ("ops", "admin"), ("judge", "judge"))}  # fmt: skip
            write_keys(tmp_path / "keys.toml", [entry for _, entry in made.values()])
            database = tmp_path / "feedback.db"
            settings = FeedbackSettings(url=f"sqlite:///{database}", **{"texts": "plain"} | changes)
            ids = VerdictIds(SECRET)
            app = FastAPI()
            app.state.guard = Guard(tmp_path / "keys.toml")
            app.state.settings = ServerSettings()
            add_refusals(app, FIELDS)
            app.include_router(router(settings, ids, lambda: LABELS))
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            keys = {name: secret for name, (secret, _) in made.items()}
            return Office(client=client, keys=keys, ids=ids, database=database)

        yield make


@pytest.fixture
def office(open_office) -> Office:
    return open_office()


def error_of(response, status, code):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert MARKER not in response.text
    return error["message"]


# --- filing


def test_an_appeal_is_filed_shown_and_taken_back(office):
    response = office.appeal(text=TEXT, context=CONTEXT, note=NOTE, consent=True, lang="zh")
    assert response.status_code == 201
    receipt = response.json()
    assert (receipt["status"], receipt["content_stored"], receipt["labels"]) == ("open", True, None)
    received, deleted = (time.strptime(receipt[name], "%Y-%m-%dT%H:%M:%SZ") for name in ("received", "delete_after"))
    assert time.mktime(deleted) - time.mktime(received) == 180 * 86_400
    path = f"/v1/feedback/{receipt['id']}"
    assert office.call("GET", path).json() == receipt
    assert office.call("DELETE", path).status_code == 204
    for method in ("GET", "DELETE"):
        error_of(office.call(method, path), 404, "appeal_unknown")
    assert MARKER.encode() not in office.database.read_bytes()


def test_what_the_verdict_was_comes_from_its_id_and_not_from_the_caller(office):
    receipt = office.appeal(expected_labels=["insult", "insult"], expected_action="review").json()
    shown = office.admin("GET", f"/{receipt['id']}").json()
    assert shown["model"] == "fineline-1@1.2.0"
    assert shown["bundle"] == "f" * 16
    assert (shown["policy"], shown["action"], shown["flagged"]) == ("cn_measures", "block", ["violence"])
    assert (shown["expected_labels"], shown["expected_action"]) == (["insult"], "review")
    assert (shown["filed_by"], shown["reason"]) == ("team", "quoted_or_reported")
    assert abs(time.time() - time.mktime(time.strptime(shown["judged"], "%Y-%m-%dT%H:%M:%SZ")) + time.timezone) < 60


@pytest.mark.parametrize("changes", [{}, {"consent": False}])
def test_without_consent_nothing_that_was_written_is_kept(office, changes):
    receipt = office.appeal(text=TEXT, context=CONTEXT, note=NOTE, **changes).json()
    assert receipt["content_stored"] is False
    assert MARKER.encode() not in office.database.read_bytes()
    shown = office.admin("GET", f"/{receipt['id']}").json()
    assert (shown["text"], shown["context"], shown["note"]) == (None, None, None)


@pytest.mark.parametrize("texts", ["plain", "encrypted", "never"])
def test_with_consent_it_is_kept_as_configured(open_office, tmp_path, texts):
    write_secret(tmp_path / "key")
    office = open_office(texts=texts, key_file=str(tmp_path / "key"))
    receipt = office.appeal(text=TEXT, context=CONTEXT, note=NOTE, consent=True).json()
    assert receipt["content_stored"] is (texts != "never")
    assert (MARKER.encode() in office.database.read_bytes()) is (texts == "plain")
    shown = office.admin("GET", f"/{receipt['id']}").json()
    expected = (None, None, None) if texts == "never" else (TEXT, CONTEXT, NOTE)
    assert (shown["text"], shown["context"], shown["note"]) == expected


def test_a_text_that_was_not_judged_is_refused(office):
    for changes in ({"text": TEXT}, {"text": TEXT + " ", "context": CONTEXT}, {"text": CONTEXT, "context": TEXT}):
        error_of(office.appeal(**changes, consent=True), 400, "text_not_judged")
    error_of(office.appeal(context=CONTEXT), 400, "context_alone")
    assert office.admin("GET", "").json()["appeals"] == []


def test_an_altered_or_foreign_id_is_refused(office):
    issued = office.issue()
    altered = issued[:30] + ("A" if issued[30] != "A" else "B") + issued[31:]
    foreign = VerdictIds(b"o" * 32).issue(VERDICT, TEXT)
    for wrong in (altered, foreign, MARKER):
        error_of(office.appeal(verdict_id=wrong), 400, "verdict_id_invalid")


def test_a_verdict_can_be_appealed_for_so_many_days(open_office):
    office = open_office(appeal_days=2)
    for hours, status in ((47, 201), (49, 400)):
        then = time.time() - hours * 3600
        issued = VerdictIds(SECRET, clock=lambda then=then: then).issue(VERDICT, TEXT)
        response = office.appeal(verdict_id=issued)
        assert response.status_code == status
    assert "2 days" in error_of(response, 400, "verdict_id_expired")


def test_a_clock_that_steps_back_and_forth_loses_no_appeal(tmp_path):
    now = [1_790_000_000.0]
    store = FeedbackStore(f"sqlite:///{tmp_path}/x.db", retention_days=30, clock=lambda: now[0])
    ids = VerdictIds(SECRET, clock=lambda: now[0])
    desk = Desk(store, Sealer(Keeping.NEVER), ids, 10, tuple)

    def filed():
        request = FeedbackRequest(verdict_id=issued, expected_labels=[], reason="other")
        return desk.file(request, "team")[0].id

    try:
        for day in (86_400.0, -86_400.0):
            issued = ids.issue(VERDICT, TEXT)
            now[0] += day  # between the verdict and its appeal
            appeal = filed()
            assert filed() == appeal, "sent again"
            now[0] += 400 * 86_400  # a wrong date for a moment: hidden, but nothing is deleted until the date holds
            with pytest.raises(NotFoundError):
                desk.own(appeal, "team")
            now[0] -= 401 * 86_400
            assert desk.own(appeal, "team").id == appeal
            assert store.purge() == 0
        assert len(store.listed()) == 2
    finally:
        desk.close()


def test_an_appeal_sent_again_is_the_same_one_and_another_is_refused(office):
    issued = office.issue()
    first = office.appeal(verdict_id=issued, expected_labels=["insult"])
    again = office.appeal(verdict_id=issued, expected_labels=["insult"])
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    error_of(office.appeal(verdict_id=issued, expected_labels=["privacy"]), 409, "appeal_exists")
    error_of(office.appeal("rival", issued, expected_labels=["insult"]), 409, "appeal_exists")
    assert len(office.admin("GET", "").json()["appeals"]) == 1


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"reason": MARKER}, "reason"),
        ({"expected_action": MARKER}, "expected_action"),
        ({"note": MARKER * 200}, "note"),
        ({"text": "x" * 100_001}, "text"),
        ({"lang": MARKER + "!"}, "lang"),
        ({"consent": "yes"}, "consent"),
        ({"consent": 1}, "consent"),
        ({"expected_labels": ["insult"] * 65}, "expected_labels"),
        ({"expected_labels": MARKER}, "expected_labels"),
        ({MARKER: 1}, "body"),
    ],
)
def test_a_request_that_breaks_the_schema_is_told_where_and_repeats_nothing(office, changes, place):
    assert error_of(office.appeal(**changes), 422, "invalid_request").startswith(f"{place}:")


def test_an_unknown_label_and_half_a_character_are_told_by_place(office):
    assert "entry 2" in error_of(office.appeal(expected_labels=["insult", MARKER]), 400, "label_unknown")
    for field in ("text", "context", "note"):
        body = {"verdict_id": office.issue(), "expected_labels": [], "reason": "other", field: f"{MARKER}\ud800"}
        response = office.client.post(
            "/v1/feedback",
            content=json.dumps(body),
            headers={"authorization": f"Bearer {office.keys['team']}", "content-type": "application/json"},
        )
        assert error_of(response, 422, "invalid_request").startswith(f"{field}:")


# --- who may


def test_another_team_neither_sees_nor_deletes_an_appeal(office):
    receipt = office.appeal().json()
    for method in ("GET", "DELETE"):
        error_of(office.call(method, f"/v1/feedback/{receipt['id']}", who="rival"), 404, "appeal_unknown")
    assert office.call("GET", f"/v1/feedback/{receipt['id']}").status_code == 200


def test_every_route_asks_for_its_scope(office):
    receipt = office.appeal().json()
    public = [
        ("POST", "/v1/feedback"),
        ("GET", f"/v1/feedback/{receipt['id']}"),
        ("DELETE", f"/v1/feedback/{'0' * 32}"),
    ]
    one = f"/admin/feedback/{receipt['id']}"
    admin = [
        ("GET", "/admin/feedback"), ("GET", "/admin/feedback/export"), ("GET", one), ("DELETE", one),
        ("POST", one + "/settle"), ("POST", one + "/reopen"),
    ]  # fmt: skip
    documented = {
        (method.upper(), path.replace("{appeal_id}", receipt["id"]))
        for path, methods in office.client.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert documented == {*public[:2], ("DELETE", public[1][1]), *admin}
    for routes, wrong in ((public, "ops"), (public, "judge"), (admin, "team"), (admin, "judge")):
        for method, path in routes:
            body = {"verdict_id": "", "expected_labels": [], "reason": "other"} if method == "POST" else None
            body = {"decision": "upheld"} if path.endswith("settle") else body
            error_of(office.call(method, path, body, wrong), 403, "missing_scope")
            response = office.client.request(method, path, json=body)
            error_of(response, 401, "missing_api_key")
    assert office.admin("GET", "").json()["appeals"][0]["status"] == "open"


# --- settling


def settled(office, decision, receipt, **changes):
    return office.admin("POST", f"/{receipt['id']}/settle", {"decision": decision} | changes)


def rows(office):
    return office.admin("GET", "/export").json()["rows"]


def test_an_upheld_appeal_is_a_row_with_the_expected_labels(office):
    receipt = office.appeal(text=TEXT, context=CONTEXT, consent=True, lang="zh", expected_labels=["insult"]).json()
    assert rows(office) == []
    response = settled(office, "upheld", receipt)
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["settled_by"]) == ("upheld", "ops")
    told = office.call("GET", f"/v1/feedback/{receipt['id']}").json()
    assert (told["status"], told["labels"]) == ("upheld", ["insult"])
    assert told["settled"] is not None
    row = {"text": TEXT, "context": CONTEXT, "labels": ["insult"], "known": ["violence", "insult"], "lang": "zh"}
    assert rows(office) == [row]


def test_a_rejected_appeal_is_a_row_with_the_verdicts_labels(office):
    issued = office.issue(TEXT, None)
    receipt = office.appeal(verdict_id=issued, text=TEXT, consent=True, expected_labels=["insult"]).json()
    settled(office, "rejected", receipt)
    assert rows(office) == [{"text": TEXT, "labels": ["violence"], "known": ["violence", "insult"]}]


def test_a_person_may_settle_on_other_labels_and_say_what_was_looked_at(office):
    first, second = (office.appeal(text=TEXT, context=CONTEXT, consent=True).json() for _ in range(2))
    settled(office, "upheld", first, labels=["privacy"])
    settled(office, "upheld", second, labels=["privacy", "insult"], known="all")
    found = {tuple(row["labels"]): row["known"] for row in rows(office)}
    assert found == {("privacy",): ["violence", "privacy"], ("insult", "privacy"): list(LABELS)}


def test_labels_of_the_model_in_use_and_of_the_verdict_may_be_named(office):
    receipt = office.appeal(text=TEXT, context=CONTEXT, consent=True, expected_labels=["miracle_cure"]).json()
    settled(office, "upheld", receipt)
    older = office.ids.issue(replace(VERDICT, flagged=("gone",)), TEXT, CONTEXT)  # by a model that was replaced
    receipt = office.appeal(verdict_id=older, text=TEXT, context=CONTEXT, consent=True).json()
    settled(office, "rejected", receipt)
    assert sorted(row["labels"] for row in rows(office)) == [["gone"], ["miracle_cure"]]
    error_of(office.appeal(expected_labels=["gone"]), 400, "label_unknown")


def test_rows_are_read_by_the_training_code_with_the_same_labels(office):
    from fineline_training.records import parse_row

    receipt = office.appeal(text=TEXT, context=CONTEXT, consent=True, lang="zh").json()
    settled(office, "upheld", receipt, labels=["insult"])
    record = parse_row(rows(office)[0])
    assert (record.text, record.context, record.lang) == (TEXT, CONTEXT, "zh")
    assert record.labels == {"violence": 0, "insult": 1}


def test_settled_appeals_without_a_text_or_labels_are_counted_not_exported(office):
    bare = office.appeal().json()
    settled(office, "upheld", bare)
    blank = office.appeal(verdict_id=office.issue(" ", None), text=" ", consent=True).json()
    settled(office, "upheld", blank)
    nothing = office.appeal(text=TEXT, context=CONTEXT, consent=True).json()
    settled(office, "upheld", nothing, known=[])
    page = office.admin("GET", "/export").json()
    assert (page["rows"], page["left_out"], page["next"]) == ([], 3, None)


def test_a_settlement_stands_until_it_is_reopened(office):
    receipt = office.appeal(text=TEXT, context=CONTEXT, consent=True).json()
    error_of(office.admin("POST", f"/{receipt['id']}/reopen"), 409, "appeal_status")
    settled(office, "upheld", receipt)
    assert "upheld" in error_of(settled(office, "rejected", receipt), 409, "appeal_status")
    reopened = office.admin("POST", f"/{receipt['id']}/reopen").json()
    assert (reopened["status"], reopened["labels"], reopened["settled_by"]) == ("open", None, None)
    assert rows(office) == []
    assert settled(office, "rejected", receipt).json()["labels"] == ["violence"]


def test_a_settlement_that_does_not_hold_is_refused(office):
    receipt = office.appeal().json()
    error_of(settled(office, "upheld", receipt, labels=[MARKER]), 400, "label_unknown")
    error_of(settled(office, "upheld", receipt, known=[MARKER]), 400, "label_unknown")
    error_of(settled(office, "upheld", receipt, labels=["insult"], known=["violence"]), 400, "known_labels")
    error_of(settled(office, MARKER, receipt), 422, "invalid_request")
    error_of(settled(office, "upheld", {"id": "0" * 32}), 404, "appeal_unknown")
    error_of(office.admin("GET", f"/{MARKER}"), 422, "invalid_request")
    assert office.call("GET", f"/v1/feedback/{receipt['id']}").json()["status"] == "open"


def test_lists_and_exports_come_in_pages_that_hold_each_appeal_once(office):
    receipts = [office.appeal(text=TEXT, context=CONTEXT, consent=True).json() for _ in range(5)]
    for receipt in receipts[:3]:
        settled(office, "upheld", receipt)
    for path, kind, count in (("", "appeals", 5), ("/export", "rows", 3)):
        found, after = [], ""
        while after is not None:
            page = office.admin("GET", f"{path}?limit=2&after={after}").json()
            found += page[kind]
            after = page["next"]
        assert len(found) == count
    listed = office.admin("GET", "?status=open").json()
    assert {entry["id"] for entry in listed["appeals"]} == {receipt["id"] for receipt in receipts[3:]}
    assert MARKER not in json.dumps(listed)
    for query in ("?limit=0", "?limit=101", f"?after={MARKER}", f"?status={MARKER}"):
        error_of(office.admin("GET", query), 422, "invalid_request")


def test_an_admin_deletes_an_appeal(office):
    receipt = office.appeal(text=TEXT, context=CONTEXT, consent=True).json()
    assert office.admin("DELETE", f"/{receipt['id']}").status_code == 204
    error_of(office.admin("DELETE", f"/{receipt['id']}"), 404, "appeal_unknown")
    assert MARKER.encode() not in office.database.read_bytes()


# --- trouble


def test_a_database_in_trouble_is_a_503_that_tells_and_logs_nothing(office, caplog):
    caplog.set_level(logging.DEBUG)
    receipt = office.appeal(text=TEXT, context=CONTEXT, note=NOTE, consent=True).json()
    office.database.write_bytes(b"no database " * 500)
    one = f"/{receipt['id']}"
    for response in (
        office.appeal(text=TEXT, context=CONTEXT, note=NOTE, consent=True),
        office.call("GET", f"/v1/feedback{one}"),
        office.call("DELETE", f"/v1/feedback{one}"),
        *(office.admin("GET", path) for path in ("", "/export", one)),
        settled(office, "upheld", receipt),
        office.admin("DELETE", one),
    ):
        assert "Judging goes on" in error_of(response, 503, "feedback_unavailable")
        assert response.json()["error"]["type"] == "server_error"
    assert "DatabaseError SQLITE_NOTADB" in caplog.text
    assert MARKER not in caplog.text
    office.database.unlink()
    assert office.appeal().status_code == 201


def test_a_lost_key_is_told_and_everything_else_goes_on(open_office, tmp_path):
    write_secret(tmp_path / "key")
    receipt = (
        open_office(texts="encrypted", key_file=str(tmp_path / "key"))
        .appeal(text=TEXT, context=CONTEXT, consent=True)
        .json()
    )
    (tmp_path / "key").unlink()
    write_secret(tmp_path / "key")
    office = open_office(texts="encrypted", key_file=str(tmp_path / "key"))
    error_of(office.admin("GET", f"/{receipt['id']}"), 503, "feedback_key")
    assert settled(office, "upheld", receipt).status_code == 200
    error_of(office.admin("GET", "/export"), 503, "feedback_key")
    assert len(office.admin("GET", "").json()["appeals"]) == 1


def test_wrong_settings_stop_the_start(tmp_path):
    with pytest.raises(ConfigError):
        router(FeedbackSettings(url="mysql://x/y"), VerdictIds(SECRET), tuple)
    with pytest.raises(ConfigError):
        router(FeedbackSettings(texts="encrypted", key_file=str(tmp_path / "none")), VerdictIds(SECRET), tuple)


def test_calls_pile_up_only_so_far_when_the_database_hangs(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/x.db", retention_days=1)
    desk = Desk(store, Sealer(Keeping.NEVER), VerdictIds(SECRET), 1, tuple)
    hang = threading.Event()

    async def scene() -> None:
        waiting = [asyncio.ensure_future(desk.run(hang.wait, 30)) for _ in range(desk_module._WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(HttpError) as caught:
            await desk.run(int)
        assert (caught.value.status, caught.value.code) == (503, "feedback_busy")
        waiting[0].cancel()  # a client that goes away does not make room while its call still hangs
        await asyncio.sleep(0)
        with pytest.raises(HttpError):
            await desk.run(int)
        hang.set()
        assert await asyncio.gather(*waiting[1:]) == [True] * (desk_module._WAITING - 1)
        assert await desk.run(int) == 0

    try:
        asyncio.run(scene())
    finally:
        hang.set()
        desk.close()


def test_an_appeal_whose_client_went_away_is_stored_all_the_same(tmp_path, caplog):
    store = FeedbackStore(f"sqlite:///{tmp_path}/x.db", retention_days=1)
    desk = Desk(store, Sealer(Keeping.NEVER), VerdictIds(SECRET), 1, tuple)
    go, done = threading.Event(), []

    def work() -> None:
        go.wait(30)
        done.append(True)
        raise HttpError("late", MARKER)

    async def scene() -> None:
        call = asyncio.ensure_future(desk.run(work))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go.set()
        async with asyncio.timeout(10):
            while desk._running:
                await asyncio.sleep(0.001)

    asyncio.run(scene())
    desk.close()
    assert done == [True]
    assert MARKER not in caplog.text


# --- with the whole server


@pytest.fixture
def whole(make_app, tmp_path) -> Iterator[tuple[TestClient, Path]]:
    """The whole app without keys, as on a developer's machine."""
    database = tmp_path / "feedback.db"
    settings = FeedbackSettings(url=f"sqlite:///{database}", texts="plain")
    with TestClient(make_app(feedback=settings), base_url="http://127.0.0.1:8000") as client:
        yield client, database


def test_every_verdict_of_the_server_can_be_appealed_with_its_text(whole, classifier):
    client, _ = whole
    given = {"input": ["tell anyone", "", "他说要打断你的手"], "context": ["prompt", None, ""]}
    judged = client.post("/v1/classify", json=given).json()["results"]
    parts = {"input": [{"type": "text", "text": "tell"}, {"type": "text", "text": "anyone"}]}
    moderated = client.post("/v1/moderations", json=parts).json()["results"]
    cases = list(zip(given["input"], given["context"], judged, strict=True))
    for text, context, result in [*cases, ("tell\nanyone", None, moderated[0])]:
        body = {"verdict_id": result["verdict_id"], "expected_labels": ["insult"], "reason": "other", "text": text}
        filed = client.post("/v1/feedback", json=body | {"context": context, "consent": True})
        assert filed.status_code == 201, filed.text
        shown = client.get(f"/admin/feedback/{filed.json()['id']}").json()
        verdict = classifier.classify([text], [context])[0]
        assert (shown["text"], shown["flagged"], shown["action"]) == (text, list(verdict.flagged), verdict.action)
        assert shown["bundle"] == classifier.bundle.meta.digest[:16]


def test_judging_goes_on_while_the_database_is_away(whole):
    client, database = whole
    database.mkdir()
    result = client.post("/v1/classify", json={"input": "tell anyone"}).json()["results"][0]
    body = {"verdict_id": result["verdict_id"], "expected_labels": [], "reason": "other"}
    error_of(client.post("/v1/feedback", json=body), 503, "feedback_unavailable")
    assert client.post("/v1/moderations", json={"input": "tell anyone"}).status_code == 200
    assert client.get("/readyz").status_code == 200
    database.rmdir()
    assert client.post("/v1/feedback", json=body).status_code == 201
