"""The store of appeals on SQLite and on a real PostgreSQL server, and what it does when the database fails."""

import logging
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("fastapi")
import sqlalchemy as sa

from fineline.errors import ConfigError
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_table import SCHEMA, Appeal
from fineline.server.problems import ConflictError, NotFoundError, UnavailableError

MARKER = "zebrawhisper"
DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A PostgreSQL server of its own in a temporary folder, reached by a socket in it."""

    folder: Path
    programs: Path

    @property
    def url(self) -> str:
        return f"postgresql://fineline@/postgres?host={self.folder}"

    def call(self, program: str, *words: str) -> None:
        # The server refuses to run as root.
        user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
        subprocess.run(
            [str(self.programs / program), "-D", str(self.folder / "data"), *words],
            cwd=self.folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, **user,
        )  # fmt: skip

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        self.call("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.call("pg_ctl", "-w", "-m", "immediate", "stop")


def _programs() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "pg_ctl").exists()), None)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="fineline-pg-", dir="/tmp"))  # a socket's path must be short
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
    server = Cluster(folder=folder, programs=programs)
    try:
        server.call("initdb", "-U", "fineline", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Clock:
    """A date that is set by hand."""

    def __init__(self, now: float = 1_790_000_000) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/feedback.db"
        return
    url = request.getfixturevalue("cluster").url
    yield url
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS fineline_appeals, fineline_schemas"))
    engine.dispose()


@pytest.fixture
def open_store(database: str, clock: Clock) -> Iterator[Callable[..., FeedbackStore]]:
    opened = []

    def make(*, retention_days: int = 30) -> FeedbackStore:
        opened.append(FeedbackStore(database, retention_days=retention_days, clock=clock))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., FeedbackStore]) -> FeedbackStore:
    return open_store()


def appeal(number: int = 1, **changes: object) -> Appeal:
    made = Appeal(
        id=f"{number:032x}",
        filed_by="team",
        received=1_790_000_000,
        delete_after=1_790_000_000 + 30 * DAY,
        judged=1_789_999_000,
        model="fineline-1@1.2.0",
        bundle="0123456789abcdef",
        policy="cn_measures",
        action="block",
        flagged=["violence"],
        expected_labels=[],
        reason="quoted_or_reported",
        lang="zh",
        form="plain",
        content=MARKER.encode(),
    )
    return replace(made, **changes)


# --- what it keeps


def test_an_appeal_comes_back_as_it_was_filed_from_another_server_too(store, open_store):
    store.file(appeal())
    bare = appeal(2, lang=None, form=None, content=None, expected_action="review")
    store.file(bare)
    other = open_store()
    assert other.get(appeal().id) == appeal()
    assert other.get(bare.id) == bare


def test_a_verdict_has_one_appeal(store):
    store.file(appeal())
    with pytest.raises(ConflictError) as caught:
        store.file(appeal(filed_by="other"))
    assert caught.value.code == "appeal_exists"
    assert store.get(appeal().id).filed_by == "team"


def test_many_servers_at_once_file_each_appeal_once(open_store):
    stores, barrier = [open_store() for _ in range(4)], threading.Barrier(4)

    def file(which: int) -> int:
        barrier.wait()
        done = 0
        for number in range(6):
            try:
                stores[which].file(appeal(number))
                done += 1
            except ConflictError:
                pass
        return done

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(file, range(4))) == 6
    assert len(stores[0].listed()) == 6


def test_lists_go_through_all_appeals_once_in_order_without_contents(store):
    for number in range(7):
        store.file(appeal(number, received=1_790_000_000 + number // 3))
    pages, after = [], (0, "")
    while page := store.listed(limit=2, after=after):
        pages.append(page)
        after = (page[-1].received, page[-1].id)
    assert [entry.id for page in pages for entry in page] == [appeal(number).id for number in range(7)]
    assert all(entry.content is None and entry.form == "plain" for page in pages for entry in page)
    assert [entry.content for entry in store.listed(limit=1, contents=True)] == [MARKER.encode()]


def test_settling_is_done_once_and_can_be_undone(store, clock):
    store.file(appeal())
    clock.now += 60
    store.settle(appeal().id, status="upheld", labels=["insult"], known=["insult", "violence"], by="ops")
    settled = store.get(appeal().id)
    assert (settled.status, settled.labels, settled.known) == ("upheld", ["insult"], ["insult", "violence"])
    assert (settled.settled, settled.settled_by) == (1_790_000_060, "ops")
    assert [entry.id for entry in store.every(["upheld", "rejected"])] == [appeal().id]
    assert store.listed(["open"]) == []
    with pytest.raises(ConflictError, match="is upheld"):
        store.settle(appeal().id, status="rejected", labels=[], known=[], by="other")
    store.reopen(appeal().id)
    assert store.get(appeal().id) == appeal()
    with pytest.raises(ConflictError, match="is open"):
        store.reopen(appeal().id)


def test_two_people_settle_an_appeal_once(store, open_store):
    store.file(appeal())
    stores = [store, *(open_store() for _ in range(3))]
    barrier = threading.Barrier(4)

    def settle(which: int) -> bool:
        barrier.wait()
        try:
            stores[which].settle(appeal().id, status="upheld", labels=[], known=[], by=str(which))
            return True
        except ConflictError:
            return False

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(settle, range(4)))
    assert won.count(True) == 1
    assert store.get(appeal().id).settled_by == str(won.index(True))


def version_in(database, version=None):
    """The layouts that a database states; ``version`` puts another in their place."""
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            if version is not None:
                connection.execute(sa.text(f"UPDATE fineline_schemas SET version = {version}"))
            return connection.execute(sa.text("SELECT name, version FROM fineline_schemas")).all()
    finally:
        engine.dispose()


def test_the_database_says_which_layout_it_has(store, database):
    store.file(appeal())
    assert version_in(database) == [("fineline_appeals", SCHEMA)]


def test_a_database_of_another_layout_is_refused_and_left_as_it_is(store, open_store, database, caplog):
    store.file(appeal())
    version_in(database, SCHEMA + 1)
    other = open_store()
    for call in (
        lambda: other.get(appeal().id),
        lambda: other.file(appeal(2)),
        lambda: other.delete(appeal().id),
        other.purge,
    ):
        with pytest.raises(UnavailableError, match=f"layout {SCHEMA + 1}, this release reads {SCHEMA}") as caught:
            call()
        assert caught.value.code == "feedback_schema"
    assert "layout" in caplog.text
    version_in(database, SCHEMA)
    assert [each.id for each in other.listed()] == [appeal().id]


def test_what_is_not_there_is_not_found(store):
    for _ in range(2):
        for call in (store.get, store.delete, store.reopen):
            with pytest.raises(NotFoundError):
                call("f" * 32)
        with pytest.raises(NotFoundError):
            store.settle("f" * 32, status="upheld", labels=[], known=[], by="ops")
        assert store.listed() == []
        store.file(appeal())  # the second time there is a table
        store.delete(appeal().id)
    with pytest.raises(NotFoundError):
        store.get(appeal().id)


# --- how long


def test_nothing_is_shown_after_its_time_and_the_purge_deletes_it(store, clock, monkeypatch):
    monkeypatch.setattr("fineline.server.feedback._PAGE", 5)
    for number in range(12):
        store.file(appeal(number))
    store.file(appeal(999, received=1_790_000_000 + DAY, delete_after=1_790_000_000 + 31 * DAY))
    assert store.purge() == 0
    clock.now += 30 * DAY
    assert [entry.id for entry in store.listed()] == [appeal(999).id]
    with pytest.raises(NotFoundError):
        store.get(appeal(1).id)
    with pytest.raises(NotFoundError):
        store.settle(appeal(1).id, status="upheld", labels=[], known=[], by="ops")
    assert store.purge() == 12
    assert store.purge() == 0
    assert store.get(appeal(999).id).id == appeal(999).id


def test_a_shorter_retention_time_holds_for_what_is_there_and_a_longer_one_does_not(open_store, clock):
    open_store(retention_days=30).file(appeal())
    clock.now += 10 * DAY
    assert open_store(retention_days=11).purge() == 0
    assert open_store(retention_days=10).purge() == 1
    open_store(retention_days=30).file(appeal())
    clock.now += 20 * DAY
    assert open_store(retention_days=300).purge() == 1


def test_a_verdict_can_be_appealed_anew_once_its_appeal_is_over(store, clock):
    store.file(appeal())
    clock.now += 31 * DAY
    later = appeal(received=int(clock.now), delete_after=int(clock.now) + 30 * DAY)
    store.file(later)
    assert store.get(later.id) == later


# --- SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "made" / "feedback.db"


@pytest.fixture
def sqlite(file: Path, clock: Clock) -> Iterator[FeedbackStore]:
    with closing(FeedbackStore(f"sqlite:///{file}", retention_days=30, clock=clock)) as store:
        yield store


def test_the_file_is_made_with_the_first_appeal_for_its_owner_alone(sqlite, file):
    assert sqlite.purge() == 0
    assert sqlite.listed() == []
    assert not file.parent.exists()
    sqlite.file(appeal())
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_deleted_text_is_not_left_in_the_file(sqlite, file):
    sqlite.file(appeal(1))
    sqlite.file(appeal(2, content=b"other"))
    assert MARKER.encode() in file.read_bytes()
    sqlite.delete(appeal(1).id)
    assert MARKER.encode() not in file.read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_full_disk_is_a_clear_error_and_over_when_there_is_room_again(sqlite, file, caplog, monkeypatch):
    sqlite.file(appeal(1))
    pages = {"limit": 0}
    connect = sqlite3.connect

    def limited(*args: object, **kwargs: object) -> sqlite3.Connection:
        # SQLite's own bound on a file's size: its error is the one of a full disk.
        connection = connect(*args, **kwargs)
        if pages["limit"]:
            connection.execute(f"PRAGMA max_page_count = {pages['limit']}").close()
        return connection

    monkeypatch.setattr(sqlite3.dbapi2, "connect", limited)
    pages["limit"] = 1
    refused(lambda: sqlite.file(appeal(2, content=b"x" * 100_000)), caplog)
    assert "OperationalError SQLITE_FULL" in caplog.text
    assert [entry.id for entry in sqlite.listed()] == [appeal(1).id]
    pages["limit"] = 0
    sqlite.file(appeal(2))
    assert len(sqlite.listed()) == 2


def refused(call: Callable[[], object], caplog: pytest.LogCaptureFixture) -> None:
    """The call fails with the one clear error, and neither it nor the log tells anything of the appeal."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(UnavailableError) as caught:
        call()
    assert (caught.value.code, caught.value.status) == ("feedback_unavailable", 503)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    said = caught.value.message + caplog.text
    assert not any(part in said for part in (MARKER, "zzz", "INSERT", "fineline-1", appeal().id))


