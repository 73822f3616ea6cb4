"""Orders and accounts, a module for each way in which the venue is spoken to."""
