"""Logs as one JSON object a line, without anything a user sent.

What a library writes, and the message of any exception, may quote a text. So only the server's own lines and
uvicorn's keep their message; of the others the log tells the place, and of an exception its type and place.
"""

import json
import logging
import sys
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

_OWN = ("fineline", "uvicorn")
_LOG = logging.getLogger("fineline.server")


def place_of(error: BaseException | None) -> str:
    """Type of an exception and the line that raised it, without its message."""
    if error is None:
        return "unknown"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return type(error).__name__ + place


class JsonLines(logging.Formatter):
    """Formats records; what stands in a record's ``fields`` joins the object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        own = record.name.partition(".")[0] in _OWN and not _of_websockets(record)
        entry["message"] = record.getMessage().strip() if own else f"at {record.pathname}:{record.lineno}"
        if record.exc_info:
            entry["error"] = place_of(record.exc_info[1])
        entry |= getattr(record, "fields", {})
        return json.dumps(entry, ensure_ascii=True)


def _of_websockets(record: logging.LogRecord) -> bool:
    """Whether a record comes from WebSocket code: uvicorn lends it its own logger, and it writes URLs and frames."""
    return "websockets" in Path(record.pathname).parts


def set_up_logging(level: str) -> None:
    """Write all logs of this process, and what would end it, to standard error as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    handler.addFilter(lambda record: record.levelno >= logging.WARNING or not _of_websockets(record))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _crash
    threading.excepthook = lambda args: _crash(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _crash(args.exc_type, args.exc_value, args.exc_traceback)


def _crash(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _LOG.critical("crashed: %s", place_of(error.with_traceback(trace)) if error else kind.__name__)
