"""The international gateway: JSON-RPC over HTTP and WebSocket, after the protocol of Deribit."""