def test_a_file_that_is_no_database_or_cannot_be_made_is_a_clear_error(sqlite, file, caplog, tmp_path):
    file.parent.mkdir()
    file.write_bytes(b"zzz" * 1000)
    refused(lambda: sqlite.file(appeal()), caplog)
    refused(sqlite.purge, caplog)
    file.unlink()
    sqlite.file(appeal())
    (tmp_path / "plain").touch()
    with closing(FeedbackStore(f"sqlite:///{tmp_path}/plain/x.db", retention_days=1)) as store:
        refused(lambda: store.file(appeal()), caplog)


def test_a_file_taken_away_is_noticed_and_made_anew(sqlite, file, caplog):
    sqlite.file(appeal(1))
    file.unlink()
    assert sqlite.listed() == []
    sqlite.file(appeal(2))
    assert [entry.id for entry in sqlite.listed()] == [appeal(2).id]
    file.write_bytes(b"")
    refused(sqlite.listed, caplog)
    assert sqlite.listed() == []


def test_a_locked_database_is_a_clear_error(file, clock, caplog, monkeypatch):
    monkeypatch.setattr("fineline.server.feedback._PATIENCE", 0.05)
    with closing(FeedbackStore(f"sqlite:///{file}", retention_days=30, clock=clock)) as store:
        store.file(appeal(1))
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE").close()
            refused(lambda: store.file(appeal(2)), caplog)
            other.execute("ROLLBACK").close()
        store.file(appeal(2))


