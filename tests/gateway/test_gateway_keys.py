"""API keys: made once, kept as a hash, checked on everything, ended within a second."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import anyio
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from websockets.exceptions import InvalidStatus

from astra.errors import BadRequest, ConfigError
from astra.testing import ManualClock
from astra_gateway.database import Database
from astra_gateway.errors import ApiKeyRateLimited, ApiKeyRefused, DatabaseUnavailable, ScopeMissing
from astra_gateway.keys import KeyStore, Scope
from astra_gateway.settings import GatewaySettings, check_bind

pytestmark = pytest.mark.anyio

MARKETS = {"exchange": "TOY"}


async def test_a_key_opens_what_its_absence_closes(stage: Any) -> None:
    issued = await stage.issue()
    for headers, status in (
        ({"x-astra-api-key": f"Bearer {issued.key}"}, 200),
        ({"x-astra-api-key": f"bearer {issued.key}"}, 200),
        ({"x-astra-api-key": ""}, 401),
        ({"x-astra-api-key": issued.key}, 401),
        ({"x-astra-api-key": "Bearer"}, 401),
        ({"x-astra-api-key": "Bearer nodot"}, 401),
        ({"x-astra-api-key": f"Bearer {issued.key[:-1]}"}, 401),
        ({"x-astra-api-key": f"Bearer {issued.record.id}."}, 401),
        ({"x-astra-api-key": f"Bearer x{issued.key}"}, 401),
        ({"x-astra-api-key": "Bearer \xff\xfe.\xff"}, 401),
    ):
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await stage.http.get("/markets", params=MARKETS, headers=encoded)
        assert answer.status_code == status, headers
        if status == 401:
            assert answer.headers["content-type"] == "application/problem+json"
            assert (answer.json()["code"], "www-authenticate" in answer.headers) == ("api-key", True)


async def test_no_key_or_two_keys_are_refused_with_how_to_send_one(stage: Any) -> None:
    del stage.http.headers["x-astra-api-key"]
    for headers, said in (
        ([], "x-astra-api-key: Bearer"),
        ([("authorization", "Bearer static.key")], "not Authorization"),
        ([("x-astra-api-key", "Bearer a.b"), ("x-astra-api-key", "Bearer c.d")], "2 times"),
    ):
        answer = await stage.http.get("/markets", params=MARKETS, headers=headers)
        assert answer.status_code == 401
        assert said in answer.json()["detail"]
    assert stage.world.calls == []


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/openapi.json", "/docs"])
async def test_probes_and_documents_need_no_key(stage: Any, path: str) -> None:
    del stage.http.headers["x-astra-api-key"]
    assert (await stage.http.get(path)).status_code == 200
    assert (await stage.http.post(path)).status_code == 401
    assert (await stage.http.get(path + "/x")).status_code == 401


async def test_only_a_hash_of_the_secret_is_stored(keys: KeyStore, tmp_path: Any) -> None:
    issued = await keys.create("bot", Scope.TRADE)
    secret = issued.secret.get_secret_value()
    assert len(secret) >= 43
    assert secret not in repr(issued)
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        assert secret.encode() not in content
        assert file.stat().st_mode & 0o077 == 0, f"{file} is readable by others"
    engine = create_engine(f"sqlite:///{tmp_path / 'keys.db'}")
    with engine.begin() as connection:
        stored = connection.execute(text("SELECT secret_sha256 FROM api_keys")).scalar_one()
    engine.dispose()
    assert stored == hashlib.sha256(secret.encode()).digest()


async def test_a_key_revoked_by_another_process_is_refused_within_a_second(tmp_path: Any) -> None:
    url, clock = f"sqlite:///{tmp_path / 'keys.db'}", ManualClock()
    here, elsewhere = Database(url), Database(url)
    serving, operator = KeyStore(here, clock), KeyStore(elsewhere, clock)
    issued = await operator.create()
    header = f"Bearer {issued.key}"
    assert (await serving.verify(header)).id == issued.record.id
    await operator.revoke(issued.record.id)
    await clock.advance(1.0)
    with pytest.raises(ApiKeyRefused, match="revoked"):
        await serving.verify(header)
    with pytest.raises(ApiKeyRefused, match="revoked"):
        await operator.verify(header)
    await here.aclose()
    await elsewhere.aclose()


async def test_a_busy_key_costs_one_look_up_a_second(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    issued = await keys.create()
    header = f"Bearer {issued.key}"
    await keys.verify(header)
    looked_up = 0
    run = keys.database.run

    async def counted(*args: Any) -> Any:
        nonlocal looked_up
        looked_up += 1
        return await run(*args)

    monkeypatch.setattr(keys.database, "run", counted)
    for _ in range(100):
        await keys.verify(header)
    for _ in range(100):
        with pytest.raises(ApiKeyRefused):
            await keys.verify(f"Bearer {issued.record.id}.wrong")
    assert looked_up <= 1


async def test_what_is_remembered_is_bounded(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("astra_gateway.keys.REMEMBERED_KEYS", 8)
    for number in range(30):
        with pytest.raises(ApiKeyRefused):
            await keys.verify(f"Bearer nobody{number}.secret")
    assert len(keys._verified) == 8


async def test_a_key_ends_when_it_expires() -> None:
    clock = ManualClock()
    database = Database("sqlite://")
    store = KeyStore(database, clock)
    issued = await store.create(expires_ms=clock.wall_ns() // 1_000_000 + 60_000)
    assert await store.verify(f"Bearer {issued.key}")
    await clock.advance(61)
    with pytest.raises(ApiKeyRefused, match="expired"):
        await store.verify(f"Bearer {issued.key}")
    with pytest.raises(BadRequest):
        await store.create(expires_ms=1)
    await database.aclose()


async def test_a_key_has_its_own_request_rate() -> None:
    clock = ManualClock()
    database = Database("sqlite://")
    store = KeyStore(database, clock)
    slow = (await store.create(requests_per_s=2)).record
    fast = (await store.create()).record
    for _ in range(2):
        store.admit(slow)
    with pytest.raises(ApiKeyRateLimited) as refused:
        store.admit(slow)
    assert refused.value.retry_after == pytest.approx(0.5)
    for _ in range(1000):
        store.admit(fast)
    await clock.advance(0.5)
    store.admit(slow)
    with pytest.raises(ApiKeyRateLimited):
        store.admit(slow)
    await database.aclose()


async def test_a_used_up_rate_is_a_429_and_asks_no_venue(stage: Any) -> None:
    issued = await stage.issue(requests_per_s=0.1)
    headers = {"x-astra-api-key": f"Bearer {issued.key}"}
    assert (await stage.http.get("/markets", params=MARKETS, headers=headers)).status_code == 200
    answer = await stage.http.get("/orderbook", params={"market": "TOY-SPOT-BTC-USDT"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (429, "api-key-rate-limited")
    assert int(answer.headers["retry-after"]) >= 9
    assert stage.world.count("get_orderbook") == 0


async def test_the_last_use_is_noted_at_most_once_a_minute() -> None:
    clock = ManualClock()
    database = Database("sqlite://")
    store = KeyStore(database, clock)
    issued = await store.create()
    used = []
    for _ in range(3):
        await store.verify(f"Bearer {issued.key}")
        used.append((await store.list())[0].last_used_ms)
        await clock.advance(40)
    assert used[0] == used[1]
    assert used[2] == used[0] + 80_000
    await database.aclose()


async def test_scopes_include_those_below_them(keys: KeyStore) -> None:
    for scope, reaches in (
        (Scope.READ, [Scope.READ]),
        (Scope.TRADE, [Scope.READ, Scope.TRADE]),
        (Scope.ADMIN, [Scope.READ, Scope.TRADE, Scope.ADMIN]),
    ):
        record = (await keys.create(scope=scope)).record
        for wanted in Scope:
            if wanted in reaches:
                record.require(wanted)
            else:
                with pytest.raises(ScopeMissing, match=f"--scope {wanted.value}"):
                    record.require(wanted)


async def test_revoking_an_unknown_key_says_so(keys: KeyStore) -> None:
    with pytest.raises(BadRequest, match="nobody"):
        await keys.revoke("nobody")


async def test_a_secret_is_never_logged_or_shown(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    issued = await stage.issue()
    secret = issued.secret.get_secret_value()
    with caplog.at_level(logging.DEBUG):
        headers = {"x-astra-api-key": f"Bearer {issued.key}"}
        answers = [
            await stage.http.get("/markets", params=MARKETS, headers=headers),
            await stage.http.get("/nowhere", headers=headers),
            await stage.http.get("/markets", params=MARKETS, headers={"x-astra-api-key": f"Bearer nobody.{secret}"}),
            await stage.http.get("/markets", params={"x-astra-api-key": issued.key}, headers=headers),
        ]
        with pytest.raises(InvalidStatus):
            async with stage.ws(f"/ws?x-astra-api-key={issued.key}", key=issued.key):
                pass
        async with stage.ws("/ws", key=issued.key):
            pass
    ours = [one for one in caplog.records if not one.name.startswith(("http", "websockets.client"))]
    logged = "\n".join(f"{one.name} {one.getMessage()}" for one in ours)
    assert "uvicorn.error" in logged
    assert secret not in logged
    assert all(secret not in answer.text for answer in answers)


async def test_a_database_that_cannot_be_used_says_what_is_wrong(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="malformed"):
        Database("no url")
    with pytest.raises(ConfigError, match="cannot be used"):
        await KeyStore(Database("nodb://somewhere/x"), ManualClock()).list()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        await KeyStore(Database(f"sqlite:///{tmp_path / 'file' / 'x.db'}"), ManualClock()).list()
    (tmp_path / "broken.db").write_text("this is no database" * 100)
    broken = Database(f"sqlite:///{tmp_path / 'broken.db'}")
    with pytest.raises(DatabaseUnavailable):
        await KeyStore(broken, ManualClock()).list()
    await broken.aclose()
    assert "hidden" not in repr(Database("postgresql://user:hidden@host/db"))


async def test_many_at_once_share_the_database(keys: KeyStore) -> None:
    issued = [await keys.create(str(number)) for number in range(5)]

    async def use(number: int) -> None:
        await keys.verify(f"Bearer {issued[number % 5].key}")
        await keys.create(f"new {number}")

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(use, number)
    assert len(await keys.list()) == 45


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "TLS proxy"),
        ({"host": "::"}, "TLS proxy"),
        ({"host": "example.com"}, "TLS proxy"),
        ({"metrics_host": "0.0.0.0"}, "metrics_host"),
        ({"host": "0.0.0.0", "public": True, "api_key": SecretStr("short")}, "5 characters"),
    ],
)
def test_a_public_address_has_to_be_asked_for(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_bind(GatewaySettings(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "127.9.9.9"},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "public": True},
        {"metrics": False, "metrics_host": "0.0.0.0"},
    ],
)
def test_this_machine_alone_needs_no_asking(settings: dict[str, Any]) -> None:
    check_bind(GatewaySettings(**settings))
