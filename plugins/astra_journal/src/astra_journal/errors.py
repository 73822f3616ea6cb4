"""What goes wrong with the journal itself."""

from __future__ import annotations

from pathlib import Path

from astra.errors import AstraError, VenueUnavailable


class JournalUnavailable(VenueUnavailable):
    """The command could not be written down, so it was not sent: nothing was executed. `path` names the journal."""

    problem = "journal-unavailable"

    def __init__(self, message: str, *, exchange: str, path: Path) -> None:
        super().__init__(message, exchange=exchange)
        self.path = path


class JournalError(AstraError):
    """A journal cannot be opened, read or written; the message names its file."""

    problem = "journal"
