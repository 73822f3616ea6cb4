"""Astra's WebSocket API as a plugin of the gateway."""
