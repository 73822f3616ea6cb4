"""Orders and accounts: requests out, answers in."""
