"""Exit codes: what the shell learns from a command that failed. The one place where errors become codes."""

from __future__ import annotations

from enum import IntEnum

from astra import errors


class ExitCode(IntEnum):
    """The exit codes of every `astra` command."""

    OK = 0
    FAILED = 1
    """What the command checks does not hold (`doctor`, `demo`), a question was answered with no (`place`, `cancel`), or
    something unexpected happened."""
    USAGE = 2
    """The command line or a symbol on it is malformed."""
    CONFIG = 3
    """A setting or a plugin is missing, unknown or broken."""
    AUTH = 4
    """The venue did not accept the key, or the key may not do this."""
    VENUE = 5
    """The venue refused or failed the call."""
    UNKNOWN = 6
    """Time ran out, or the outcome of an order is not known."""
    INTERRUPTED = 130
    """Ctrl-C."""


EXIT_CODES_HELP = """\b
Exit codes:
  0    done
  1    a check of the command failed, a question was answered with no, or
       something unexpected happened
  2    wrong command line (a malformed symbol counts)
  3    a setting or a plugin is missing, unknown or broken
  4    the venue did not accept the key, or the key may not do this
  5    the venue refused or failed the call
  6    time ran out, or the outcome of an order is not known
  130  interrupted by Ctrl-C
"""


def exit_code(error: errors.AstraError | TimeoutError) -> ExitCode:
    """The exit code that tells a shell script what kind of error ended the command."""
    match error:
        case errors.OrderOutcomeUnknown() | TimeoutError():
            return ExitCode.UNKNOWN
        case errors.AuthenticationError() | errors.PermissionDenied():
            return ExitCode.AUTH
        case errors.VenueError():
            return ExitCode.VENUE
        case errors.ConfigError() | errors.PluginError():
            return ExitCode.CONFIG
        case errors.BadRequest():
            return ExitCode.USAGE
        case _:
            return ExitCode.FAILED


def deepest_cause(error: BaseException) -> BaseException:
    """What a user should be told of `error`: out of the groups that task groups wrap, the first error that Astra
    raised on purpose, else the first of all."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [deepest_cause(inner) for inner in error.exceptions]
    for cause in causes:
        if isinstance(cause, errors.AstraError | TimeoutError):
            return cause
    return causes[0]
