"""Where appeals are kept: one table, in SQLite or PostgreSQL.

The store is made without touching the database, and every call stands for itself: a database that is away, or a disk
that is full, fails the call with one clear error and nothing else, and the next call tries anew.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from fineline.errors import ConfigError
from fineline.extras import require
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.feedback_table import SCHEMA, TABLE, VERSIONS, Appeal
from fineline.server.problems import ConflictError, NotFoundError, UnavailableError

_LOG = logging.getLogger(__name__)
_DAY = 86_400
_PAGE = 100
_TRIES = 4
"""Times that the tables are made: two of them and the row of their version may each meet another server's."""
"""Rows of one transaction."""
_PATIENCE = 5.0
"""Seconds to wait for a locked SQLite file or a free connection."""
_POSTGRESQL = {
    "connect_timeout": 5,
    "options": "-c statement_timeout=5000",
    # A network that swallows everything is noticed within seconds, before and after a query has gone out.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
_AWAY = "Feedback cannot be stored or read now; try again later. Judging goes on."


def _engine(url: str) -> tuple[sa.Engine, Path | None]:
    """The engine, and the file of a SQLite database; messages never repeat the URL, which may hold a password."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigError("feedback_url", "[feedback] url is not a database URL.") from None
    backend = parsed.get_backend_name()
    path = parsed.database or ""
    if backend == "sqlite" and path and not path.startswith((":", "file:")):
        # A connection a call: a database file that was put away and back is noticed, instead of written to unseen.
        parsed = parsed.set(drivername="sqlite")
        engine = sa.create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args={"timeout": _PATIENCE})
        sa.event.listen(engine, "connect", _overwrite_deleted)
        return engine, Path(path)
    if backend == "postgresql":
        require("postgresql", "psycopg")
        parsed = parsed.set(drivername="postgresql+psycopg")
        options: dict[str, Any] = {"pool_size": 4, "max_overflow": 0, "pool_timeout": _PATIENCE, "pool_pre_ping": True}
        return sa.create_engine(parsed, hide_parameters=True, connect_args=_POSTGRESQL, **options), None
    raise ConfigError("feedback_url", "[feedback] url must be sqlite:///PATH or postgresql://HOST/DATABASE.")


def _overwrite_deleted(connection: Any, record: object) -> None:
    connection.execute("PRAGMA secure_delete = ON").close()


def _kind(error: Exception) -> str:
    """What went wrong, without a message, which may quote what was to be stored."""
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None)
    return f"{type(cause).__name__} {code}" if code else type(cause).__name__


class FeedbackStore:
    """Keeps appeals; safe to share between threads.

    Args:
        url: Database URL.
        retention_days: Appeals older than this are neither shown nor kept, whatever was promised when they were filed;
            those promised a shorter time go then.
        clock: Seconds since 1970.

    Raises:
        ConfigError: The URL is not of a database that is supported.
    """

    def __init__(self, url: str, *, retention_days: int, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._file = _engine(url)
        self.retention = retention_days * _DAY
        self._clock = clock
        self._made = False

    @classmethod
    def open(cls, settings: FeedbackSettings) -> "FeedbackStore":
        """The store that the settings name."""
        return cls(settings.url, retention_days=settings.retention_days)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    @property
    def exists(self) -> bool:
        """Whether there can be appeals: a SQLite file is made with the first one."""
        return self._file is None or self._file.exists()

    def file(self, appeal: Appeal) -> None:
        """Store a new appeal.

        Raises:
            ConflictError: The verdict has one already.
            UnavailableError: The database does not answer.
        """
        with self._connection() as connection:
            connection.execute(TABLE.delete().where(TABLE.c.id == appeal.id, sa.not_(self._kept())))
            try:
                connection.execute(TABLE.insert().values(asdict(appeal)))
            except IntegrityError:
                raise ConflictError(
                    "appeal_exists", "This verdict has been appealed already; delete that appeal to file another."
                ) from None

    def get(self, appeal_id: str) -> Appeal:
        """An appeal.

        Raises:
            NotFoundError: There is none, or its time is over.
            UnavailableError: The database does not answer.
        """
        rows = self._select(sa.select(TABLE).where(TABLE.c.id == appeal_id))
        if not rows:
            raise NotFoundError("appeal_unknown", "There is no appeal of that id.")
        return rows[0]

    def listed(
        self,
        statuses: Sequence[str] = (),
        *,
        limit: int = 100,
        after: tuple[int, str] = (0, ""),
        contents: bool = False,
    ) -> list[Appeal]:
        """Appeals in the order they came.

        Args:
            statuses: Only these, or all.
            limit: Most to give.
            after: ``received`` and ``id`` of the last one of the page before.
            contents: Whether to read the contents too.

        Raises:
            UnavailableError: The database does not answer.
        """
        received, appeal_id = after
        later = sa.or_(TABLE.c.received > received, sa.and_(TABLE.c.received == received, TABLE.c.id > appeal_id))
        columns = [column for column in TABLE.c if contents or column is not TABLE.c.content]
        query = sa.select(*columns).where(later).order_by(TABLE.c.received, TABLE.c.id).limit(limit)
        return self._select(query.where(TABLE.c.status.in_(statuses)) if statuses else query)

    def every(self, statuses: Sequence[str]) -> Iterator[Appeal]:
        """All appeals of these statuses with their contents, read in pages; errors as in ``listed``."""
        after = (0, "")
        while page := self.listed(statuses, contents=True, after=after, limit=_PAGE):
            yield from page
            after = (page[-1].received, page[-1].id)

    def settle(self, appeal_id: str, *, status: str, labels: list[str], known: list[str], by: str) -> None:
        """Settle an open appeal.

        Raises:
            NotFoundError: There is none, or its time is over.
            ConflictError: It is settled.
            UnavailableError: The database does not answer.
        """
        values = {"status": status, "labels": labels, "known": known, "settled": self.now(), "settled_by": by}
        self._change(appeal_id, TABLE.c.status == "open", values)

    def reopen(self, appeal_id: str) -> None:
        """Undo a settlement; errors as in ``settle``."""
        values = {"status": "open", "labels": None, "known": None, "settled": None, "settled_by": None}
        self._change(appeal_id, TABLE.c.status != "open", values)

    def delete(self, appeal_id: str) -> None:
        """Delete an appeal.

        Raises:
            NotFoundError: There is none.
            UnavailableError: The database does not answer.
        """
        if not self._execute(TABLE.delete().where(TABLE.c.id == appeal_id)):
            raise NotFoundError("appeal_unknown", "There is no appeal of that id.")

    def purge(self) -> int:
        """Delete the appeals whose time is over.

        Returns:
            How many.

        Raises:
            UnavailableError: The database does not answer.
        """
        over = sa.select(TABLE.c.id).where(sa.not_(self._kept())).limit(_PAGE).scalar_subquery()
        total = 0
        while found := self._execute(TABLE.delete().where(TABLE.c.id.in_(over))):
            total += found
        return total

    def _kept(self) -> sa.ColumnElement[bool]:
        now = self.now()
        return sa.and_(TABLE.c.delete_after > now, TABLE.c.received > now - self.retention)

    def _select(self, query: "sa.Select[Any]") -> list[Appeal]:
        if not self.exists:
            return []
        with self._connection() as connection:
            rows = connection.execute(query.where(self._kept())).mappings().all()
        return [Appeal(**dict(row)) for row in rows]

    def _change(self, appeal_id: str, allowed: sa.ColumnElement[bool], values: dict[str, Any]) -> None:
        change = TABLE.update().where(TABLE.c.id == appeal_id, allowed, self._kept()).values(values)
        if not self._execute(change):
            raise ConflictError("appeal_status", f"This appeal is {self.get(appeal_id).status}.")

    def _execute(self, statement: "sa.Update | sa.Delete") -> int:
        """How many rows a statement changed."""
        if not self.exists:
            return 0
        with self._connection() as connection:
            return connection.execute(statement).rowcount

    def _make_table(self) -> None:
        if self._made and self.exists:
            return
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        for left in reversed(range(_TRIES)):
            try:
                self._prepare()
                break
            except DBAPIError as error:
                # Another server made a part between the look and the making. If it is not that, once more is enough.
                if left < _TRIES - 1 and (not left or isinstance(error, OperationalError)):
                    raise
        self._made = True

    def _prepare(self) -> None:
        TABLE.metadata.create_all(self._engine)
        with self._engine.begin() as connection:
            mine = VERSIONS.c.name == TABLE.name
            found = connection.execute(sa.select(VERSIONS.c.version).where(mine)).scalar()
            if found is None:
                connection.execute(VERSIONS.insert().values(name=TABLE.name, version=SCHEMA))
        if found not in (None, SCHEMA):
            message = (
                f"The feedback database has layout {found}, this release reads {SCHEMA}: run the release that made it, "
                "or name another database in [feedback] url."
            )
            _LOG.error("feedback store: %s", message)
            raise UnavailableError("feedback_schema", message)

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """A transaction; what goes wrong with the database is logged by its kind only and told in one sentence."""
        try:
            self._make_table()
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            self._made = False
            _LOG.warning("feedback store: %s", _kind(error))
            raise UnavailableError("feedback_unavailable", _AWAY) from None
