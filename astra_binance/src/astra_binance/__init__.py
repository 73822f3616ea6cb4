"""Binance for Astra: Spot, USD-M and COIN-M futures, options."""
