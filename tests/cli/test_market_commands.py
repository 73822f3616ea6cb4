"""`astra markets`, `book`, `trades`, `doctor` and `config`, against the sandbox."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import anyio
import httpx
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from astra.plugins import VENUES, Plugins
from astra_cli.exits import ExitCode
from astra_sandbox import Sandbox

SPOT = "BINANCE-SPOT-BTC-USDT"
PERP = "BINANCE-PERP-BTC-USDT"
OKX_PRODUCTS = ("spot", "swap", "futures", "option")


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def test_markets_are_listed_as_the_public_api_prints_them(terminal: Any) -> None:
    done = await terminal.run("markets", "BINANCE", "--json")
    assert (done.code, done.err) == (0, "")
    markets = {market["symbol"]: market for market in json.loads(done.out)}
    assert markets[SPOT]["assetType"] == "SPOT"
    assert (markets[SPOT]["baseAsset"], markets[SPOT]["quoteAsset"]) == ("BTC", "USDT")
    assert {market["assetType"] for market in markets.values()} == {"SPOT", "PERP", "FUT", "OPT"}


@pytest.mark.skipif("HUOBI" not in Plugins().names(VENUES), reason="the venue that has an alias is not installed")
async def test_an_exchange_may_be_named_by_its_alias(terminal_on: Any) -> None:
    async with Sandbox(["HTX"]) as sandbox:
        terminal = terminal_on(sandbox)
        by_alias = await terminal.run("markets", "htx", "--json")
        by_code = await terminal.run("markets", "HUOBI", "--json")
        book = await terminal.run("book", "HTX-SPOT-BTC-USDT", "--json", "--count", "1")
    assert (by_alias.code, by_alias.err) == (0, "")
    assert by_alias.out == by_code.out
    assert json.loads(by_alias.out)[0]["symbol"].startswith("HUOBI-")
    assert lines(book.out)[0]["market"] == "HUOBI-SPOT-BTC-USDT"


async def test_markets_can_be_narrowed_to_a_kind(terminal: Any) -> None:
    done = await terminal.run("markets", "BINANCE", "--type", "perp")
    assert done.code == 0
    rows = done.out.splitlines()[1:]
    assert rows
    assert all("-PERP-" in row for row in rows)


async def test_a_book_begins_with_a_snapshot_and_ends_after_the_count(terminal: Any) -> None:
    done = await terminal.run("book", SPOT, PERP, "--json", "--count", "20")
    assert (done.code, done.err) == (0, "")
    updates = lines(done.out)
    assert len(updates) == 20
    for market in (SPOT, PERP):
        own = [update for update in updates if update["market"] == market]
        assert own[0]["type"] == "SNAPSHOT"
        assert set(own[0]["bids"][0]) == {"price", "quantity"}
        ids = [update["updateId"] for update in own]
        assert ids == sorted(set(ids))


async def test_a_book_of_some_depth_shows_its_best_levels_after_each_update(terminal: Any) -> None:
    done = await terminal.run("book", SPOT, "--json", "--depth", "1", "--count", "5")
    assert done.code == 0
    for state in lines(done.out):
        assert state["state"] == "LIVE"
        (bid,), (ask,) = state["bids"], state["asks"]
        assert bid["price"] < ask["price"]


async def test_a_piped_book_is_one_plain_line_an_update(terminal: Any) -> None:
    done = await terminal.run("book", SPOT, "--count", "3")
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert all(line.startswith(f"{SPOT}  LIVE  bid ") for line in done.out.splitlines())
    assert "\x1b" not in done.out


async def test_trades_have_price_quantity_side_time_and_id(terminal: Any) -> None:
    done = await terminal.run("trades", SPOT, "--json", "--count", "3")
    assert (done.code, done.err) == (0, "")
    trades = lines(done.out)
    assert len(trades) == 3
    for trade in trades:
        assert set(trade) == {"market", "price", "quantity", "side", "time", "id"}
        assert trade["side"] in ("BUY", "SELL")


async def test_time_that_runs_out_before_anything_came_is_told_by_the_exit_code(terminal: Any) -> None:
    done = await terminal.run("trades", SPOT, "--count", "1000000", "--seconds", "2")
    assert done.code == ExitCode.UNKNOWN
    assert done.err.endswith("came within 2 s\n")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("book", "BINANCE_SPOT_BTC_USDT"), ExitCode.USAGE, "Did you mean BINANCE-SPOT-BTC-USDT?"),
        (("book", "BINANCE-SPOT-BTC-USDX"), ExitCode.VENUE, "Did you mean 'BINANCE-SPOT-BTC-USDT'?"),
        (("markets", "ASTER"), ExitCode.CONFIG, "python -m pip install astra-aster"),
        (("markets", "BINANSE"), ExitCode.CONFIG, "Did you mean 'BINANCE'?"),
        (("markets", "BINANCE", "--type", "SWAP"), ExitCode.USAGE, "'spot', 'perp', 'fut', 'opt'"),
        (("book", SPOT, "--depth", "0"), ExitCode.USAGE, "--depth"),
        (("trades",), ExitCode.USAGE, "SYMBOL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_bad_input_is_told_with_what_to_do(
    arguments: tuple[str, ...], code: ExitCode, told: str, terminal: Any
) -> None:
    done = await terminal.run(*arguments)
    assert (done.code, done.out) == (code, "")
    assert told.lower() in done.err.lower()
    assert "Traceback" not in done.err


async def test_a_venue_that_cannot_be_reached_is_one_sentence(terminal: Any) -> None:
    nowhere = {name: "http://127.0.0.1:9" for name in terminal.environment if name.endswith("_REST")}
    done = await terminal.run("markets", "BINANCE", **nowhere)
    assert done.code == ExitCode.VENUE
    assert done.err.count("\n") == 1
    assert done.err.startswith("astra: BINANCE")


async def test_ctrl_c_ends_a_live_command_cleanly(terminal: Any) -> None:
    process = await anyio.open_process(terminal.command("book", SPOT, "--json"), env=terminal.environment)
    async with process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1_000_000)
        assert json.loads(first)["type"] == "SNAPSHOT"
        process.send_signal(signal.SIGINT)
        told = b"".join([chunk async for chunk in process.stderr])
        assert await process.wait() == ExitCode.INTERRUPTED
    assert told.strip() == b""


async def test_a_reader_that_leaves_ends_the_command_without_a_word(terminal: Any) -> None:
    command = " ".join(f"'{part}'" for part in terminal.command("book", SPOT, "--json"))
    done = await anyio.run_process(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        env=terminal.environment,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["type"] == "SNAPSHOT"


async def test_the_doctor_finds_a_healthy_venue_healthy_and_shows_no_secret(terminal: Any) -> None:
    done = await terminal.run("doctor", "--json")
    findings = json.loads(done.out)
    assert [finding for finding in findings if finding["status"] == "FAIL"] == []
    assert done.code == 0
    by_check: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        by_check.setdefault(finding["check"], []).append(finding)
    products = {f"BINANCE {product}" for product in ("spot", "usdm", "coinm", "options")}
    assert {finding["subject"] for finding in by_check["clock"]} == products
    assert all(abs(finding["offsetMs"]) < 1000 for finding in by_check["clock"])
    assert {finding["subject"] for finding in by_check["stream"]} == products
    assert by_check["key"][0]["present"] is True
    budgets = {finding["subject"]: finding for finding in by_check["limits"]}
    assert set(budgets) == {"BINANCE spot", "BINANCE futures", "BINANCE options"}
    (weight,) = (bucket for bucket in budgets["BINANCE spot"]["limits"] if bucket["name"] == "request_weight-1m")
    assert 0 < weight["used"] < weight["limit"] == 6000
    assert 0 < weight["resetsInS"] <= 62
    assert budgets["BINANCE spot"]["pausedS"] == 0
    assert f"request_weight-1m {weight['used']:g}/6000" in budgets["BINANCE spot"]["finding"]
    assert terminal.environment["ASTRA_BINANCE_API_SECRET"] not in done.out + done.err
    assert terminal.environment["ASTRA_BINANCE_API_KEY"] not in done.out + done.err


async def test_the_doctor_names_a_key_that_the_venue_refuses(terminal: Any) -> None:
    done = await terminal.run("doctor", ASTRA_BINANCE_API_SECRET="wrong")
    assert done.code == ExitCode.FAILED
    (row,) = (line for line in done.out.splitlines() if line.split()[:2] == ["FAIL", "key"])
    assert "BINANCE" in row


async def test_the_doctor_needs_no_key(terminal: Any) -> None:
    done = await terminal.run("doctor", ASTRA_BINANCE_API_SECRET="", ASTRA_BINANCE_API_KEY="")
    assert done.code == 0
    assert any(line.split()[:2] == ["SKIP", "key"] for line in done.out.splitlines())


async def test_the_doctor_says_for_how_long_a_venue_that_banned_the_address_is_left_alone(terminal: Any) -> None:
    async with Sandbox(["BINANCE"]) as sandbox, httpx.AsyncClient(trust_env=False) as http:
        hosts = sandbox.settings["venues"]["BINANCE"]["hosts"]
        for _ in range(200):
            if (await http.get(f"{hosts['spot_rest']}/api/v3/depth?symbol=BTCUSDT&limit=5000")).status_code == 418:
                break
        variables = {f"ASTRA_VENUES__BINANCE__HOSTS__{host.upper()}": url for host, url in hosts.items()}
        done = await terminal.run("doctor", "--json", **variables)
    (spot,) = (one for one in json.loads(done.out) if (one["check"], one["subject"]) == ("limits", "BINANCE spot"))
    assert spot["status"] == "WARN"
    assert 60 < spot["pausedS"] <= 120
    assert spot["finding"].startswith(f"paused by the venue for {spot['pausedS']:.0f} s; ")


async def test_the_doctor_warns_of_a_clock_that_is_off(terminal: Any, sandbox: Sandbox) -> None:
    sandbox.faults("BINANCE").clock_skew_ms = 5000
    try:
        done = await terminal.run("doctor", "--json")
    finally:
        sandbox.faults("BINANCE").clock_skew_ms = 0
    clocks = [finding for finding in json.loads(done.out) if finding["check"] == "clock"]
    assert {finding["status"] for finding in clocks} == {"WARN"}
    assert all(4500 < finding["offsetMs"] < 5500 for finding in clocks)


@pytest.mark.skipif("OKX" not in Plugins().names(VENUES), reason="a second venue is not installed")
async def test_the_doctor_examines_all_venues_each_by_itself(terminal_on: Any) -> None:
    async with Sandbox(["BINANCE", "OKX"]) as sandbox:
        terminal = terminal_on(sandbox)
        healthy = await terminal.run("doctor", "--json")
        sandbox.faults("OKX").server_error = 1.0
        broken = await terminal.run("doctor", "--json", "--timeout", "5")
    assert healthy.code == 0, healthy.out
    findings = json.loads(healthy.out)
    for exchange, products in (("BINANCE", ("spot", "usdm", "coinm", "options")), ("OKX", OKX_PRODUCTS)):
        own = [finding for finding in findings if finding["subject"].split()[0] == exchange]
        assert {finding["status"] for finding in own} == {"OK"}
        streams = {finding["subject"] for finding in own if finding["check"] == "stream"}
        assert streams == {f"{exchange} {product}" for product in products}
        assert [finding["present"] for finding in own if finding["check"] == "key"] == [True]
    (limits,) = (one for one in findings if (one["check"], one["subject"]) == ("limits", "OKX trading"))
    scopes = {bucket["scope"] for bucket in limits["limits"] if bucket["name"] == "instruments"}
    assert len(scopes) > 1
    assert limits["finding"].count("instruments") == 1
    assert f"(fullest of {len(scopes)})" in limits["finding"]

    assert broken.code == ExitCode.FAILED
    by_exchange: dict[str, set[str]] = {}
    for finding in json.loads(broken.out):
        by_exchange.setdefault(finding["subject"].split()[0], set()).add(finding["status"])
    assert by_exchange["BINANCE"] == {"OK"}
    assert "FAIL" in by_exchange["OKX"]


async def test_settings_are_shown_with_their_origins_and_without_secrets(terminal: Any) -> None:
    done = await terminal.run("config", "show", "--origin", ASTRA_VENUES__BINANCE__PROXY="http://user:hunter2@proxy:1")
    assert done.code == 0
    (row,) = (line for line in done.out.splitlines() if "venues.BINANCE.proxy" in line)
    assert "environment variable ASTRA_VENUES__BINANCE__PROXY" in row
    assert "hunter2" not in done.out


async def test_all_settings_include_the_venues_defaults(terminal: Any) -> None:
    done = await terminal.run("config", "show", "--all", "--json")
    assert done.code == 0
    rows = {row["key"]: row for row in json.loads(done.out)}
    assert rows["venues.BINANCE.request_timeout_s"]["origin"] == "default"
    assert rows["venues.BINANCE.hosts.spot_rest"]["origin"].startswith("environment variable")


async def test_a_misspelt_setting_is_refused_with_the_nearest_one(terminal: Any) -> None:
    done = await terminal.run("markets", "BINANCE", ASTRA_VENUES__BINANCE__REQUEST_TIMEOUT="5")
    assert done.code == ExitCode.CONFIG
    assert "request_timeout_s" in done.err
