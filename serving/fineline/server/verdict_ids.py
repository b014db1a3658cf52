"""Verdict ids: signed notes of what was judged, so that the server keeps nothing until somebody appeals.

An id is base64url of: version (1 byte), nonce (16), keyed digest of the text (16), facts as JSON, HMAC-SHA256 of all
that (16 bytes of it). The digest is keyed and takes in the nonce, so that nobody without the secret can find a short
text by trying, or see that two ids are of the same text.
"""

import base64
import binascii
import hmac
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fineline.classifier import Verdict
from fineline.errors import InputError
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.sealing import read_secrets

_VERSION = b"\x01"
_SIZE = 16
_LONGEST = 2048
BUNDLE_DIGITS = 16
"""Leading hexadecimal digits of a bundle's digest that an id carries."""


@dataclass(frozen=True, kw_only=True)
class VerdictClaim:
    """What an id says.

    Attributes:
        id: Short name of the verdict, 32 hexadecimal digits.
        issued: Seconds since 1970 when it was given.
        model: ``name@version`` of the bundle.
        bundle: First 16 digits of the bundle's digest; empty if the id was issued without one.
        policy: Name of the policy.
        action: ``allow``, ``review`` or ``block``.
        flagged: Labels that were flagged.
        digest: Keyed digest of text and context.
    """

    id: str
    issued: int
    model: str
    bundle: str
    policy: str
    action: str
    flagged: tuple[str, ...]
    digest: bytes


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


@dataclass(frozen=True)
class _Keys:
    sign: bytes
    text: bytes

    @classmethod
    def of(cls, secret: bytes) -> "_Keys":
        return cls(_mac(secret, b"fineline verdict id"), _mac(secret, b"fineline verdict text"))

    def digest(self, nonce: bytes, text: str, context: str | None) -> bytes:
        # An empty context is none to the encoder. The length keeps text and context apart.
        one, other = (part.encode("utf-8", "surrogatepass") for part in (text, context or ""))
        return _mac(self.text, nonce + len(one).to_bytes(8) + one + other)[:_SIZE]


class VerdictIds:
    """Issues and reads verdict ids.

    Args:
        secret: At least 32 random bytes; servers that share it read each other's ids.
        older: Secrets that were in use before; their ids are still read.
        clock: Seconds since 1970.
    """

    def __init__(self, secret: bytes, *older: bytes, clock: Callable[[], float] = time.time) -> None:
        self._keys = [_Keys.of(key) for key in (secret, *older)]
        self._clock = clock

    @classmethod
    def open(cls, settings: FeedbackSettings) -> "VerdictIds":
        """The ids of a server with these settings.

        Raises:
            ConfigError: The file of secrets is missing or wrong.
        """
        if settings.secret_file:
            return cls(*read_secrets(Path(settings.secret_file)))
        return cls(os.urandom(2 * _SIZE))

    def issue(self, verdict: Verdict, text: str, context: str | None = None, *, bundle: str = "") -> str:
        """Make the id of a verdict.

        Args:
            verdict: The verdict.
            text: The text exactly as it was judged.
            context: What it answers.
            bundle: Digest of the bundle that judged.
        """
        keys, nonce = self._keys[0], os.urandom(_SIZE)
        facts = [
            int(self._clock()), verdict.model, bundle[:BUNDLE_DIGITS], verdict.policy, verdict.action, verdict.flagged
        ]  # fmt: skip
        body = _VERSION + nonce + keys.digest(nonce, text, context)
        body += json.dumps(facts, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(body + _mac(keys.sign, body)[:_SIZE]).rstrip(b"=").decode()

    def read(self, verdict_id: str) -> VerdictClaim:
        """Read an id that this server, or one with the same secret, issued.

        Raises:
            InputError: It is none, or was altered.
        """
        body = self._verified(verdict_id)
        nonce, digest = body[1 : 1 + _SIZE], body[1 + _SIZE : 1 + 2 * _SIZE]
        issued, model, bundle, policy, action, flagged = json.loads(body[1 + 2 * _SIZE :])
        return VerdictClaim(
            id=nonce.hex(),
            issued=issued,
            model=model,
            bundle=bundle,
            policy=policy,
            action=action,
            flagged=tuple(flagged),
            digest=digest,
        )

    def matches(self, claim: VerdictClaim, text: str, context: str | None = None) -> bool:
        """Whether these are the text and context that were judged."""
        nonce = bytes.fromhex(claim.id)
        return any(hmac.compare_digest(keys.digest(nonce, text, context), claim.digest) for keys in self._keys)

    def _verified(self, verdict_id: str) -> bytes:
        """The signed bytes of an id."""
        try:
            padded = verdict_id + "=" * (-len(verdict_id) % 4)
            data = base64.b64decode(padded, altchars=b"-_", validate=True) if len(padded) <= _LONGEST else b""
        except (binascii.Error, ValueError):
            data = b""
        body, mac = data[:-_SIZE], data[-_SIZE:]
        if body[:1] == _VERSION and any(hmac.compare_digest(_mac(k.sign, body)[:_SIZE], mac) for k in self._keys):
            return body
        raise InputError(
            "verdict_id_invalid", "verdict_id: not an id that this server issued; send it exactly as it was given."
        )