# --- PostgreSQL


def test_a_postgresql_server_that_goes_away_is_a_clear_error_until_it_is_back(cluster, clock, caplog):
    with closing(FeedbackStore(cluster.url, retention_days=30, clock=clock)) as store:
        store.file(appeal(1))
        cluster.stop()
        try:
            for call in (lambda: store.file(appeal(2)), store.listed, store.purge, lambda: store.delete(appeal().id)):
                refused(call, caplog)
        finally:
            cluster.start()
        assert [entry.id for entry in store.listed()] == [appeal(1).id]
        store.file(appeal(2))
        store.delete(appeal(1).id)
        store.delete(appeal(2).id)


def test_a_postgresql_server_that_was_restarted_costs_no_call(cluster, clock):
    with closing(FeedbackStore(cluster.url, retention_days=30, clock=clock)) as store:
        store.file(appeal(1))
        cluster.stop()
        cluster.start()
        store.delete(appeal(1).id)


def test_a_server_can_start_before_its_database(cluster, clock, caplog):
    cluster.stop()
    try:
        store = FeedbackStore(cluster.url, retention_days=30, clock=clock)
        refused(lambda: store.file(appeal(3)), caplog)
    finally:
        cluster.start()
    store.file(appeal(3))
    store.delete(appeal(3).id)
    store.close()


