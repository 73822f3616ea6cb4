"""Checks that an order passes before it leaves: the market's steps and limits, and the client order id's format."""

from __future__ import annotations

import random
import re
import string
from decimal import Decimal
from functools import lru_cache

import msgspec

from astra.errors import InvalidOrder
from astra.models.markets import Market
from astra.models.orders import OrderChange, OrderRequest

_INT64_MAX = 2**63 - 1
_RANDOM_CHARACTERS = 12


@lru_cache(maxsize=256)
def _pattern(alphabet: str, min_length: int, max_length: int) -> re.Pattern[str]:
    return re.compile(f"[{alphabet}]{{{min_length},{max_length}}}")


@lru_cache(maxsize=256)
def _made_of(alphabet: str) -> str:
    """The characters that made ids consist of: those a venue is least likely to fold, trim or escape."""
    allowed = re.compile(f"[{alphabet}]")
    for preferred in (string.digits + string.ascii_lowercase, string.digits + string.ascii_uppercase, string.printable):
        characters = "".join(c for c in preferred if allowed.fullmatch(c) and not c.isspace())
        if len(characters) >= 10:
            return characters
    raise ValueError(f"the alphabet [{alphabet}] has fewer than ten printable characters")


def _digits(number: int, characters: str) -> str:
    """`number` written in base `len(characters)`."""
    text = ""
    while True:
        number, digit = divmod(number, len(characters))
        text = characters[digit] + text
        if not number:
            return text


class ClientIdRule(msgspec.Struct, frozen=True):
    """A venue's rule for client order ids.

    `alphabet` is the text of a regular-expression character class ("A-Za-z0-9_-"). With `integer` an id is the text
    of a whole number from 1 to 2^63 - 1. `prefix` starts the ids that Astra makes; a caller's own need not have it.
    """

    max_length: int
    alphabet: str
    min_length: int = 1
    integer: bool = False
    prefix: str = ""

    def make(self, random: random.Random, now_ms: int) -> str:
        """A new id in the venue's format: the time, then as many random characters as there is room for (up to 12).

        The time keeps ids of a restarted process apart even when its generator was seeded alike.
        """
        if self.integer:
            return self._make_integer(random, now_ms)
        characters = _made_of(self.alphabet)
        room = self.max_length - len(self.prefix)
        # Where room is short half of it stays random: ids of one millisecond must differ, too.
        stamp = _digits(now_ms, characters)[-max(room - _RANDOM_CHARACTERS, room // 2, 0) :] if room > 1 else ""
        tail = "".join(random.choices(characters, k=min(_RANDOM_CHARACTERS, room - len(stamp))))
        made = self.prefix + stamp + tail
        return made + "".join(random.choices(characters, k=max(0, self.min_length - len(made))))

    def _make_integer(self, random: random.Random, now_ms: int) -> str:
        if self.max_length >= 19 and not self.prefix:
            return str((now_ms % 2**41) << 22 | random.getrandbits(22) | 1 << 22 * (now_ms == 0))
        low = 10 ** (self.max_length - len(self.prefix) - 1)
        return self.prefix + str(random.randrange(low, 10 * low))

    def check(self, client_order_id: str, exchange: str) -> None:
        """Raise `InvalidOrder` (rule "client-order-id") that says the rule unless the id keeps it."""
        if self.integer:
            if re.fullmatch(r"[1-9][0-9]{0,18}", client_order_id, re.ASCII) and int(client_order_id) <= _INT64_MAX:
                if len(client_order_id) <= self.max_length:
                    return
            wanted = f"a whole number from 1 to {min(_INT64_MAX, 10**self.max_length - 1)}"
        else:
            if _pattern(self.alphabet, self.min_length, self.max_length).fullmatch(client_order_id):
                return
            wanted = f"{self.min_length} to {self.max_length} characters out of [{self.alphabet}]"
        raise InvalidOrder(
            f"clientOrderId {client_order_id!r} does not keep the venue's format: {wanted}",
            exchange=exchange,
            rule="client-order-id",
        )


def native_quantity(market: Market, order: OrderRequest | OrderChange) -> Decimal:
    """The quantity that goes on the wire: contracts for contract markets, base units elsewhere."""
    raise NotImplementedError


def check_order(market: Market, order: OrderRequest) -> None:
    """Raise `InvalidOrder` with the rule that `order` breaks in `market`, if any."""
    raise NotImplementedError


def check_change(market: Market, change: OrderChange) -> None:
    """Raise `InvalidOrder` with the rule that `change` breaks in `market`, if any."""
    raise NotImplementedError
