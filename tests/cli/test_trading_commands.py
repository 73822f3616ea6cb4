"""`astra orders`, `fills`, `balances`, `positions`, `place` and `cancel`, against the sandbox."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

import anyio
import pytest

from astra import Astra
from astra.models.orders import OrderType
from astra_cli.arguments import Moment, PositiveDecimal
from astra_cli.commands.place import TYPES
from astra_cli.exits import ExitCode
from astra_sandbox import Sandbox

pytestmark = pytest.mark.slow

SPOT = "BINANCE-SPOT-BTC-USDT"
PERP = "BINANCE-PERP-BTC-USDT"
COINM = "BINANCE-PERP-BTC-USD-COINM"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def shown(text: str) -> dict[str, str]:
    """The lines of an order that is shown before it is placed."""
    pairs = (line.strip().split("  ", 1) for line in text.splitlines() if line.startswith("  "))
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


@pytest.fixture
async def astra(sandbox: Sandbox) -> AsyncIterator[Astra]:
    """A second program with the same account: what it sees is what the venue knows."""
    async with Astra(settings=sandbox.settings, credentials=[sandbox.credentials("BINANCE")]) as one:
        yield one
    engine = sandbox.engine("BINANCE")  # not over the wire: each command already spends of the venue's rate limits
    account = engine.account("default")
    assert account is not None
    for order in engine.open_orders(account):
        engine.cancel(account, order.id)


@pytest.fixture
async def low(astra: Astra) -> str:
    """A price well below the market: orders to buy at it rest."""
    market = await astra.market(SPOT)
    book = await astra.get_orderbook(SPOT, depth=5)
    return format(market.floor_price(Decimal(str(book.bids[0][0])) * Decimal("0.9")), "f")


@pytest.fixture
def faults(sandbox: Sandbox) -> Iterator[Any]:
    faults = sandbox.faults("BINANCE")
    yield faults
    faults.lost_answer = faults.reset_request = faults.server_error = 0.0


async def test_an_order_is_shown_in_full_then_placed_and_printed_as_one_object(
    terminal: Any, astra: Astra, low: str
) -> None:
    done = await terminal.run("place", SPOT, "BUY", "0.01000", "--price", low, "--post-only", "--yes", "--json")
    assert done.code == 0, done.err
    (order,) = lines(done.out)
    told = shown(done.err)
    assert told["market"] == f"{SPOT} (spot BTCUSDT)"
    assert (told["side"], told["type"], told["account"], told["post-only"]) == ("BUY", "LIMIT", "default", "yes")
    assert (told["quantity"], told["price"]) == ("0.01 BTC", f"{low.rstrip('0').rstrip('.')} USDT")
    assert Decimal(told["notional"].removesuffix(" USDT")) == Decimal(low) * Decimal("0.01")
    assert told["client order id"] == order["clientOrderId"]
    assert (order["market"], order["status"], order["quantity"]) == (SPOT, "NEW", "0.01")
    (resting,) = await astra.list_orders(SPOT)
    assert resting.client_order_id == order["clientOrderId"]
    assert resting.price == Decimal(low)


async def test_contracts_are_shown_with_what_they_are_worth(terminal: Any, astra: Astra) -> None:
    market = await astra.market(COINM)
    book = await astra.get_orderbook(COINM, depth=5)
    price = format(market.floor_price(Decimal(str(book.bids[0][0])) * Decimal("0.95")), "f")
    done = await terminal.run("place", COINM, "buy", "--contracts", "3", "--price", price, "--yes", "--json")
    assert done.code == 0, done.err
    told = shown(done.err)
    assert market.contract_size is not None
    assert told["contracts"] == f"3 of {market.contract_size:f} USD"
    assert told["notional"] == f"{3 * market.contract_size:f} USD"
    assert told["quantity"].startswith("about 0.00")
    (order,) = lines(done.out)
    assert order["contracts"] == "3"


async def test_a_market_order_is_shown_with_an_estimate_and_its_fills_and_balances_follow(
    terminal: Any, astra: Astra
) -> None:
    done = await terminal.run("place", SPOT, "buy", "0.01", "--type", "market", "--yes", "--json")
    assert done.code == 0, done.err
    told = shown(done.err)
    assert told["price"] == "the market's"
    assert told["notional"].startswith("about ")
    (order,) = lines(done.out)
    assert order["status"] == "FILLED"
    done = await terminal.run("fills", SPOT, "--json")
    assert (done.code, done.err) == (0, "")
    own = [fill for fill in lines(done.out) if fill["orderId"] == order["id"]]
    assert sum(Decimal(fill["quantity"]) for fill in own) == Decimal("0.01")
    done = await terminal.run("fills", SPOT, "--since", "2099-01-01T00:00:00Z", "--json")
    assert (done.code, done.out, done.err) == (0, "", "")
    done = await terminal.run("fills", SPOT, "--limit", "1")
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert "\x1b" not in done.out
    done = await terminal.run("balances", "BINANCE", "--json")
    assert (done.code, done.err) == (0, "")
    held = {(balance["wallet"], balance["asset"]): balance for balance in lines(done.out)}
    (expected,) = (b for b in await astra.get_balances("BINANCE") if (b.wallet, b.asset) == ("spot", "BTC"))
    assert Decimal(held["spot", "BTC"]["total"]) == expected.total


async def test_a_quote_quantity_is_shown_as_what_will_be_spent(terminal: Any) -> None:
    done = await terminal.run("place", SPOT, "buy", "--type", "market", "--quote-quantity", "500", "--yes", "--json")
    assert done.code == 0, done.err
    assert shown(done.err)["quantity"] == "as much BTC as 500 USDT buys"
    assert lines(done.out)[0]["status"] == "FILLED"


async def test_positions_are_listed(terminal: Any, astra: Astra) -> None:
    done = await terminal.run("place", PERP, "sell", "0.01", "--type", "market", "--yes")
    assert done.code == 0, done.err
    done = await terminal.run("positions", "BINANCE", "--json")
    assert (done.code, done.err) == (0, "")
    (position,) = (position for position in lines(done.out) if position["market"] == PERP)
    assert position["side"] == "SHORT"
    assert Decimal(position["quantity"]) >= Decimal("0.01")
    done = await terminal.run("positions", "BINANCE")
    assert PERP in done.out


async def test_an_order_off_the_tick_is_refused_before_it_is_shown_or_sent(
    terminal: Any, astra: Astra, low: str
) -> None:
    done = await terminal.run("place", SPOT, "buy", "0.01", "--price", f"{low.split('.')[0]}.0000001", "--yes")
    assert (done.code, done.out) == (ExitCode.VENUE, "")
    assert "is no multiple of" in done.err
    assert "to be placed" not in done.err
    assert await astra.list_orders(SPOT) == []


async def test_missing_credentials_are_told_with_what_provides_them(terminal: Any, low: str) -> None:
    nobody = {"ASTRA_BINANCE_API_KEY": "", "ASTRA_BINANCE_API_SECRET": ""}
    for arguments in (("place", SPOT, "buy", "0.01", "--price", low, "--yes"), ("cancel", SPOT, "--all", "--yes")):
        done = await terminal.run(*arguments, **nobody)
        assert (done.code, done.out) == (ExitCode.AUTH, "")
        assert "ASTRA_BINANCE_API_KEY and ASTRA_BINANCE_API_SECRET" in done.err
    done = await terminal.run("orders", "BINANCE", "--account", "hedge")
    assert done.code == ExitCode.AUTH
    assert "ASTRA_BINANCE_HEDGE_API_KEY" in done.err


async def test_a_named_account_is_used_and_shown(terminal: Any, astra: Astra, low: str) -> None:
    own = terminal.environment
    hedge = {f"ASTRA_BINANCE_HEDGE_API_{part}": own[f"ASTRA_BINANCE_API_{part}"] for part in ("KEY", "SECRET")}
    nobody = {"ASTRA_BINANCE_API_KEY": "", "ASTRA_BINANCE_API_SECRET": ""}
    done = await terminal.run(
        "place", SPOT, "buy", "0.01", "--price", low, "--account", "hedge", "--yes", **nobody, **hedge
    )
    assert done.code == 0, done.err
    assert shown(done.err)["account"] == "hedge"
    assert len(await astra.list_orders(SPOT)) == 1


async def test_no_secret_is_printed(terminal: Any, low: str) -> None:
    done = await terminal.run("--debug", "place", SPOT, "buy", "1000000", "--price", low, "--yes")
    assert done.code != 0
    for name in ("ASTRA_BINANCE_API_KEY", "ASTRA_BINANCE_API_SECRET"):
        assert terminal.environment[name] not in done.out + done.err


async def test_without_a_terminal_and_without_yes_nothing_is_sent(terminal: Any, astra: Astra, low: str) -> None:
    for arguments in (("place", SPOT, "buy", "0.01", "--price", low), ("cancel", "BINANCE", "--all")):
        done = await terminal.run(*arguments)
        assert (done.code, done.out) == (ExitCode.USAGE, "")
        assert "no terminal to ask for confirmation" in done.err
        assert "--yes" in done.err
    assert await astra.list_orders(SPOT) == []


async def asked(terminal: Any, answer: bytes | None, *arguments: str) -> tuple[int, str, str]:
    """Run a command at a terminal and give it an answer once it asks (None: press Ctrl-C)."""
    ours, theirs = os.openpty()
    process = await anyio.open_process(
        terminal.command(*arguments), stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=terminal.environment
    )
    os.close(theirs)
    told = b""
    with anyio.fail_after(60):
        async with process:
            while b"[y/N]" not in told:
                await anyio.wait_readable(ours)
                told += os.read(ours, 4096)
            if answer is None:
                process.send_signal(signal.SIGINT)
            else:
                os.write(ours, answer)
            assert process.stdout is not None
            out = b"".join([chunk async for chunk in process.stdout])
            code = await process.wait()
    os.close(ours)
    return code, out.decode(), told.decode()


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"], ids=["no", "enter", "end of input"])
async def test_an_order_that_is_answered_no_is_not_sent(terminal: Any, astra: Astra, low: str, answer: bytes) -> None:
    code, out, told = await asked(terminal, answer, "place", SPOT, "buy", "0.01", "--price", low)
    assert (code, out) == (ExitCode.FAILED, "")
    assert "client order id" in told
    assert await astra.list_orders(SPOT) == []


async def test_ctrl_c_at_the_question_sends_nothing(terminal: Any, astra: Astra, low: str) -> None:
    code, out, _ = await asked(terminal, None, "place", SPOT, "buy", "0.01", "--price", low)
    assert (code, out) == (ExitCode.INTERRUPTED, "")
    assert await astra.list_orders(SPOT) == []


async def test_an_order_that_is_answered_yes_is_sent(terminal: Any, astra: Astra, low: str) -> None:
    code, out, told = await asked(terminal, b"what?\ny\n", "place", SPOT, "buy", "0.01", "--price", low, "--json")
    assert code == 0
    (order,) = await astra.list_orders(SPOT)
    assert json.loads(out)["clientOrderId"] == order.client_order_id
    assert order.client_order_id is not None
    assert order.client_order_id in told


async def test_a_cancel_that_is_answered_no_cancels_nothing(terminal: Any, astra: Astra, low: str) -> None:
    placed = await terminal.run("place", SPOT, "buy", "0.01", "--price", low, "--yes", "--json")
    code, out, told = await asked(terminal, b"n\n", "cancel", SPOT, "--all")
    assert (code, out) == (ExitCode.FAILED, "")
    assert json.loads(placed.out)["id"] in told
    assert len(await astra.list_orders(SPOT)) == 1


async def test_an_unknown_outcome_ends_with_the_command_that_finds_out(
    terminal: Any, astra: Astra, low: str, faults: Any
) -> None:
    faults.lost_answer = 1.0
    done = await terminal.run(
        "place", SPOT, "buy", "0.01", "--price", low, "--client-order-id", "mine-7", "--yes", "--json",
        ASTRA_TRADING__RESOLVE_S="0",
    )  # fmt: skip
    assert (done.code, done.out) == (ExitCode.UNKNOWN, "")
    assert "Traceback" not in done.err
    assert "do not place it again" in done.err
    command = shlex.split(done.err.splitlines()[-1])
    assert command == ["astra", "orders", SPOT, "--client-order-id", "mine-7"]
    found = await terminal.run(*command[1:], "--json")
    assert (found.code, found.err) == (0, "")
    (order,) = lines(found.out)
    assert (order["clientOrderId"], order["status"]) == ("mine-7", "NEW")
    assert len(await astra.list_orders(SPOT)) == 1


async def test_a_lost_answer_is_resolved_and_the_order_placed_once(
    terminal: Any, astra: Astra, low: str, faults: Any
) -> None:
    faults.lost_answer = 1.0
    done = await terminal.run("place", SPOT, "buy", "0.01", "--price", low, "--yes", "--json")
    assert done.code == 0, done.err
    (order,) = await astra.list_orders(SPOT)
    assert json.loads(done.out)["clientOrderId"] == order.client_order_id


async def test_an_order_that_was_never_placed_is_told_as_such(terminal: Any) -> None:
    done = await terminal.run("orders", SPOT, "--client-order-id", "never")
    assert (done.code, done.out) == (ExitCode.VENUE, "")
    assert "no order never was placed" in done.err


async def test_open_orders_are_listed_and_canceled_by_id_and_all_at_once(terminal: Any, astra: Astra, low: str) -> None:
    for number in range(4):
        done = await terminal.run(
            "place", SPOT, "buy", "0.01", "--price", low, "--client-order-id", f"n{number}", "--yes"
        )
        assert done.code == 0, done.err
        assert f"n{number}" in done.out
    done = await terminal.run("orders", "BINANCE", "--json")
    assert (done.code, done.err) == (0, "")
    listed = {order["clientOrderId"]: order for order in lines(done.out)}
    assert set(listed) == {"n0", "n1", "n2", "n3"}
    done = await terminal.run("orders", SPOT)
    assert len(done.out.splitlines()) == 5

    for arguments in (("--client-order-id", "n0"), ("--id", listed["n1"]["id"])):
        done = await terminal.run("cancel", SPOT, *arguments, "--yes", "--json")
        assert done.code == 0, done.err
        (canceled,) = lines(done.out)
        assert canceled["status"] == "CANCELED"
        assert canceled["id"] in done.err, "it is shown first"
    done = await terminal.run("cancel", SPOT, "--client-order-id", "n0", "--yes")
    assert done.code == ExitCode.VENUE
    assert "the order is CANCELED" in done.err

    done = await terminal.run("cancel", SPOT, "--all", "--yes", "--json")
    assert done.code == 0, done.err
    assert {order["clientOrderId"] for order in lines(done.out)} == {"n2", "n3"}
    assert all(one in done.err for one in ("n2", "n3"))
    done = await terminal.run("cancel", "BINANCE", "--all", "--yes")
    assert done.code == 0, done.err
    assert "no open orders" in done.err
    done = await terminal.run("orders", SPOT)
    assert (done.code, done.out) == (0, "no open orders\n")


async def test_a_cancel_of_unknown_outcome_says_how_to_find_out(
    terminal: Any, astra: Astra, low: str, faults: Any
) -> None:
    await terminal.run("place", SPOT, "buy", "0.01", "--price", low, "--client-order-id", "c1", "--yes")
    faults.lost_answer = 1.0
    done = await terminal.run("cancel", SPOT, "--client-order-id", "c1", "--yes", ASTRA_TRADING__RESOLVE_S="0")
    assert (done.code, done.out) == (ExitCode.UNKNOWN, "")
    assert done.err.splitlines()[-1].strip() == f"astra orders {SPOT} --client-order-id c1"


class SwallowingRelay(socketserver.ThreadingTCPServer):
    """A relay to the venue that swallows commands. It runs in threads of its own: whoever hangs up, and when, is no
    matter of the test's event loop."""

    daemon_threads = True

    def __init__(self, venue: int) -> None:
        super().__init__(("127.0.0.1", 0), _Relayed)
        self.venue = venue
        self.swallowed = threading.Event()


class _Relayed(socketserver.BaseRequestHandler):
    server: SwallowingRelay

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.venue)) as upstream, suppress(OSError):
            answers = threading.Thread(target=self.answer, args=(upstream,))
            answers.start()
            try:
                while chunk := self.request.recv(65536):
                    if chunk.startswith(b"POST "):
                        self.server.swallowed.set()
                    else:
                        upstream.sendall(chunk)
            finally:
                upstream.shutdown(socket.SHUT_RDWR)
                answers.join()

    def answer(self, upstream: socket.socket) -> None:
        with suppress(OSError):
            while chunk := upstream.recv(65536):
                self.request.sendall(chunk)


async def test_an_interrupted_placement_says_how_to_find_out(terminal: Any, low: str) -> None:
    """The venue's REST host behind a relay that swallows commands: the placement hangs until Ctrl-C."""
    venue = terminal.environment["ASTRA_VENUES__BINANCE__HOSTS__SPOT_REST"].rpartition(":")[2]
    with SwallowingRelay(int(venue)) as relay:
        serving = threading.Thread(target=relay.serve_forever)
        serving.start()
        try:
            hosts = {"ASTRA_VENUES__BINANCE__HOSTS__SPOT_REST": f"http://127.0.0.1:{relay.server_address[1]}"}
            process = await anyio.open_process(
                terminal.command("place", SPOT, "buy", "0.01", "--price", low, "--client-order-id", "i1", "--yes"),
                env=terminal.environment | hosts,
                stdin=subprocess.DEVNULL,
            )
            async with process:
                assert process.stderr is not None
                assert await anyio.to_thread.run_sync(relay.swallowed.wait, 60)
                process.send_signal(signal.SIGINT)
                told = b"".join([chunk async for chunk in process.stderr]).decode()
                assert await process.wait() == ExitCode.INTERRUPTED
        finally:
            relay.shutdown()
            serving.join()
    assert "interrupted: the order may have been placed" in told
    assert told.strip().splitlines()[-1].strip() == f"astra orders {SPOT} --client-order-id i1"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("place", SPOT, "buy", "1e-2", "--price", "64000"), "not a plain positive number"),
        (("place", SPOT, "buy", "0,01", "--price", "64000"), "not a plain positive number"),
        (("place", SPOT, "buy", "nan", "--price", "64000"), "not a plain positive number"),
        (("place", SPOT, "buy", "0.00", "--price", "64000"), "more than zero"),
        (("place", SPOT, "hold", "1", "--price", "64000"), "buy"),
        (("place", SPOT, "buy", "--price", "64000", "--yes"), "exactly one of QUANTITY"),
        (("place", SPOT, "buy", "1", "--contracts", "1", "--price", "64000"), "exactly one of QUANTITY"),
        (("place", SPOT, "buy", "1", "--yes"), "a LIMIT order has a price"),
        (("place", SPOT, "buy", "1", "--price", "1", "--option", "x"), "key=value"),
        (("place", SPOT, "buy", "1", "--price", "1", "--option", "x=1", "--option", "x=2"), "twice"),
        (("cancel", SPOT, "--yes"), "exactly one of --id"),
        (("cancel", SPOT, "--all", "--id", "1", "--yes"), "exactly one of --id"),
        (("cancel", SPOT, "--id", "", "--yes"), "must not be empty"),
        (("cancel", "BINANCE", "--id", "1", "--yes"), "needs its market's symbol"),
        (("orders", "BINANCE", "--client-order-id", "x"), "needs the market's symbol"),
        (("fills", SPOT, "--since", "yesterday"), "neither ISO 8601"),
        (("fills", SPOT, "--since", "1766649600"), "13 digits"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_bad_input_is_refused_as_usage(arguments: tuple[str, ...], told: str, terminal: Any) -> None:
    done = await terminal.run(*arguments)
    assert (done.code, done.out) == (ExitCode.USAGE, "")
    assert told.lower() in done.err.lower()
    assert "Traceback" not in done.err


async def test_an_unknown_option_of_a_venue_is_refused_with_the_nearest_one(terminal: Any, low: str) -> None:
    done = await terminal.run("place", SPOT, "buy", "1", "--price", low, "--option", "iceberg_quantty=1", "--yes")
    assert done.code == ExitCode.VENUE
    assert "iceberg_quantity" in done.err


async def test_a_venues_option_is_shown_and_sent(terminal: Any, astra: Astra, low: str) -> None:
    done = await terminal.run(
        "place", SPOT, "buy", "0.02", "--price", low, "--option", "iceberg_quantity=0.01", "--yes", "--json"
    )
    assert done.code == 0, done.err
    assert shown(done.err)["option iceberg_quantity"] == "0.01"


def test_numbers_are_read_digit_by_digit() -> None:
    text = "0.1000000000000000055511151231257827"
    assert str(PositiveDecimal().convert(text, None, None)) == text


def test_times_are_milliseconds_or_iso_8601_in_utc() -> None:
    for text in (
        "1782691200123",
        "2026-06-29T00:00:00.123",
        "2026-06-29T02:00:00.123+02:00",
        "2026-06-29T00:00:00.123Z",
    ):
        assert Moment().convert(text, None, None) == 1782691200123


def test_the_command_names_every_order_type() -> None:
    assert {name.upper().replace("-", "_") for name in TYPES} == {kind.value for kind in OrderType}
