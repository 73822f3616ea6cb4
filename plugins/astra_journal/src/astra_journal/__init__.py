"""An append-only journal of commands and answers for Astra, as middleware (`journal`), and its reader.

The public names are imported when they are first used: the command line lists its commands without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astra_journal.errors import JournalError as JournalError
    from astra_journal.errors import JournalUnavailable as JournalUnavailable
    from astra_journal.reader import Command as Command
    from astra_journal.reader import CommandState as CommandState
    from astra_journal.reader import Entry as Entry
    from astra_journal.reader import Journal as Journal
    from astra_journal.reader import Kind as Kind

_MODULES = {
    "JournalError": "errors",
    "JournalUnavailable": "errors",
    "Command": "reader",
    "CommandState": "reader",
    "Entry": "reader",
    "Journal": "reader",
    "Kind": "reader",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'astra_journal' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"astra_journal.{_MODULES[name]}"), name)
