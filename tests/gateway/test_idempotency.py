"""`Idempotency-Key`: however often a placement is repeated, it is carried out once."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio
import pytest
from sqlalchemy import create_engine, text

from astra import errors
from astra.trading.checks import ClientIdRule
from astra_gateway.keys import Scope
from astra_rest import idempotency

pytestmark = pytest.mark.anyio

BTC = "TOY-SPOT-BTC-USDT"
ORDER = {"market": BTC, "side": "BUY", "type": "LIMIT", "price": 20000, "quantity": 1.5}


async def place(stage: Any, key: str = "k1", order: Any = ORDER, **options: Any) -> Any:
    headers = {"idempotency-key": key} | options.pop("headers", {})
    return await stage.http.post("/orders", json=order, headers=headers, **options)


def rows(tmp_path: Any, statement: str, **values: Any) -> Any:
    engine = create_engine(f"sqlite:///{tmp_path / 'gateway.db'}")
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.mappings().all() if result.returns_rows else None
    finally:
        engine.dispose()


def lost() -> errors.OrderOutcomeUnknown:
    return errors.OrderOutcomeUnknown("the answer was lost", exchange="TOY", market=BTC, client_order_id="?")


async def test_a_repeat_gets_the_same_answer_and_places_nothing(stage: Any) -> None:
    first = await place(stage)
    again = await place(stage)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.text == again.text
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(stage.world.placed) == 1
    written_differently = await stage.http.post(
        "/orders?numbers=string",
        content=f'{{"quantity":"1.50","price":2e4,"type":"limit","side":"buy","market":"{BTC}"}}',
        headers={"idempotency-key": "k1"},
    )
    assert written_differently.json()["quantity"] == "1.5"
    assert len(stage.world.placed) == 1


async def test_the_client_order_id_is_derived_from_the_key(stage: Any) -> None:
    placed = (await place(stage, "k1")).json()["clientOrderId"]
    other = (await place(stage, "k2")).json()["clientOrderId"]
    assert placed != other
    rule = ClientIdRule(max_length=24, alphabet="a-z0-9")
    assert placed == idempotency.client_order_id(rule, idempotency.placement_id("static", "k1"))
    rule.check(placed, "TOY")
    own = await place(stage, "k3", ORDER | {"clientOrderId": "mine"})
    assert own.json()["clientOrderId"] == "mine"


@pytest.mark.parametrize(
    "rule",
    [
        ClientIdRule(max_length=36, alphabet="A-Za-z0-9_-"),
        ClientIdRule(max_length=32, alphabet="A-Za-z0-9", prefix="xabc"),
        ClientIdRule(max_length=19, alphabet="0-9", integer=True),
    ],
)
def test_derived_ids_keep_every_rule_and_are_the_same_each_time(rule: ClientIdRule) -> None:
    made = set()
    for number in range(300):
        placement = idempotency.placement_id("caller", f"key {number}")
        one = idempotency.client_order_id(rule, placement)
        rule.check(one, "TOY")
        assert one == idempotency.client_order_id(rule, placement)
        made.add(one)
    assert len(made) == 300


@pytest.mark.parametrize("change", [{"quantity": 2}, {"market": "TOY-SPOT-ETH-USDT"}, {"side": "SELL"}])
async def test_a_key_is_not_taken_for_another_order(stage: Any, change: Any) -> None:
    await place(stage)
    other = await place(stage, "k1", ORDER | change)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(stage.world.placed) == 1


async def test_a_key_is_not_taken_for_another_account(stage: Any) -> None:
    await place(stage)
    keys = {"x-astra-exchange-key": "k", "x-astra-exchange-secret": "s"}
    other = await place(stage, headers=keys)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")


async def test_keys_of_different_callers_have_nothing_to_do_with_each_other(stage: Any) -> None:
    trader = await stage.issue(Scope.TRADE)
    await place(stage)
    await place(stage, headers={"x-astra-api-key": f"Bearer {trader.key}"})
    assert len(stage.world.placed) == 2
    assert len({order.client_order_id for order in stage.world.placed}) == 2


async def test_repeats_at_the_same_time_wait_for_the_one_that_is_sent(stage: Any) -> None:
    release = anyio.Event()
    stage.world.before["place_order"] = release.wait
    answers: list[Any] = []

    async def repeat() -> None:
        answers.append(await place(stage))

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(repeat)
        await anyio.sleep(0.2)
        release.set()
    assert {answer.text for answer in answers} == {answers[0].text}
    assert [answer.status_code for answer in answers] == [200] * 10
    assert len(stage.world.placed) == 1


async def test_an_unknown_outcome_is_found_out_by_the_repeat(stage: Any) -> None:
    stage.world.errors["place_order"] = [lost()]
    assert (await place(stage)).status_code == 504
    made = stage.world.placed[0].client_order_id
    market = (await stage.astra.market(BTC)).symbol
    stage.world.fate = stage.world.order(await stage.astra.market(market), client_order_id=made)
    found = await place(stage)
    assert (found.status_code, found.json()["clientOrderId"]) == (200, made)
    assert len(stage.world.placed) == 1
    assert (await place(stage)).text == found.text
    assert stage.world.count("resolve_order") == 1


async def test_an_order_that_certainly_was_not_placed_is_sent_again_under_the_same_id(stage: Any) -> None:
    stage.world.before["place_order"] = lambda: anyio.sleep(0.02)
    stage.world.errors["place_order"] = [lost()]
    stage.world.fate = False
    assert (await place(stage)).status_code == 504
    assert (await place(stage)).status_code == 200
    first, second = stage.world.placed
    assert first.client_order_id == second.client_order_id
    asked = [what for operation, what in stage.world.calls if operation == "resolve_order"]
    assert [name for name, _ in asked] == [first.client_order_id] * 2
    latest, earliest = (since for _, since in asked)
    assert earliest < latest


async def test_a_lost_answer_that_is_resolved_at_once_is_an_ordinary_answer(open_stage: Any) -> None:
    async with open_stage(resolve_s=5) as stage:
        described = await stage.astra.market(BTC)
        stage.world.errors["place_order"] = [lost(), lost()]
        stage.world.fate = False
        certainly_not = await place(stage)
        assert (certainly_not.status_code, certainly_not.json()["retryable"]) == (503, True)
        made = stage.world.placed[0].client_order_id
        stage.world.fate = stage.world.order(described, client_order_id=made, id="found")
        assert (await place(stage)).json()["id"] == "found"
        assert (await place(stage)).headers["idempotency-replayed"] == "true"
        first, second = stage.world.placed
        assert first.client_order_id == second.client_order_id


async def test_while_it_cannot_be_told_nothing_is_sent(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "RESOLVE_S", 0.3)
    stage.world.errors["place_order"] = [lost()]
    assert (await place(stage)).status_code == 504
    assert (await place(stage)).json()["outcome"] == "UNKNOWN"
    assert len(stage.world.placed) == 1
    stage.world.fate = False
    assert (await place(stage)).status_code == 200
    assert len(stage.world.placed) == 2


async def test_a_refusal_of_the_order_is_the_answer_to_repeats_too(stage: Any) -> None:
    stage.world.errors["place_order"] = [errors.InsufficientFunds("not enough", exchange="TOY", code="-2010")]
    first = await place(stage)
    again = await place(stage)
    assert (first.status_code, again.status_code) == (422, 422)
    assert first.json() == again.json()
    assert again.headers["content-type"] == "application/problem+json"
    assert len(stage.world.placed) == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimited("slow down", exchange="TOY", retry_after=0.1),
        errors.VenueUnavailable("down", exchange="TOY"),
        errors.AuthenticationError("bad key", exchange="TOY"),
        errors.PermissionDenied("IP list", exchange="TOY"),
    ],
)
async def test_a_refusal_that_may_pass_frees_the_key(stage: Any, error: errors.VenueError) -> None:
    stage.world.errors["place_order"] = [error]
    assert (await place(stage)).status_code >= 400
    assert (await place(stage)).status_code == 200
    first, second = stage.world.placed
    assert first.client_order_id == second.client_order_id


async def test_what_will_be_sent_is_stored_before_it_is_sent(stage: Any, tmp_path: Any) -> None:
    stored: list[Any] = []

    async def look() -> None:
        found = await anyio.to_thread.run_sync(lambda: rows(tmp_path, "SELECT * FROM idempotent_placements"))
        stored.extend(found)

    stage.world.before["place_order"] = look
    await place(stage)
    assert stored[0]["client_order_id"] == stage.world.placed[0].client_order_id
    assert stored[0]["status"] is None


async def test_a_crash_in_the_middle_is_found_out_by_the_next_process(
    stage: Any, open_stage: Any, tmp_path: Any
) -> None:
    stage.world.errors["place_order"] = [lost()]
    await place(stage)
    rows(tmp_path, "UPDATE idempotent_placements SET claimed_until_ms = :until", until=2**52)
    made = stage.world.placed[0].client_order_id
    async with open_stage() as other:
        busy = await place(other)
        assert (busy.status_code, busy.json()["code"]) == (409, "idempotency-in-progress")
        assert busy.headers["retry-after"]
        rows(tmp_path, "UPDATE idempotent_placements SET claimed_until_ms = 1")
        stage.world.fate = stage.world.order(await other.astra.market(BTC), client_order_id=made)
        found = await place(other)
        assert (found.status_code, found.json()["clientOrderId"]) == (200, made)
    assert len(stage.world.placed) == 1


async def test_old_placements_are_forgotten(stage: Any, tmp_path: Any) -> None:
    await place(stage, "old")
    rows(tmp_path, "UPDATE idempotent_placements SET created_ms = 1, claimed_until_ms = 1")
    await place(stage, "new")
    assert len(rows(tmp_path, "SELECT id FROM idempotent_placements")) == 1


async def test_a_database_that_fails_stops_the_order_and_says_so(stage: Any, tmp_path: Any) -> None:
    await place(stage, "k0")
    rows(tmp_path, "DROP TABLE idempotent_placements")
    answer = await place(stage)
    assert (answer.status_code, answer.json()["code"]) == (503, "database")
    assert len(stage.world.placed) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
async def test_a_malformed_key_is_refused(stage: Any, key: str) -> None:
    answer = await place(stage, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert stage.world.placed == []


async def test_a_random_history_of_repeats_and_failures_places_each_order_once(stage: Any) -> None:
    """A venue that loses answers, refuses and recovers at random: no order is doubled, none is forgotten."""
    chance = random.Random(7)
    live: set[str] = set()
    described = await stage.astra.market(BTC)

    async def venue_places() -> None:
        made = stage.world.placed[-1].client_order_id
        fate = chance.random()
        if fate < 0.3:
            raise errors.RateLimited("slow down", exchange="TOY", retry_after=0.1)
        reached = fate < 0.8
        if reached:
            assert made not in live, "placed twice"
            live.add(made)
        if fate > 0.55:
            stage.world.fate = stage.world.order(described, client_order_id=made) if reached else False
            raise lost()

    stage.world.before["place_order"] = venue_places
    for number in range(25):
        for _ in range(40):
            answer = await place(stage, f"key {number}")
            if answer.status_code == 200:
                break
            assert answer.status_code in (429, 504), json.dumps(answer.json())
        assert answer.json()["clientOrderId"] in live
    assert len(live) == 25
