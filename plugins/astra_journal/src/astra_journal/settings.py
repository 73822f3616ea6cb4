"""What the operator can set (section `[middleware.journal]`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def default_path() -> Path:
    """A file in the user's data folder."""
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        folder = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return folder / "astra" / "journal.db"


class JournalSettings(BaseModel):
    """Settings of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    path: Path = Field(default_factory=default_path)
    """The SQLite file, on a local disk; made, readable by its owner alone, when it does not exist."""
    cancels_without_journal: bool = False
    """Let cancels through when the journal cannot be written (they are logged), instead of refusing them, too."""
    retry_cap_s: float = Field(default=60.0, gt=0)
    """Open placements of an earlier process that cannot be resolved yet are asked for again after 1 s, then less and
    less often, at least this often."""
