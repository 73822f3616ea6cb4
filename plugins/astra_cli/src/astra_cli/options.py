"""What all commands share: their options, their way into the event loop, and how they print."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from astra_cli.exits import EXIT_CODES_HELP

if TYPE_CHECKING:
    from rich.console import Console

    from astra import Astra

Function = TypeVar("Function", bound=Callable[..., Any])
Answer = TypeVar("Answer")


def _remember(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep an option given after the command where the same option given before it is kept."""
    if value and parameter.name is not None:
        ctx.ensure_object(dict)[parameter.name] = value
    return value


def common_options(function: Function) -> Function:
    """`--config` and `--debug`, which may stand before or after the command's name."""
    function = click.option(
        "--config",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember,
        help="Read this astra.toml instead of the one in the working directory (or in ASTRA_CONFIG).",
    )(function)
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Show the traceback of an error, not only its sentence.",
    )(function)


def json_option(explanation: str) -> Callable[[Function], Function]:
    """`--json`, saying what is printed."""
    return click.option("--json", "as_json", is_flag=True, help=explanation)


def examples(*lines: str) -> str:
    """An epilog of examples, the same way for every command."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) + "\n\n" + EXIT_CODES_HELP


def config_path() -> Path | None:
    """The file that `--config` names."""
    path: Path | None = click.get_current_context().ensure_object(dict).get("config")
    return path


def configured_astra() -> Astra:
    """The `Astra` object of the configuration that the command line names (not entered yet)."""
    from astra import Astra

    return Astra.from_config(config_path())


def run(work: Callable[..., Coroutine[Any, Any, Answer]], *args: Any) -> Answer:
    """Run `work(*args)` in an event loop; Ctrl-C cancels it and everything in it is released in order."""
    import anyio

    return anyio.run(work, *args)


def console(*, to_stderr: bool = False, wide: bool = False) -> Console:
    """A console that prints without colour and without cutting lines where output is piped (or NO_COLOR is set).

    A `wide` one cuts no lines on a terminal either: the terminal wraps them.
    """
    from rich.console import Console

    if not (sys.stderr if to_stderr else sys.stdout).isatty():
        return Console(highlight=False, no_color=True, width=10_000, soft_wrap=True, stderr=to_stderr)
    if wide:
        return Console(highlight=False, width=10_000, soft_wrap=True, stderr=to_stderr)
    return Console(highlight=False, stderr=to_stderr)


def emit(line: str) -> None:
    """Print one line now: whoever reads a pipe sees it at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
