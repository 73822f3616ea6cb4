"""The kill switch: while it is on, nothing but cancels passes."""

from __future__ import annotations

import os
from pathlib import Path

from astra_risk.errors import TradingHalted
from astra_risk.scope import SECTION


class KillSwitch:
    """On by setting, by a file that exists, or by a call; off only when none of the three holds."""

    def __init__(self, *, halted: bool, file: Path | None) -> None:
        self._halted = halted
        self._file = file
        self._reason: str | None = None

    def halt(self, reason: str) -> None:
        self._reason = reason

    def resume(self) -> None:
        self._reason = None

    def cause(self) -> tuple[str, str] | None:
        """(the setting or call, the reason) that keeps it on; None: it is off.

        The file is looked at now. When that fails for another reason than its absence the switch is on: whether
        somebody turned it cannot be told.
        """
        if self._reason is not None:
            return "halt()", self._reason
        if self._halted:
            return f"{SECTION}.halted", "the configuration says so"
        if self._file is None:
            return None
        setting = f"{SECTION}.kill_switch_file"
        try:
            os.stat(self._file)
        except FileNotFoundError:
            return None
        except OSError as error:
            return setting, f"{self._file} cannot be looked at: {error.strerror}"
        return setting, f"{self._file} exists"

    def check(self, exchange: str) -> None:
        """Raise `TradingHalted` while the switch is on."""
        cause = self.cause()
        if cause is not None:
            setting, reason = cause
            raise TradingHalted(
                f"trading is halted ({setting}): {reason}. Only cancels pass; nothing was sent",
                exchange=exchange,
                setting=setting,
            )
