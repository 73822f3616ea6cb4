"""The `astra` command itself: its help, its commands from entry points, its errors and exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable

import click
import pytest

from astra import errors
from astra.plugins import Plugins
from astra_cli import exits
from astra_cli.exits import ExitCode
from astra_cli.main import GROUP, cli, main

OWN_COMMANDS = (
    "plugins", "markets", "book", "trades", "config", "doctor", "demo",
    "orders", "fills", "balances", "positions", "place", "cancel",
)  # fmt: skip
HEAVY = ("pydantic", "httpx", "anyio", "picows", "rich", "fastapi", "sqlalchemy", "uvicorn", "websockets", "asyncio")


def astra(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, without this one's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ASTRA_")}
    return subprocess.run(
        [sys.executable, "-m", "astra_cli", *arguments],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class FakeDistribution:
    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"
        self.metadata = {"Name": name}


class FakeEntryPoint(importlib.metadata.EntryPoint):
    """An entry point of a distribution that is not there."""

    def __init__(self, name: str, value: str, distribution: str) -> None:
        super().__init__(name, value, GROUP)
        vars(self)["dist"] = FakeDistribution(distribution)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace the installed commands: `installed(name=function_or_error, ...)`."""
    module = types.ModuleType("commands_of_a_stranger")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    entries: list[FakeEntryPoint] = []

    def install(distribution: str = "astra-stranger", **commands: object) -> None:
        for name, command in commands.items():
            setattr(module, name, command)
            entries.append(FakeEntryPoint(name, f"{module.__name__}:{name}", distribution))
        monkeypatch.setattr(cli, "_plugins", Plugins(entry_points=lambda: entries))

    install()
    return install


def raising(error: BaseException) -> click.Command:
    @click.command()
    def fail() -> None:
        """Fail."""
        raise error

    return fail


def test_help_shows_one_line_for_each_command_without_importing_what_only_running_needs() -> None:
    code = (
        "import sys; from astra_cli.main import main; status = main(['--help'])\n"
        f"sys.stderr.write(' '.join(sorted(set({HEAVY!r}) & set(sys.modules)))); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    listing = done.stdout.partition("Commands:")[2].partition("Examples:")[0]
    for name in OWN_COMMANDS:
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in listing.splitlines()), name
    assert "broken" not in listing
    assert done.stderr == "", "heavy modules were imported to print help"


@pytest.mark.parametrize("name", OWN_COMMANDS)
def test_help_of_every_command_has_examples_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  astra {name}" in text.partition("Examples:")[2]
    assert "Exit codes:" in text


def test_a_mistyped_command_is_answered_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["makets", "BINANCE"]) == ExitCode.USAGE
    assert "Did you mean 'markets'?" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "distribution"), [("serve", "astra-gateway"), ("journal", "astra-journal")])
def test_a_command_of_a_distribution_that_is_not_installed_says_what_to_install(
    installed: Callable[..., None], capsys: pytest.CaptureFixture[str], command: str, distribution: str
) -> None:
    assert main([command]) == ExitCode.USAGE
    assert f"python -m pip install {distribution}" in capsys.readouterr().err


