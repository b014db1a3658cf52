"""One exception root with stable codes; messages say what, where and what to do, and never hold a user's text."""


class FinelineError(Exception):
    """An error meant for the person who can fix it.

    Args:
        code: Stable identifier such as ``bundle_hash_mismatch``.
        message: One clear sentence: what is wrong, where, what to do.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["FinelineError"], tuple[str, str]]:
        """Pickled with both arguments: a worker process sends its errors to the one that started it."""
        return type(self), (self.code, self.message)


class BundleError(FinelineError):
    """A bundle is missing, incomplete, altered or made for another version."""


class InputError(FinelineError):
    """A request, row or file that the caller can correct."""


class ConfigError(FinelineError):
    """A recipe, policy or taxonomy file breaks its schema."""


class DataError(FinelineError):
    """A source, row or gate failed while building training data."""
