"""Coinbase for Astra."""
