"""Writes docs/venues.md from the code of the venues: products down, hooks across.

Run it after a venue has learnt something: `python tests/docs/venue_table.py`. A test says when the page is out of date.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path

from astra.families import HOOKS, FamilyVenue

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "venues.md"

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "book": ("get_orderbook",),
    "live book": ("stream_orderbook",),
    "live trades": ("stream_trades",),
    "place": ("place_order",),
    "batch": ("place_orders",),
    "amend": ("amend_order",),
    "cancel": ("cancel_order",),
    "cancel batch": ("cancel_orders",),
    "cancel all": ("cancel_all_orders",),
    "look-up": ("get_order",),
    "open orders": ("list_orders",),
    "fills": ("list_fills",),
    "balances": ("get_balances",),
    "positions": ("get_positions",),
    "fees": ("get_fees",),
    "leverage": ("set_leverage",),
    "margin mode": ("set_margin_mode",),
    "position mode": ("set_position_mode",),
    "dead-man timer": ("keep_alive_orders",),
    "account stream": ("stream_account",),
}
"""Heading -> the hooks that it stands for."""

assert set(HOOKS) - {hook for hooks in COLUMNS.values() for hook in hooks} == {"resolve_order"}


def venues() -> Iterator[type[FamilyVenue]]:
    """The venues of the repository, by name."""
    for path in sorted([*ROOT.glob("astra_*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for name, target in project.get("entry-points", {}).get("astra.venues", {}).items():
            yield EntryPoint(name, target, "astra.venues").load()


@cache
def titles() -> Mapping[str, str]:
    """Exchange code -> the venue's name."""
    directory = tomllib.loads((ROOT / "core/src/astra/directory.toml").read_text(encoding="utf-8"))
    return {code: entry["title"] for code, entry in directory["venues"].items()}


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def page() -> str:
    lines = [
        "# Venues and what they offer",
        "",
        "Written from the code (`python tests/docs/venue_table.py`): a product offers what its venue implements for",
        "it. What is missing raises `UnsupportedOperation`, which names venue and operation; usually the venue's own",
        "API has nothing of the kind. Account-wide operations are marked for every product that they include. Each",
        "venue's own page tells its symbols, order types, limits, quirks, and how its books are proved right.",
        "",
        row(["venue", "product", *COLUMNS]),
        row(["---", "---", *[":-:"] * len(COLUMNS)]),
    ]
    for venue in venues():
        folder = venue.__module__.partition(".")[0]
        place = f"../{folder}" if (ROOT / folder).is_dir() else f"../plugins/{folder}"
        for product, hooks in venue.offers().items():
            marks = ["yes" if all(hook in hooks for hook in wanted) else "" for wanted in COLUMNS.values()]
            lines.append(row([f"[{titles().get(venue.code, venue.code)}]({place}/README.md)", f"`{product}`", *marks]))
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
