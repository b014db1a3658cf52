"""An appeal, the table that holds it, and the table that says which layout the database has."""

from dataclasses import dataclass

import sqlalchemy as sa


@dataclass(frozen=True, kw_only=True)
class Appeal:
    """One row. Times are seconds since 1970.

    Attributes:
        id: Id of the verdict (``VerdictClaim.id``): a verdict has one appeal at most.
        filed_by: Name of the key that filed it.
        received: When it was filed.
        delete_after: When it is deleted, as promised at filing.
        judged: When the verdict was given.
        model: ``name@version`` of the bundle.
        bundle: First digits of its digest.
        policy: Policy of the verdict.
        action: Action of the verdict.
        flagged: Labels of the verdict.
        expected_labels: Labels the appellant expects.
        expected_action: Action the appellant expects.
        reason: Why the verdict is wrong.
        lang: Language of the text.
        form: How ``content`` is stored.
        content: Text, context and note, if the writer consented.
        status: ``open``, ``upheld`` or ``rejected``.
        labels: Labels a person settled on.
        known: Labels that person looked at.
        settled: When.
        settled_by: Name of the key that settled.
    """

    id: str
    filed_by: str
    received: int
    delete_after: int
    judged: int
    model: str
    bundle: str
    policy: str
    action: str
    flagged: list[str]
    expected_labels: list[str]
    reason: str
    expected_action: str | None = None
    lang: str | None = None
    form: str | None = None
    content: bytes | None = None
    status: str = "open"
    labels: list[str] | None = None
    known: list[str] | None = None
    settled: int | None = None
    settled_by: str | None = None


SCHEMA = 1
"""Version of the layout; one more with every change of a column."""

TABLE = sa.Table(
    "fineline_appeals",
    sa.MetaData(),
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("filed_by", sa.String(64), nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False, index=True),
    sa.Column("delete_after", sa.BigInteger, nullable=False, index=True),
    sa.Column("judged", sa.BigInteger, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("bundle", sa.String(64), nullable=False),
    sa.Column("policy", sa.Text, nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("flagged", sa.JSON, nullable=False),
    sa.Column("expected_labels", sa.JSON, nullable=False),
    sa.Column("expected_action", sa.String(16)),
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("lang", sa.String(35)),
    sa.Column("form", sa.String(16)),
    sa.Column("content", sa.LargeBinary),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    sa.Column("labels", sa.JSON(none_as_null=True)),
    sa.Column("known", sa.JSON(none_as_null=True)),
    sa.Column("settled", sa.BigInteger),
    sa.Column("settled_by", sa.String(64)),
)

VERSIONS = sa.Table(
    "fineline_schemas",
    TABLE.metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
)
"""One row: the name of ``TABLE`` and its ``SCHEMA``."""