def test_a_broken_command_leaves_the_others_alone(
    installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def works() -> None:
        """Work."""
        click.echo("worked")

    installed(works=works, broken="no command at all")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "Work." in text
    assert "(broken: " in text
    assert main(["works"]) == 0
    assert main(["broken"]) == ExitCode.CONFIG
    assert "not a click command" in capsys.readouterr().err


def test_a_command_claimed_by_two_distributions_is_refused_naming_both(
    installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("astra-honest", twice=raising(RuntimeError("must not run")))
    installed("astra-rogue", twice=raising(RuntimeError("must not run")))
    assert main(["twice"]) == ExitCode.CONFIG
    told = capsys.readouterr().err
    assert "astra-honest" in told
    assert "astra-rogue" in told


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SymbolError("malformed"), ExitCode.USAGE),
        (errors.BadRequest("out of range"), ExitCode.USAGE),
        (errors.ConfigError("unknown key"), ExitCode.CONFIG),
        (errors.PluginError("broken"), ExitCode.CONFIG),
        (errors.UnknownExchange("no such"), ExitCode.CONFIG),
        (errors.AuthenticationError("bad key", exchange="OKX", code="50113"), ExitCode.AUTH),
        (errors.PermissionDenied("not yours", exchange="OKX"), ExitCode.AUTH),
        (errors.MarketNotFound("no such market", exchange="OKX"), ExitCode.VENUE),
        (errors.InvalidOrder("off the tick", exchange="OKX", rule="tick-size"), ExitCode.VENUE),
        (errors.RateLimited("too many", exchange="OKX", retry_after=3), ExitCode.VENUE),
        (errors.VenueUnavailable("down", exchange="OKX"), ExitCode.VENUE),
        (errors.OrderOutcomeUnknown("lost", exchange="OKX", market="OKX-SPOT-A-B"), ExitCode.UNKNOWN),
        (TimeoutError("nothing came within 5 s"), ExitCode.UNKNOWN),
        (errors.StreamClosed("closed"), ExitCode.FAILED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
@pytest.mark.parametrize("grouped", [False, True], ids=["bare", "in a group"])
def test_every_error_ends_in_one_sentence_and_its_exit_code(
    error: Exception,
    code: ExitCode,
    grouped: bool,
    installed: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrapped = ExceptionGroup("tasks", [ExceptionGroup("inner", [error])]) if grouped else error
    installed(fail=raising(wrapped))
    assert main(["fail"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"astra: {error}\n"


def test_every_error_class_has_its_exit_code() -> None:
    """A new kind of venue error is at least a venue's failure, never a success."""
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.VenueError):
            arguments = {"market": "X-SPOT-A-B"} if kind is errors.OrderOutcomeUnknown else {}
            assert exits.exit_code(kind("failed", exchange="X", **arguments)) in (4, 5, 6), name


def test_debug_shows_the_traceback_as_well(installed: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    installed(fail=raising(errors.ConfigError("unknown key")))
    assert main(["--debug", "fail"]) == ExitCode.CONFIG
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.endswith("astra: unknown key\n")


def test_a_bug_keeps_its_traceback(installed: Callable[..., None]) -> None:
    installed(fail=raising(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["fail"])


def test_ctrl_c_ends_with_130_and_without_a_word(
    installed: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    installed(wait=raising(KeyboardInterrupt()))
    assert main(["wait"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.strip() == ""


def test_an_exit_code_of_a_command_is_passed_on(installed: Callable[..., None]) -> None:
    installed(fail=raising(click.exceptions.Exit(ExitCode.FAILED)))
    assert main(["fail"]) == ExitCode.FAILED


def test_options_for_all_commands_may_stand_before_or_after_the_command() -> None:
    for arguments in (["--config", "absent.toml", "plugins"], ["plugins", "--config", "absent.toml"]):
        done = astra(*arguments)
        assert done.returncode == ExitCode.CONFIG
        assert "there is no configuration file absent.toml" in done.stderr


def test_output_has_no_colour_when_piped() -> None:
    done = astra("plugins", FORCE_COLOR="")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout


def test_plugins_as_json_name_distribution_version_state_and_hooks() -> None:
    done = astra("plugins", "--json")
    assert done.returncode == 0, done.stderr
    (binance,) = (row for row in json.loads(done.stdout) if (row["group"], row["name"]) == ("astra.venues", "BINANCE"))
    assert binance["distribution"] == "astra-binance"
    assert binance["state"] == "LOADED"
    assert binance["apiVersion"].count(".") == 1
    assert set(binance["products"]) == {"spot", "usdm", "coinm", "options"}
    assert binance["hooks"]["place_order"] is True


def test_a_blocked_venue_is_listed_with_the_reason() -> None:
    done = astra("plugins", ASTRA_PLUGINS_BLOCK="BINANCE")
    assert done.returncode == 0, done.stderr
    assert "BLOCKED" in done.stdout
    assert "ASTRA_PLUGINS_BLOCK" in done.stdout


def test_the_group_is_named_in_the_metadata_of_this_distribution() -> None:
    entries = importlib.metadata.distribution("astra-cli").entry_points
    assert {entry.name for entry in entries if entry.group == GROUP} == set(OWN_COMMANDS)
