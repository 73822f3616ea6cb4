"""Kraken for Astra."""
