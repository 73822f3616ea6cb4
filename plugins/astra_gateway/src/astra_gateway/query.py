"""Query parameters: read into a pydantic model, refused by name when they are not in it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from starlette.requests import HTTPConnection

from astra.errors import BadRequest, hint

NUMBERS_HEADER = "x-astra-numbers"


class Numbers(StrEnum):
    """How numbers are printed: as JSON numbers, or exactly, as text."""

    NUMBER = "number"
    STRING = "string"


class Query(BaseModel):
    """Base of the query parameters of a route: camelCase outside, unknown ones refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


AnyQuery = TypeVar("AnyQuery", bound=Query)


def read_query(model: type[AnyQuery], connection: HTTPConnection) -> AnyQuery:
    """The query parameters of the request. Raises `BadRequest` that names the parameter and says what is valid."""
    known = [str(field.alias) for field in model.model_fields.values()]
    given: dict[str, str] = {}
    for name, value in connection.query_params.multi_items():
        if name not in known:
            takes = f"; this path takes {', '.join(known)}" if known else "; this path takes none"
            raise BadRequest(f"unknown query parameter {name!r}{takes}.{hint(name, known)}")
        if name in given:
            raise BadRequest(f"query parameter {name!r} is given twice")
        given[name] = value
    try:
        return model.model_validate(given)
    except pydantic.ValidationError as error:
        raise BadRequest(explain(error, "query parameter")) from None


def explain(error: pydantic.ValidationError, what: str, known: Mapping[str, Any] | None = None) -> str:
    """A validation error as sentences: which field, what is wrong. Values are shown only where they are short."""
    return "; ".join(
        _sentence(detail, what, known) for detail in error.errors(include_url=False, include_context=False)
    )


def _sentence(detail: Any, what: str, known: Mapping[str, Any] | None) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if not name:
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{what} {name!r} is missing"
    if detail["type"] == "extra_forbidden":
        return f"unknown {what} {name!r}.{hint(name, known or ())}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = detail.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) and len(repr(given)) <= 60 else ""
    return f"{what} {name!r}: {message}{shown}"


def numbers_of(connection: HTTPConnection, asked: Numbers | None) -> Numbers:
    """How the caller wants numbers: the query parameter `numbers`, else the header, else JSON numbers."""
    if asked is not None:
        return asked
    header = connection.headers.get(NUMBERS_HEADER)
    if header is None:
        return Numbers.NUMBER
    try:
        return Numbers(header.strip().lower())
    except ValueError:
        raise BadRequest(f"header {NUMBERS_HEADER} is number or string, not {header[:40]!r}") from None
