"""The question that a command asks before it changes something at a venue."""

from __future__ import annotations

import signal
import sys

import click


def require_terminal(*, yes: bool) -> None:
    """Raise `click.UsageError` where nobody can be asked and nobody said `--yes`. Called before anything else."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("there is no terminal to ask for confirmation at, so nothing was sent: say --yes")


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask on stderr (stdout may be piped); no answer is a no. Raises `click.Abort` on Ctrl-C.

    Blocks the event loop, in which nothing but the question happens meanwhile.
    """
    if yes:
        return True
    # An event loop takes Ctrl-C for its tasks: while the terminal is read it must interrupt the reading.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            click.echo(f"{question} [y/N] ", nl=False, err=True)
            answer = sys.stdin.readline()
            if answer.strip().lower() in ("y", "yes"):
                return True
            if answer.strip().lower() in ("n", "no", ""):
                return False
    except KeyboardInterrupt:
        raise click.Abort from None
    finally:
        signal.signal(signal.SIGINT, handler)
