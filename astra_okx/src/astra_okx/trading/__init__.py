"""Orders and the account: requests out, answers in."""
