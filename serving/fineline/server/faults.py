"""Why a request was not judged although nothing is wrong with it."""

from fineline.server.problems import HttpError, LimitError, UnavailableError


class OverloadError(LimitError):
    """More waits than can be judged in time."""

    def __init__(self, wait: float) -> None:
        super().__init__("overloaded", "More texts wait than can be judged in time; send this again later.", wait)

    def __reduce__(self) -> tuple[type["OverloadError"], tuple[float]]:  # type: ignore[override]
        """Pickled with its one argument."""
        return type(self), (self.wait,)


class DeadlineError(HttpError):
    """The time for the request is over."""

    status = 504

    def __init__(self) -> None:
        super().__init__("deadline", "The request was not judged before its deadline; send it again.")

    def __reduce__(self) -> tuple[type["DeadlineError"], tuple[()]]:  # type: ignore[override]
        """Pickled without arguments."""
        return type(self), ()


class NotReadyError(UnavailableError):
    """No model is loaded, or the server is about to stop."""

    @property
    def headers(self) -> dict[str, str]:
        """Another server, or this one in a moment, can answer."""
        return {"Retry-After": "1"}


class EngineError(HttpError):
    """The model's engine failed on the batch that the request was in."""

    status = 500

    def __init__(self, cause: str) -> None:
        super().__init__("engine", f"The model failed on this request ({cause}); it was not judged.")
        self.cause = cause

    def __reduce__(self) -> tuple[type["EngineError"], tuple[str]]:  # type: ignore[override]
        """Pickled with its one argument."""
        return type(self), (self.cause,)
