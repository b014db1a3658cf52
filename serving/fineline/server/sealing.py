"""Secrets in files, and texts that only their holder can read."""

import base64
import binascii
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from fineline.errors import ConfigError
from fineline.server.feedback_settings import FeedbackSettings, Keeping
from fineline.server.problems import UnavailableError

_BYTES = 32


def read_secrets(path: Path) -> list[bytes]:
    """Read a file of secrets, one a line, the one in use first; older ones below it are still understood.

    Returns:
        Each as 32 bytes.

    Raises:
        ConfigError: The file is missing, empty or holds something else; the message quotes nothing of it.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
        found = [base64.b64decode(line, altchars=b"-_", validate=True) for line in lines]
    except OSError as error:
        raise ConfigError("secret_file", f"{path}: cannot be read ({error.strerror}).") from None
    except (UnicodeDecodeError, binascii.Error):
        found = []
    if not found or any(len(secret) != _BYTES for secret in found):
        message = f"{path}: not a file of secrets; make one with 'fineline keys secret {path}'."
        raise ConfigError("secret_file", message)
    return found


def write_secret(path: Path) -> None:
    """Write a new random secret that only its owner may read.

    Raises:
        ConfigError: The file is there already, or cannot be written.
    """
    line = base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)) + b"\n"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(line)
    except OSError as error:
        raise ConfigError("secret_file", f"{path}: cannot be made ({error.strerror}).") from None


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a person wrote; kept with consent only.

    Attributes:
        text: The text that was judged.
        context: What it answers.
        note: Why the verdict is wrong.
    """

    text: str | None = None
    context: str | None = None
    note: str | None = None


class Sealer:
    """Turns contents into what is stored, and back. Encryption is Fernet: AES-128-CBC with HMAC-SHA256.

    Args:
        keeping: How new contents are stored.
        key_file: Secrets for Fernet; the first encrypts, all decrypt. What was stored before a change of ``keeping``
            stays readable as long as its key is in the file.

    Raises:
        ConfigError: The file is missing or wrong.
    """

    def __init__(self, keeping: Keeping, key_file: Path | None = None) -> None:
        self.keeping = keeping
        keys = read_secrets(key_file) if key_file else []
        self._fernet = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys]) if keys else None

    @classmethod
    def open(cls, settings: FeedbackSettings) -> "Sealer":
        """The sealer that the settings name."""
        return cls(Keeping(settings.texts), Path(settings.key_file) if settings.key_file else None)

    def seal(self, content: Content) -> tuple[str, bytes] | None:
        """The form and bytes to store; nothing where there is nothing to keep or texts are never kept."""
        if self.keeping is Keeping.NEVER or content == Content():
            return None
        plain = json.dumps(asdict(content), ensure_ascii=False).encode()
        if self.keeping is Keeping.ENCRYPTED and self._fernet:
            return Keeping.ENCRYPTED.value, self._fernet.encrypt(plain)
        return Keeping.PLAIN.value, plain

    def unseal(self, form: str | None, stored: bytes | None) -> Content:
        """The contents that were stored.

        Raises:
            UnavailableError: They were encrypted, and the key is not in the file.
        """
        if form is None or stored is None:
            return Content()
        if form == Keeping.ENCRYPTED:
            try:
                stored = self._fernet.decrypt(stored) if self._fernet else b""
            except InvalidToken:
                stored = b""
            if not stored:
                message = "The key of a stored text is not in [feedback] key_file; put it back to read the text."
                raise UnavailableError("feedback_key", message)
        return Content(**json.loads(stored))
