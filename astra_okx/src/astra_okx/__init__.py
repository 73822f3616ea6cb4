"""OKX for Astra."""
