"""JSON bodies with exact numbers: decoded from the raw bytes, never through a float, then validated."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
import pydantic
from starlette.requests import Request

from astra.errors import BadRequest
from astra.models.base import Model
from astra_gateway.query import explain

AnyModel = TypeVar("AnyModel", bound=Model)


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what a Decimal holds
        raise ValueError(f"the number {text[:40]} is out of range") from None


_decode = msgspec.json.Decoder(float_hook=_exact).decode


async def read_object(request: Request) -> dict[str, Any]:
    """The request's body, a JSON object, with decimals as written. Raises `BadRequest` with the place of a fault."""
    raw = await request.body()
    if not raw.strip():
        raise BadRequest("the body is empty; it must be a JSON object")
    try:
        decoded = _decode(raw)
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 text (byte {error.start})") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise BadRequest(f"the body is not valid JSON: {_placed(str(error), raw)}") from None
    if not isinstance(decoded, dict):
        raise BadRequest(f"the body must be a JSON object, not {_KINDS.get(type(decoded), 'a number')}")
    return decoded


def validated(model: type[AnyModel], fields: dict[str, Any]) -> AnyModel:
    """The fields as a model. Raises `BadRequest` that names each field that is wrong."""
    try:
        return model.model_validate(fields)
    except pydantic.ValidationError as error:
        known = {str(field.alias or name): None for name, field in model.model_fields.items()}
        raise BadRequest(explain(error, "field", known)) from None


def take_text(fields: dict[str, Any], name: str) -> str:
    """Take a required text out of the fields."""
    value = fields.pop(name, None)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"field {name!r} is missing" if value is None else f"field {name!r} must be a text")
    return value


def take_optional_text(fields: dict[str, Any], name: str) -> str | None:
    """Take a text out of the fields, if it is there."""
    return None if fields.get(name) is None else take_text(fields, name)


def _placed(message: str, raw: bytes) -> str:
    return f"it ends too early (byte {len(raw)})" if "truncated" in message else message


_KINDS = {list: "an array", str: "a text", bool: "true or false", type(None): "null"}
