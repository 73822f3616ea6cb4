"""Astra's HTTP server: API keys, metrics, the front-ends' host."""
