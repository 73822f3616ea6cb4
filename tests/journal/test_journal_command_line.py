"""`astra journal`: shows the configured journal, to people and to programs, and closes commands by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from astra import OrderRequest
from astra.errors import InvalidOrder, OrderOutcomeUnknown
from astra_cli.main import main

BTC = "NOTED-SPOT-BTC-USDT"


@pytest.fixture
def journal(noted: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal with an answered, a refused and an unknown placement, and a cancel; it is the configured one."""
    errors: list[Exception | None] = [
        None,
        InvalidOrder("off the grid", exchange="NOTED"),
        OrderOutcomeUnknown("lost", exchange="NOTED", market=BTC),
    ]

    async def write() -> None:
        def answer(*_: Any) -> None:
            error = errors.pop(0)
            if error is not None:
                raise error

        noted.Noted.stubs["place_order"] = answer
        async with noted.astra_on(file) as astra:
            for number in range(3):
                order = OrderRequest(side="BUY", quantity="1", price="9.5", client_order_id=f"id{number}")
                try:
                    await astra.place_order(BTC, order)
                except (InvalidOrder, OrderOutcomeUnknown):
                    continue
            await astra.cancel_order(BTC, client_order_id="id0")

    anyio.run(write)
    monkeypatch.setenv("ASTRA_MIDDLEWARE__JOURNAL__PATH", str(file))
    monkeypatch.chdir(file.parent)
    return file


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[str], str]:
    code = main(["journal", *args])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_people_see_a_line_a_command(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys)
    assert code == 0
    assert [line.split()[2:4] for line in lines] == [
        ["ANSWERED", "place_order"],
        ["REFUSED", "place_order"],
        ["UNKNOWN", "place_order"],
        ["ANSWERED", "cancel_order"],
    ]
    assert f"{BTC}  id0  BUY LIMIT 1 at 9.5  NEW (order 77)" in lines[0]
    assert lines[1].endswith("InvalidOrder: off the grid")
    assert lines[3].endswith("CANCELED (order 77)")


def test_programs_get_one_object_a_line(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, "--json", "--last", "0")
    assert code == 0
    found = [json.loads(line) for line in lines]
    assert [one["state"] for one in found] == ["ANSWERED", "REFUSED", "UNKNOWN", "ANSWERED"]
    assert found[0]["request"]["order"]["price"] == "9.5"
    assert found[0]["outcome"]["body"]["order"]["status"] == "NEW"
    assert found[1]["outcome"]["body"]["outcome"] == "NOT_EXECUTED"
    assert {"seq", "time", "timeNs", "pid", "exchange", "account", "market", "clientOrderId"} <= found[2].keys()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--last", "2"), ["id2", "id0"]),
        (("--open",), ["id2"]),
        (("--exchange", "noted", "--last", "1"), ["id0"]),
        (("--exchange", "KRAKEN"), []),
        (("--since", "2100-01-01"), []),
        (("--since", "2020-01-01T09:30"), ["id0", "id1", "id2", "id0"]),
        (("--open", "--since", "2100-01-01"), []),
    ],
)
def test_commands_are_chosen(
    journal: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], names: list[str]
) -> None:
    _, lines, _ = run(capsys, "--json", *options)
    assert [json.loads(line)["clientOrderId"] for line in lines] == names


def test_an_open_command_is_closed_by_hand_with_its_reason(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, lines, _ = run(capsys, "--open", "--json")
    seq = str(json.loads(lines[0])["seq"])
    assert run(capsys, "--settle", seq, "--because", "not at the venue")[:2] == (0, [f"command {seq} is closed"])
    assert run(capsys, "--open") == (0, [], "")
    _, lines, _ = run(capsys)
    assert "RESOLVED" in lines[2]
    assert lines[2].endswith("closed by hand: not at the venue")
    code, _, err = run(capsys, "--settle", seq, "--because", "again")
    assert code == 2
    assert f"command {seq} is not open. Open: none" in err


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (("--since", "yesterday"), 2, "'yesterday' is no moment"),
        (("--settle", "1"), 2, "--settle and --because go together"),
        (("--file", "none.db"), 1, "there is no journal none.db"),
    ],
)
def test_what_is_wrong_is_said(
    journal: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], code: int, complaint: str
) -> None:
    found, _, err = run(capsys, *options)
    assert found == code
    assert complaint in err


def test_the_help_has_examples_and_loads_no_models(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    code, lines, _ = run(capsys, "--help")
    assert code == 0
    assert "Examples:" in "\n".join(lines)
    light = "import sys, astra_journal.command; assert not {'pydantic', 'sqlite3', 'msgspec'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)
