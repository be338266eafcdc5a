"""Every error a caller can meet, in one tree: what is wrong, where, what was seen, and a hint that says what to do.

The command line maps each branch to an exit code (`exit_code`); nothing else in the package calls `sys.exit`.
"""

from __future__ import annotations


class ParetuneError(Exception):
    """An error with a remedy; the base of the tree, never raised itself."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  hint: {self.hint}" if self.hint else message


class ConfigError(ParetuneError):
    """A configuration file, a command-line option or a weights file is not what it should be."""

    exit_code = 2


class NotFoundError(ConfigError):
    """What is named does not exist."""


class SurfaceError(ConfigError):
    """Heads, static weights or levels do not make a control surface."""


class MissingExtraError(ConfigError):
    """A part was asked for whose optional dependency is not installed."""


class DataError(ParetuneError):
    """Arrays or log files break a rule that the caller was told about."""

    exit_code = 3


class LogError(DataError):
    """A log cannot be read, or is not fit to learn from."""


class ArtefactError(DataError):
    """A saved artefact is torn, altered, or of another format."""


class GateError(ParetuneError):
    """The answer is known and it is no: the data cannot tell, or a policy is not safe to ship."""

    exit_code = 4


class NoOverlapError(GateError):
    """No logged request took the target policy's action, so nothing can be said of the policy."""


class ConflictError(GateError):
    """Somebody else was faster, or what is asked for does not follow from the state things are in; nothing was changed."""


class ForbiddenError(GateError):
    """Whoever asks may not do this, or not yet; nothing was changed."""


class SignInError(ForbiddenError):
    """Nobody is signed in, or what was shown for it does not count."""


class TooOftenError(ForbiddenError):
    """Something was tried too often; it may be tried again after a while."""

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class UnreachableError(ParetuneError):
    """A database or service does not answer in time."""

    exit_code = 5


def in_words(error: Exception) -> str:
    """Return what an exception of another library says, as a person would: of a missing file, which; of others, their kind and text."""
    if isinstance(error, OSError) and error.filename is not None:
        name = str(error.filename).replace("\\", "/").rsplit("/", 1)[-1]
        return f"{name} is missing" if isinstance(error, FileNotFoundError) else f"{name}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
