"""The commands of this distribution, one module each: light to import, heavy only when run."""
