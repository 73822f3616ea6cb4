"""Astra's command line: the `astra` command, whose subcommands are plugins (entry-point group `astra.commands`)."""

__version__ = "0.1.0"
