"""One normalised API over many crypto trading venues: the core."""
