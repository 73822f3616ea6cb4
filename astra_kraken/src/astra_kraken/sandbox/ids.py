"""The venue's ids, made from the engine's numbers and read back: nothing is remembered.

Spot ids look like `OUF4EM-FRGI2-MQMWZD` (a letter for the kind and 80 bits in base 32), derivatives ids are UUIDs.
Numbers that follow one another give ids that do not.
"""

from __future__ import annotations

import re
from typing import Final

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TXID = re.compile(r"[A-Z][A-Z2-7]{5}-[A-Z2-7]{5}-[A-Z2-7]{6}\Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}\Z")
_SHORT, _LONG = 1 << 80, 1 << 120
_SHORT_FACTOR, _LONG_FACTOR = 0x9E3779B97F4A7C15F39D, 0x9E3779B97F4A7C15F39CC0605CEDC9
_SHORT_INVERSE, _LONG_INVERSE = pow(_SHORT_FACTOR, -1, _SHORT), pow(_LONG_FACTOR, -1, _LONG)
_TRADE_BITS = 40

ORDER, EXECUTION, TRADE, EVENT, CHALLENGE, ACCOUNT = range(1, 7)
"""Kinds of UUIDs."""


def txid(letter: str, number: int) -> str:
    """A spot id of the kind `letter` (O order, T trade or amendment, L ledger entry)."""
    mixed = number * _SHORT_FACTOR % _SHORT
    text = letter + "".join(_ALPHABET[mixed >> shift & 31] for shift in range(75, -1, -5))
    return f"{text[:6]}-{text[6:11]}-{text[11:]}"


def number_of_txid(text: str, letter: str) -> int | None:
    """The number behind a spot id of that kind; None for what is no such id."""
    if not _TXID.match(text) or text[0] != letter:
        return None
    mixed = 0
    for character in text[1:].replace("-", ""):
        mixed = mixed << 5 | _ALPHABET.index(character)
    return mixed * _SHORT_INVERSE % _SHORT


def uuid_of(kind: int, number: int) -> str:
    """A UUID for a number (below 2^100) of a kind."""
    digits = format((kind << 100 | number) * _LONG_FACTOR % _LONG, "030x")
    return f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-8{digits[15:18]}-{digits[18:]}"


def number_of_uuid(text: str, kind: int) -> int | None:
    """The number behind a UUID of that kind; None for what is no such id."""
    if not _UUID.match(text):
        return None
    digits = text.replace("-", "")
    value = int(digits[:12] + digits[13:16] + digits[17:], 16) * _LONG_INVERSE % _LONG
    return value & (1 << 100) - 1 if value >> 100 == kind else None


def fill_number(order_id: int, trade_id: int) -> int:
    """One number for one side of a match."""
    return order_id << _TRADE_BITS | trade_id


def order_and_trade(number: int) -> tuple[int, int]:
    """(order id, trade id) of a `fill_number`."""
    return number >> _TRADE_BITS, number & (1 << _TRADE_BITS) - 1
