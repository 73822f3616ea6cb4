"""Orders and accounts of the classic back ends."""
