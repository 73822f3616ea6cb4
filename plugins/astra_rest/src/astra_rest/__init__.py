"""Astra's REST API as a plugin of the gateway."""
