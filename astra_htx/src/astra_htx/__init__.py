"""HTX for Astra."""
