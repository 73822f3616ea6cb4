"""Orders, fills, balances and positions: requests out, answers in; a module for each API family."""
