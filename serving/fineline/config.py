"""TOML into frozen dataclasses: unknown keys are errors, types are checked, the file and key are named."""

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from fineline.errors import ConfigError

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        ConfigError: The file is missing or not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("config_missing", f"{path}: no such file; give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config_syntax", f"{path.name}: not valid TOML: {error}.") from None


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        kind = next(argument for argument in arguments if argument is not type(None))
        return _value(kind, value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return build(kind, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError("config_type", f"{where}: expected a list.")
        return tuple(_value(arguments[0], entry, where) for entry in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError("config_type", f"{where}: expected a table.")
        return {key: _value(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind not in (bool, object)):
        raise ConfigError("config_type", f"{where}: expected {kind.__name__}, found {type(value).__name__}.")
    return value


def build(cls: type[T], table: Any, where: str) -> T:
    """Make a dataclass from a parsed table, nested dataclasses included.

    Args:
        cls: A frozen dataclass.
        table: The parsed TOML table.
        where: File and key, for messages.

    Raises:
        ConfigError: A key is unknown or missing, or a value has another type.
    """
    if not isinstance(table, dict):
        raise ConfigError("config_type", f"{where}: expected a table.")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(fields)):
        known = ", ".join(sorted(fields))
        raise ConfigError("config_unknown_key", f"{where}: unknown key '{unknown[0]}'; known keys: {known}.")
    values = {name: _value(hints[name], value, f"{where}: {name}") for name, value in table.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError("config_missing_key", f"{where}: key '{name}' is missing.")
    return cls(**values)
