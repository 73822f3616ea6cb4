"""Astra's command line."""