def test_a_dropped_table_is_made_again(cluster, clock, caplog):
    with closing(FeedbackStore(cluster.url, retention_days=30, clock=clock)) as store:
        store.file(appeal(1))
        engine = sa.create_engine(cluster.url.replace("postgresql:", "postgresql+psycopg:"))
        with engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE fineline_appeals"))
        engine.dispose()
        refused(store.listed, caplog)
        store.file(appeal(1))
        store.delete(appeal(1).id)


# --- settings


@pytest.mark.parametrize(
    "url",
    [
        "",
        "zzz",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?uri=true",
        "mysql://u:zzz@h/d",
        "postgresql://h:zzz/d",
    ],
)
def test_a_url_that_cannot_hold_is_refused_and_not_repeated(url):
    with pytest.raises(ConfigError) as caught:
        FeedbackStore(url, retention_days=1)
    assert caught.value.code == "feedback_url"
    assert "zzz" not in caught.value.message


# --- a process that is killed

WRITER = """
import sys
from fineline.server.feedback import FeedbackStore
from fineline.server.feedback_table import SCHEMA, Appeal

store = FeedbackStore(sys.argv[1], retention_days=30)
for number in range(100_000):
    appeal = Appeal(
        id=f"{number:032x}", filed_by="t", received=store.now(), delete_after=store.now() + 999, judged=1, model="m",
        bundle="b", policy="p", action="block", flagged=[], expected_labels=[], reason="other",
    )
    store.file(appeal)
    print(appeal.id, flush=True)
"""


def test_what_was_acknowledged_is_there_after_a_kill(file, source_env):
    words = [sys.executable, "-c", WRITER, f"sqlite:///{file}"]
    with subprocess.Popen(words, env=source_env, stdout=subprocess.PIPE, text=True) as writer:
        told = [writer.stdout.readline().strip() for _ in range(20)]
        writer.kill()
        told += writer.stdout.read().split()
    with closing(FeedbackStore(f"sqlite:///{file}", retention_days=30)) as store:
        kept = [entry.id for entry in store.listed(limit=100_000)]
        assert kept[: len(told)] == told
        assert len(kept) - len(told) in (0, 1)
        store.file(appeal(10**9))
