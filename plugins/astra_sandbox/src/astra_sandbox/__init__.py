"""A matching engine and loopback server that speak the venues' native protocols.

The public names are imported when they are first used: the command line lists `astra sandbox` without loading them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astra_sandbox.engine import MatchingEngine as MatchingEngine
    from astra_sandbox.sandbox import Sandbox as Sandbox

__all__ = ["MatchingEngine", "Sandbox"]


def __getattr__(name: str) -> Any:
    if name == "Sandbox":
        from astra_sandbox.sandbox import Sandbox

        return Sandbox
    if name == "MatchingEngine":
        from astra_sandbox.engine import MatchingEngine

        return MatchingEngine
    raise AttributeError(f"module 'astra_sandbox' has no attribute {name!r}")
