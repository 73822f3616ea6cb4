"""The dead man's switch: everything is cancelled unless the client calls again in time."""

from __future__ import annotations

from astra.sandbox import Account


class Switch:
    """Who has armed it, and until when."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[Account, int]] = {}

    def arm(self, account: Account, timeout_s: int, now_ms: int) -> int | None:
        """Start anew; 0 disarms. Gives when it strikes."""
        if timeout_s == 0:
            self._armed.pop(account.name, None)
            return None
        strikes = now_ms + timeout_s * 1000
        self._armed[account.name] = (account, strikes)
        return strikes

    def due(self, now_ms: int) -> list[Account]:
        """Whose time is up; they are disarmed by it."""
        found = [account for account, strikes in self._armed.values() if now_ms >= strikes]
        for account in found:
            del self._armed[account.name]
        return found
