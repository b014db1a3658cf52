"""Settings of the server: frozen dataclasses from a TOML file, one a section."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fineline.config import build, read_toml
from fineline.devices import DEVICES
from fineline.engine import BATCH_TOKENS, CPU
from fineline.errors import ConfigError
from fineline.policy import DEFAULT_POLICY, get_policy
from fineline.server.feedback_settings import FeedbackSettings
from fineline.server.keys import AuthSettings

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota that a container gives it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max": no quota
        return cores


def _positive(section: str, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        if value is not None and not value > 0:
            raise ConfigError("settings_value", f"[{section}] {name}: must be above 0.")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """Section ``[limits]``.

    Attributes:
        max_body: Bytes of a request's body.
        max_bodies: Bytes of the bodies of all running requests together; what comes beyond is refused with 429.
        max_message: Bytes of a message on a stream.
        max_inputs: Texts of a request.
        max_characters: Characters of a request's texts and contexts together.
        queue_tokens: Tokens that may wait for the model; what comes beyond is refused with 429. By default 64 batches
            a session: some four seconds' work on a CPU, and little memory.
        max_requests: Requests that may be judged or wait at once, likewise; by default 512 a session on a CPU, as each
            takes some 20 kB.
        deadline_seconds: Longest time from a request's arrival to its answer; a request may ask for less.
        max_streams: Streams that may be open at once; each keeps its text, of up to ``max_characters``.
        stall_seconds: Longest time a client may take for the headers of a request, or read nothing of its answer.
        drain_seconds: Shortest time between SIGTERM and the end, so that load balancers notice it.
    """

    max_body: int = 8 * 2**20
    max_bodies: int = 64 * 2**20
    max_message: int = 2**20
    max_inputs: int = 2048
    max_characters: int = 1_000_000
    queue_tokens: int | None = None
    max_requests: int | None = None
    deadline_seconds: float = 30.0
    max_streams: int = 256
    stall_seconds: float = 20.0
    drain_seconds: float = 1.0

    def __post_init__(self) -> None:
        _positive(
            "limits", {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "drain_seconds"}
        )
        if self.max_bodies < self.max_body:
            raise ConfigError("settings_value", "[limits] max_bodies: must not be below max_body.")
        if self.drain_seconds < 0:
            raise ConfigError("settings_value", "[limits] drain_seconds: must not be negative.")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Section ``[engine]``.

    Attributes:
        bundle: Folder of the model; the shipped one when empty.
        policy: Policy of requests that name none.
        device: ``cpu``, ``cuda`` or ``auto``, as for ``fineline.devices.open_engine``.
        sessions: Batches that run at once; by default as many as the cores allow, one on a GPU.
        threads: Threads of each.
        batch_tokens: Tokens of a batch; by default 512 on a CPU, where a fuller batch only makes the next request wait
            longer, and 16,384 on a GPU.
    """

    bundle: str = ""
    policy: str = DEFAULT_POLICY
    device: str = CPU
    sessions: int | None = None
    threads: int = 1
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        sizes = {"sessions": self.sessions, "threads": self.threads, "batch_tokens": self.batch_tokens}
        _positive("engine", sizes)
        if self.device not in DEVICES:
            raise ConfigError("settings_value", f"[engine] device: must be one of {', '.join(DEVICES)}.")
        get_policy(self.policy)

    def workers(self, device: str) -> int:
        """Sessions on the device that is used, chosen if not given."""
        return self.sessions or (max(1, available_cores() // self.threads) if device == CPU else 1)

    @property
    def budgets(self) -> Mapping[str, int]:
        """Tokens of a batch by device, chosen if not given."""
        return {device: self.batch_tokens or tokens for device, tokens in BATCH_TOKENS.items()}


@dataclass(frozen=True, kw_only=True)
class ListenSettings:
    """Section ``[listen]``: the address."""

    host: str = "127.0.0.1"
    port: int = 8000

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ConfigError("settings_value", "[listen] port: must be 0 to 65535.")


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """Section ``[tls]``: PEM files; both or none.

    Attributes:
        certificate: The certificate chain.
        key: Its private key, unencrypted.
    """

    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("settings_tls", "[tls] needs both certificate and key.")
        for name in filter(None, (self.certificate, self.key)):
            if not Path(name).is_file():
                raise ConfigError("settings_tls", f"[tls] {name}: no such file.")
        if self.key:
            try:
                ssl.create_default_context().load_cert_chain(self.certificate, self.key, password="")
            except (ssl.SSLError, OSError):
                message = f"[tls] {self.certificate} and {self.key}: not a certificate and its key in PEM, unencrypted."
                raise ConfigError("settings_tls", message) from None


@dataclass(frozen=True, kw_only=True)
class CorsSettings:
    """Section ``[cors]``: origins of web pages that may call; none by default."""

    origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            if "*" in origin or not origin.startswith(("http://", "https://")):
                raise ConfigError(
                    "settings_cors", f"[cors] '{origin}': name whole origins such as https://example.org."
                )


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Section ``[log]``.

    Attributes:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        access: Whether every request gets a line.
    """

    level: str = "info"
    access: bool = True

    def __post_init__(self) -> None:
        if self.level not in ("debug", "info", "warning", "error"):
            raise ConfigError("settings_log", "[log] level: must be debug, info, warning or error.")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """The whole file."""

    listen: ListenSettings = field(default_factory=ListenSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    feedback: FeedbackSettings = field(default_factory=FeedbackSettings)
    tls: TlsSettings = field(default_factory=TlsSettings)
    cors: CorsSettings = field(default_factory=CorsSettings)
    log: LogSettings = field(default_factory=LogSettings)


def read_settings(path: Path) -> ServerSettings:
    """Read a settings file.

    Raises:
        ConfigError: It is missing or breaks the schema.
    """
    return build(ServerSettings, read_toml(path), path.name)


def overridden(settings: ServerSettings, values: Mapping[str, Mapping[str, Any]]) -> ServerSettings:
    """Settings with some values replaced.

    Args:
        settings: The settings.
        values: By section and name; ``None`` keeps what is there.

    Raises:
        ConfigError: A value is not allowed.
    """
    sections = {
        section: replace(getattr(settings, section), **{k: v for k, v in entries.items() if v is not None})
        for section, entries in values.items()
    }
    return replace(settings, **sections)
