"""How appeals are kept; apart from the store, so that settings can be read without the database library."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fineline.config import build, read_toml
from fineline.errors import ConfigError


class Keeping(StrEnum):
    """What becomes of a text whose writer consents to its being kept."""

    NEVER = "never"
    PLAIN = "plain"
    ENCRYPTED = "encrypted"


@dataclass(frozen=True, kw_only=True)
class FeedbackSettings:
    """Section ``[feedback]`` of the server's settings.

    Attributes:
        enabled: Whether verdicts can be appealed.
        url: ``sqlite:///PATH`` or ``postgresql://...``; the file is made with the first appeal. Leave a password out of
            it: PostgreSQL's client reads ``PGPASSFILE``.
        texts: ``never``, ``plain`` or ``encrypted``: how texts that come with consent are kept.
        key_file: Secrets that encrypt texts.
        secret_file: Secrets that sign verdict ids; without one, ids hold until the server stops.
        appeal_days: Days after a verdict in which it can be appealed.
        retention_days: Days after which an appeal is deleted, settled or not.
    """

    enabled: bool = True
    url: str = "sqlite:///fineline-feedback.db"
    texts: str = "never"
    key_file: str = ""
    secret_file: str = ""
    appeal_days: int = 90
    retention_days: int = 180

    def __post_init__(self) -> None:
        if self.texts not in tuple(Keeping):
            raise ConfigError("settings_feedback", f"[feedback] texts: must be one of {', '.join(Keeping)}.")
        if self.texts == Keeping.ENCRYPTED and not self.key_file:
            message = "[feedback] texts: 'encrypted' needs key_file; make one with 'fineline keys secret'."
            raise ConfigError("settings_feedback", message)
        if self.appeal_days < 1 or self.retention_days < 1:
            raise ConfigError("settings_feedback", "[feedback] appeal_days and retention_days: must be 1 or more.")


def read_feedback_settings(path: Path) -> FeedbackSettings:
    """Read the section ``[feedback]`` alone from a settings file of the server.

    Raises:
        ConfigError: The file is missing, or the section breaks the schema.
    """
    return build(FeedbackSettings, read_toml(path).get("feedback", {}), f"{path.name}: [feedback]")
