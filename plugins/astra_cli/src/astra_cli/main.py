"""The `astra` command: a group whose commands come from the entry-point group `astra.commands`.

Nothing of Astra's engine is imported here: `astra --help` loads the command modules, which are light; what a command
needs it imports when it runs.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from astra.errors import AstraError, PluginError
from astra_cli import __version__
from astra_cli.exits import EXIT_CODES_HELP, ExitCode, deepest_cause, exit_code

if TYPE_CHECKING:
    from astra.plugins import Plugins

GROUP = "astra.commands"

KNOWN_ELSEWHERE = {
    "serve": "astra-gateway",
    "keys": "astra-gateway",
    "sandbox": "astra-sandbox",
    "journal": "astra-journal",
}
"""Commands of Astra's other distributions: named with what to install when they are missing."""


class ReaderLeft(Exception):
    """The reader of our output went away (`astra ... | head`)."""


class PluginCommands(click.Group):
    """A click group whose commands are the installed entry points of the group `astra.commands`."""

    _plugins: Plugins | None = None

    @property
    def plugins(self) -> Plugins:
        """The installed commands, from metadata (`ASTRA_PLUGINS` does not concern commands)."""
        if self._plugins is None:
            from astra.plugins import Plugins

            self._plugins = Plugins()
        return self._plugins

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({info.name for info in self.plugins.listed(GROUP)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now. Raises `PluginError` for one that is broken or claimed twice."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command = self.plugins.load(GROUP, cmd_name)
        if not isinstance(command, click.Command):
            raise PluginError(f"the command {cmd_name!r} is a {type(command).__name__}, not a click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            raise click.UsageError(f"there is no command {name!r}.{self._advice(ctx, name)}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderLeft from None  # click would end with 1

    def _advice(self, ctx: click.Context, name: str) -> str:
        if distribution := KNOWN_ELSEWHERE.get(name):
            return f" It comes with {distribution}: python -m pip install {distribution}"
        close = difflib.get_close_matches(name.lower(), self.list_commands(ctx), n=1, cutoff=0.5)
        return f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(self.list_commands(ctx))}."

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line a command. A broken command says so and leaves the others alone."""
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except AstraError as error:
                rows.append((name, f"(broken: {error})"))
                continue
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(100)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


EPILOG = f"""\b
Examples:
  astra demo                                     everything at once, without keys or network
  astra markets BINANCE --type SPOT
  astra book BINANCE-SPOT-BTC-USDT
  astra place BINANCE-SPOT-BTC-USDT buy 0.01 --price 64000    shows the order and asks
  astra trades BINANCE-PERP-BTC-USDT --json --count 10
  astra serve                                    the REST and WebSocket gateway

{EXIT_CODES_HELP}"""


@click.group(cls=PluginCommands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="astra")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Read this astra.toml instead of the one in the working directory (or in ASTRA_CONFIG).",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error, not only its sentence.")
@click.pass_context
def cli(ctx: click.Context, config: Path | None, debug: bool) -> None:
    """One API over many crypto trading venues."""
    ctx.obj = {"config": config, "debug": debug}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code. Every error that ends a command is told here, on stderr."""
    arguments = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in arguments
    try:
        result: Any = cli.main(arguments, prog_name="astra", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, ReaderLeft):
        return _reader_left()
    except (AstraError, TimeoutError, BaseExceptionGroup) as error:
        return _told(error, debug=debug)
    return result if isinstance(result, int) else ExitCode.OK


def _told(error: BaseException, *, debug: bool) -> int:
    """Tell `error` in one sentence (what is no error of Astra's is a bug: it keeps its traceback)."""
    cause = deepest_cause(error)
    if isinstance(cause, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(cause, BrokenPipeError):
        return _reader_left()
    if not isinstance(cause, AstraError | TimeoutError):
        raise error
    if debug:
        traceback.print_exception(error)
    click.echo(f"astra: {str(cause) or 'time ran out'}", err=True)
    for note in getattr(cause, "__notes__", ()):  # what the command adds: what to do now
        click.echo(note, err=True)
    return exit_code(cause)


def _reader_left() -> int:
    """Nothing is wrong, nothing more can be written."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK
