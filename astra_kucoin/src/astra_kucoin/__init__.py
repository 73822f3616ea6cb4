"""KuCoin for Astra."""
