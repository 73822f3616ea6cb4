"""Venues of one or several API families: who trades what, and what all of them are asked for.

A *family* is a part of a venue's trading API that is spoken to in one way, with one account: some venues have four,
some one for all their products. A venue names the family of each product; orders go to the family of their market,
questions about an account to all families at the same time. Hooks that no family of a venue implements are not hooks of
the venue, and what each product offers can be read from the classes (`FamilyVenue.offers`).
"""

from __future__ import annotations

from astra.families.trading import (
    HOOKS,
    RESOLVE_MARGIN_MS,
    REUSE_MS,
    SKEW_MS,
    FamilyTrading,
    in_order,
    offers,
    raise_gravest,
)
from astra.families.venue import FamilySettings, FamilyVenue, OrderbookSource

__all__ = [
    "HOOKS",
    "RESOLVE_MARGIN_MS",
    "REUSE_MS",
    "SKEW_MS",
    "FamilySettings",
    "FamilyTrading",
    "FamilyVenue",
    "OrderbookSource",
    "in_order",
    "offers",
    "raise_gravest",
]
