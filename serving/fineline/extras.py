"""Optional parts of the installation."""

import importlib

from fineline.errors import ConfigError


def require(extra: str, *modules: str) -> None:
    """Check that the modules of an extra can be imported.

    Raises:
        ConfigError: One is missing; the message says what to install.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(
                "extra_missing", f"This command needs '{error.name}': install it with pip install 'fineline[{extra}]'."
            ) from None
