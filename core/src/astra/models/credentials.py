"""Exchange credentials. They print as stars, wherever they end up."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, SecretStr

from astra.models.base import Model


class ApiKey(Model):
    """One key of one exchange: what its API calls key, secret and (some) passphrase."""

    key: SecretStr
    secret: SecretStr
    passphrase: SecretStr | None = None


class Credentials(Model):
    """An account at an exchange: its name, and its key (`default`) or keys by product.

    Some venues need several: one for spot and one for derivatives, or one for each protocol. Equality and hash
    go by the keys' contents, so that state kept per account finds the same account again.
    """

    exchange: str
    account: str = "default"
    keys: Mapping[str, ApiKey] = Field(repr=False)

    @classmethod
    def of(
        cls, exchange: str, key: str, secret: str, passphrase: str | None = None, *, account: str = "default"
    ) -> Credentials:
        """Credentials with a single key for all products."""
        one = ApiKey(
            key=SecretStr(key),
            secret=SecretStr(secret),
            passphrase=None if passphrase is None else SecretStr(passphrase),
        )
        return cls(exchange=exchange, account=account, keys={"default": one})

    def key_for(self, product: str) -> ApiKey | None:
        """The key for `product`, else the default one, else None."""
        return self.keys.get(product) or self.keys.get("default")

    def __hash__(self) -> int:
        return hash((self.exchange, self.account, tuple(sorted((n, k.key) for n, k in self.keys.items()))))
