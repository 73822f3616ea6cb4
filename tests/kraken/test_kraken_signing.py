"""Signatures: the documented vectors, what goes into a request at sending, and nothing of a secret anywhere."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr

from astra.errors import AuthenticationError
from astra.models.credentials import ApiKey, Credentials
from astra.models.orders import OrderRequest
from astra_kraken.signing import (
    challenge_signature,
    derivatives_signature,
    rfc3339,
    secret_of,
    spot_signature,
)

pytestmark = pytest.mark.anyio


def vectors(recordings: Any) -> dict[str, Any]:
    return {one["name"]: one for one in recordings.vectors("signing")["vectors"]}


@pytest.mark.parametrize("name", ["spot-docs-addorder", "spot-json-addorderbatch"])
def test_a_spot_vector_reproduces(recordings: Any, name: str) -> None:
    vector = vectors(recordings)[name]
    secret = base64.b64decode(vector["secret"])
    assert spot_signature(secret, vector["path"], vector["nonce"], vector["body"].encode()) == vector["expected"]


def test_the_derivatives_vectors_reproduce(recordings: Any) -> None:
    vector = vectors(recordings)["futures-rest-sendorder-no-nonce"]
    secret = base64.b64decode(vector["secret"])
    assert derivatives_signature(secret, vector["path"], vector["post_data"]) == vector["expected"]
    vector = vectors(recordings)["futures-ws-challenge-docs"]
    assert challenge_signature(base64.b64decode(vector["secret"]), vector["challenge"]) == vector["expected"]


def test_every_vector_of_the_captures_is_known_here(recordings: Any) -> None:
    assert set(vectors(recordings)) == {
        "spot-docs-addorder",
        "spot-json-addorderbatch",
        "futures-ws-challenge-docs",
        "futures-rest-sendorder-no-nonce",
        "fix-logon-password",  # FIX is not spoken here
    }


def test_a_secret_that_is_none_is_refused_without_being_quoted() -> None:
    key = ApiKey(key=SecretStr("k"), secret=SecretStr("not base64!"))
    with pytest.raises(AuthenticationError) as caught:
        secret_of(key)
    assert "not base64!" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_times_are_written_as_both_apis_take_them() -> None:
    assert rfc3339(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"


def bid(**more: Any) -> OrderRequest:
    return OrderRequest.model_validate(
        {"side": "BUY", "type": "LIMIT", "quantity": "0.01", "price": "100", "client_order_id": "a-1", **more}
    )


async def test_spot_requests_carry_key_signature_growing_nonce_and_deadline(played: Any) -> None:
    played.http.spot("AddOrder", {"txid": ["OAAAAA-BBBBB-CCCCCC"], "descr": {}})
    played.http.spot("BalanceEx", {})
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    await played.venue.place_order(market, bid(), played.credentials)
    await played.venue.parts["spot"].balances(played.credentials)
    placed, asked = [one for one in played.http.requests if one.method == "POST"]
    for request in (placed, asked):
        assert request.headers["API-Key"] == played.credentials.keys["default"].key.get_secret_value()
        nonce = parse_qs(request.content.decode())["nonce"][0]
        secret = secret_of(played.credentials.keys["default"])
        assert request.headers["API-Sign"] == spot_signature(secret, request.url.path, nonce, request.content)
    first, second = (parse_qs(one.content.decode()) for one in (placed, asked))
    assert int(second["nonce"][0]) > int(first["nonce"][0]) >= played.clock.wall_ns() // 1000
    # The venue's clock is a second (and the middle of the told second) ahead.
    assert first["deadline"] == [rfc3339(played.venue.rest.spot.clock.now_ms() + 5000)]
    assert "deadline" not in second


async def test_a_json_request_is_signed_with_its_nonce_inside(played: Any) -> None:
    played.http.spot("CancelOrderBatch", {"count": 2})
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    family = played.venue.parts["spot"]
    refs = [family_ref("OA"), family_ref("OB")]
    await family._cancel_together(market, refs, played.credentials, "cancel_orders")
    (request,) = [one for one in played.http.requests if one.method == "POST"]
    body = json.loads(request.content)
    assert list(body) == ["nonce", "orders"]
    assert request.headers["Content-Type"] == "application/json"
    secret = secret_of(played.credentials.keys["default"])
    expected = spot_signature(secret, "/0/private/CancelOrderBatch", body["nonce"], request.content)
    assert request.headers["API-Sign"] == expected


def family_ref(txid: str) -> Any:
    from astra.models.orders import OrderRef

    return OrderRef(id=txid)


async def test_derivatives_commands_carry_their_expiry_and_no_nonce(played: Any, recordings: Any) -> None:
    played.http.answer("POST", "/derivatives/api/v3/sendorder", recordings.body("futures-sendorder"))
    market = await played.market("KRAKEN-PERP-ETH-USD")
    await played.venue.place_order(market, bid(), played.credentials)
    (request,) = [one for one in played.http.requests if one.method == "POST"]
    body = request.content.decode()
    assert parse_qs(body)["processBefore"] == [rfc3339(played.venue.rest.derivatives.clock.now_ms() + 5000)]
    assert "Nonce" not in request.headers
    secret = secret_of(played.credentials.keys["default"])
    assert request.headers["Authent"] == derivatives_signature(secret, request.url.path, body)


async def test_each_family_is_signed_with_its_own_key(played: Any, recordings: Any) -> None:
    secret = SecretStr(base64.b64encode(b"another").decode())
    keys = {
        "spot": played.credentials.keys["default"],
        "derivatives": ApiKey(key=SecretStr("futures-key"), secret=secret),
    }
    account = Credentials(exchange="KRAKEN", keys=keys)
    played.http.answer("GET", "/derivatives/api/v3/accounts", recordings.body("futures-accounts"))
    played.http.spot("BalanceEx", {})
    await played.venue.get_balances(account)
    sent = {one.url.path: one.headers for one in played.http.requests}
    assert sent["/derivatives/api/v3/accounts"]["APIKey"] == "futures-key"
    assert sent["/0/private/BalanceEx"]["API-Key"] == keys["spot"].key.get_secret_value()


async def test_a_nonce_that_was_refused_is_replaced_once_but_never_for_a_placement(played: Any) -> None:
    played.http.refuse("BalanceEx", "EAPI:Invalid nonce")
    played.http.spot("BalanceEx", {})
    assert await played.venue.parts["spot"].balances(played.credentials) == []
    assert len(played.http.asked("POST", "/0/private/BalanceEx")) == 2
    played.http.refuse("AddOrder", "EAPI:Invalid nonce")
    market = await played.market("KRAKEN-SPOT-BTC-USD")
    with pytest.raises(AuthenticationError):
        await played.venue.place_order(market, bid(), played.credentials)
    assert len(played.http.asked("POST", "/0/private/AddOrder")) == 1
