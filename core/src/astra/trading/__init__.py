"""What all venues share in trading: checks before an order leaves, and the outcome of commands."""
