"""What all boundary models share: frozen, camelCase in JSON, unknown fields refused, decimals kept exact."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pydantic.alias_generators import to_camel


def decimal_text(value: Decimal) -> str:
    """A decimal as plain text: no exponent, no superfluous trailing zeros ("0.10" -> "0.1", "1E+3" -> "1000")."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _from_exact(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError("pass a Decimal, int or str: a float has already lost digits")
    return value


def _finite(value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError("must be a finite number")
    return value


PlainDecimal = Annotated[
    Decimal,
    BeforeValidator(_from_exact),
    AfterValidator(_finite),
    PlainSerializer(decimal_text, return_type=str, when_used="json"),
]
"""A decimal that never was a float; printed in JSON as plain text."""


class Model(BaseModel):
    """Base of the boundary types: immutable, fields in snake_case in Python and camelCase in JSON."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
    )
