"""Who may do what, and how connections are kept: signatures, logins, wrong URLs, limits, silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from astra.sandbox import HttpRequest, HttpResponse
from astra_okx.sandbox import SandboxLimits
from astra_okx.sandbox.keys import signature

BALANCE = "/account/balance"


def code_of(answer: HttpResponse) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["code"]


class TestSignatures:
    def test_the_documented_vectors_come_out(self, captures: Any) -> None:
        for vector in captures.signing():
            assert signature(vector["secret"], vector["prehash"]) == vector["expected"]

    def test_query_and_body_are_signed_as_they_were_sent(self, venue: Any) -> None:
        venue.call("GET", BALANCE, {"ccy": "BTC,ETH"})
        path = f"{BALANCE}?ccy=BTC%2CETH"
        assert venue.ask("GET", path, headers=venue.headers("GET", path, "")).status == 200
        other = venue.headers("GET", f"{BALANCE}?ccy=BTC,ETH", "")
        assert code_of(venue.ask("GET", path, headers=other)) == (401, "50113")
        body = '{"posMode":"net_mode"}'
        headers = venue.headers("POST", "/account/set-position-mode", body)
        assert venue.ask("POST", "/account/set-position-mode", body, headers).status == 200
        spaced = '{"posMode": "net_mode"}'
        assert code_of(venue.ask("POST", "/account/set-position-mode", spaced, headers)) == (401, "50113")

    @pytest.mark.parametrize(
        ("name", "value", "code"),
        [
            ("ok-access-key", "", "50103"),
            ("ok-access-passphrase", "", "50104"),
            ("ok-access-passphrase", "another", "50105"),
            ("ok-access-sign", "", "50106"),
            ("ok-access-sign", "bm8=", "50113"),
            ("ok-access-timestamp", "", "50107"),
            ("ok-access-timestamp", "1795262400.5", "50112"),
            ("ok-access-timestamp", "2026-11-21T12:00:00Z", "50112"),
            ("ok-access-key", "no such key!", "50111"),
            ("ok-access-key", "unknown", "50119"),
            ("x-simulated-trading", "1", "50101"),
        ],
    )
    def test_what_is_wrong_with_a_signed_request_is_said(self, venue: Any, name: str, value: str, code: str) -> None:
        headers = {**venue.headers("GET", BALANCE, ""), name: value}
        assert code_of(venue.ask("GET", BALANCE, headers=headers)) == (401, code)

    def test_a_missing_header_is_answered_as_recorded(self, venue: Any, captures: Any) -> None:
        answer = venue.ask("GET", BALANCE)
        assert (answer.status, json.loads(answer.body)) == (401, captures.body("error-missing-key-header"))

    @pytest.mark.parametrize(("shift_ms", "status"), [(-30_000, 200), (30_000, 200), (-31_000, 401), (31_000, 401)])
    def test_clocks_may_differ_by_thirty_seconds(self, venue: Any, shift_ms: int, status: int) -> None:
        headers = venue.headers("GET", BALANCE, "")
        venue.clock.ms -= shift_ms
        answer = venue.ask("GET", BALANCE, headers=headers)
        assert answer.status == status
        assert status == 200 or json.loads(answer.body)["code"] == "50102"

    def test_a_key_that_may_only_read_trades_nothing(self, venue: Any) -> None:
        venue.account.settings["perm"] = "read_only"
        assert venue.call("GET", "/account/config")[0]["perm"] == "read_only"
        status, body = venue.signed("POST", "/trade/cancel-order", {"instId": "BTC-USDT", "ordId": "1"})
        assert (status, body["code"]) == (401, "50120")

    @pytest.mark.parametrize(
        ("method", "path", "sent", "status", "code"),
        [
            ("GET", "/trade/nothing", {}, 404, "404"),
            ("GET", "/trade/cancel-order", {}, 405, "50115"),
            ("POST", "/trade/order", [], 400, "50002"),
            ("POST", "/trade/batch-orders", [], 400, "51000"),
            ("POST", "/trade/batch-orders", [{}] * 21, 400, "51000"),
            ("POST", "/trade/batch-orders", {}, 400, "50002"),
            ("GET", "/account/balance", {"currency": "BTC"}, 400, "51000"),
        ],
    )
    def test_malformed_requests(self, venue: Any, method: str, path: str, sent: Any, status: int, code: str) -> None:
        answered, body = venue.signed(method, path, sent)
        assert (answered, body["code"]) == (status, code)

    def test_json_that_is_none(self, venue: Any) -> None:
        headers = venue.headers("POST", "/trade/order", "{")
        assert code_of(venue.ask("POST", "/trade/order", "{", headers)) == (400, "50002")


class TestLogin:
    def test_it_is_answered_as_documented(self, venue: Any, captures: Any, shape_of: Callable[[Any], Any]) -> None:
        answer = venue.connect("private").login()
        assert shape_of(answer) == shape_of(captures.frames("private-account-documented")[0])
        assert answer["code"] == "0"

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"apiKey": "unknown"}, "60032"),
            ({"passphrase": "another"}, "60024"),
            ({"sign": "bm8="}, "60007"),
            ({"timestamp": "1795262400000"}, "60004"),
            ({"timestamp": "1795262300"}, "60006"),
            ({"sign": ""}, "60009"),
        ],
    )
    def test_what_is_wrong_with_a_login_is_said(self, venue: Any, changes: dict[str, str], code: str) -> None:
        client = venue.connect("private")
        answer = client.login(**changes)
        assert (answer["event"], answer["code"]) == ("error", code)
        assert client.subscribe({"channel": "account"})[0]["code"] == "60011"

    def test_a_second_login_is_refused(self, venue: Any) -> None:
        client = venue.logged_in()
        assert client.login()["code"] == "60031"


class TestSubscriptions:
    @pytest.mark.parametrize(
        ("plane", "arg", "code"),
        [
            ("public", {"channel": "books", "instId": "BTC-EUR"}, "60018"),
            ("public", {"channel": "book", "instId": "BTC-USDT"}, "60018"),
            ("public", {"channel": "trades-all", "instId": "BTC-USDT"}, "60018"),
            ("business", {"channel": "books", "instId": "BTC-USDT"}, "60018"),
            ("private", {"channel": "books", "instId": "BTC-USDT"}, "60018"),
            ("public", {"channel": "account"}, "60018"),
            ("private", {"channel": "orders", "instType": "ANY"}, "60011"),
            ("public", {"channel": "tickers", "uly": "BTC-USD"}, "64000"),
            ("public", {"channel": "books", "instID": "BTC-USDT"}, "60012"),
            ("public", {"channel": "instruments", "instType": "STOCK"}, "51000"),
        ],
    )
    def test_wrong_ones_get_an_error_of_their_own(self, venue: Any, plane: str, arg: Any, code: str) -> None:
        client = venue.connect(plane)
        good = {"channel": "status"} if plane == "public" else {"channel": "deposit-info"}
        frames = client.send({"id": "a1", "op": "subscribe", "args": [arg, good] if plane != "private" else [arg]})
        assert (frames[0]["event"], frames[0]["code"], frames[0]["id"]) == ("error", code, "a1")
        assert "arg" not in frames[0]
        if plane != "private":
            assert frames[1]["event"] == "subscribe"

    @pytest.mark.parametrize(
        "request_text",
        ["{", "[]", '{"op":"subscribe"}', '{"op":"list","args":[]}', '{"op":"subscribe","args":[],"id":"no-hyphen"}'],
    )
    def test_malformed_requests(self, venue: Any, captures: Any, request_text: str) -> None:
        (frame,) = venue.connect().send(request_text)
        assert frame["code"] == "60012"
        documented = captures.frames("spot-books-documented-2026")[1]
        assert frame.keys() == documented.keys() - {"id"}

    def test_an_hour_has_480_operations(self, venue: Any) -> None:
        client = venue.connect()
        for _ in range(480):
            client.subscribe({"channel": "status"})
        assert client.subscribe({"channel": "status"})[0]["code"] == "60014"
        assert client.send("ping") == ["pong"]

    def test_requests_are_at_most_64_kilobytes(self, venue: Any) -> None:
        client = venue.connect()
        client.send(json.dumps({"op": "subscribe", "args": [{"channel": "x" * 65_536}]}))
        assert client.line.closed == 1009


class TestConnections:
    def test_silence_closes_and_a_ping_prevents_it(self, venue: Any) -> None:
        quiet, pinging = venue.connect(), venue.connect()
        for _ in range(3):
            pinging.after(20_000)
            assert pinging.send("ping") == ["pong"]
        quiet.after(50)
        assert quiet.line.closed == 4004
        assert pinging.line.closed is None

    def test_three_connections_a_second(self, venue: Any) -> None:
        venue.clock.ms += 1000 - venue.clock.ms % 1000
        for plane in ("public", "private", "business"):
            venue.connect(plane)
            venue.clock.ms -= 400
        refusal = venue.sandbox.connect("public_stream", "/ws/v5/public", {}, None)
        assert isinstance(refusal, HttpResponse)
        assert refusal.status == 429
        venue.clock.ms += 1000
        venue.connect()

    @pytest.mark.parametrize("target", ["/", "/ws/v5", "/ws/v5/other", "/v5/public"])
    def test_only_three_urls_are_served(self, venue: Any, target: str) -> None:
        refusal = venue.sandbox.connect("public_stream", target, {}, None)
        assert isinstance(refusal, HttpResponse)
        assert refusal.status == 404

    def test_every_host_serves_all_three(self, venue: Any) -> None:
        for plane in ("public", "private", "business"):
            assert not isinstance(venue.sandbox.connect("public_stream", f"/ws/v5/{plane}", {}, None), HttpResponse)

    def test_an_upgrade_is_announced_as_documented(
        self, venue: Any, captures: Any, shape_of: Callable[[Any], Any]
    ) -> None:
        client = venue.connect()
        venue.sandbox.announce_upgrade()
        (notice,) = client.line.take()
        documented = captures.frames("spot-books-documented-2026")[-1]
        assert shape_of(notice) == shape_of(documented)
        assert (notice["event"], notice["code"]) == ("notice", "64008")

    def test_a_channel_of_an_account_is_held_by_so_many_connections(self, make_venue: Any) -> None:
        venue = make_venue(SandboxLimits(sessions_per_channel=2))
        arg = {"channel": "orders", "instType": "ANY"}
        counts = [venue.logged_in().subscribe(arg)[1] for _ in range(3)]
        assert [(frame["event"], frame["connCount"]) for frame in counts] == [
            ("channel-conn-count", "1"),
            ("channel-conn-count", "2"),
            ("channel-conn-count-error", "2"),
        ]


class TestFaults:
    def test_only_orders_are_commands(self, venue: Any) -> None:
        def commands(method: str, path: str) -> bool:
            return bool(venue.sandbox.mutating(HttpRequest("rest", method, f"/api/v5{path}", {}, b"")))

        assert commands("POST", "/trade/order")
        assert commands("POST", "/trade/cancel-batch-orders")
        assert commands("POST", "/trade/order-algo")
        assert not commands("GET", "/trade/order")
        assert not commands("POST", "/account/set-leverage")
        assert not commands("POST", "/trade/nothing")

    def test_injected_answers_are_the_venues(self, venue: Any) -> None:
        request = HttpRequest("rest", "GET", "/api/v5/public/time", {}, b"")
        assert code_of(venue.sandbox.too_many_requests(request, 1)) == (429, "50011")
        assert code_of(venue.sandbox.server_error(request)) == (503, "50001")
