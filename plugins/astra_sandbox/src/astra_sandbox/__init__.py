"""A matching engine and loopback server that speak the venues' native protocols."""
