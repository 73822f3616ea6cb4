"""The directory of plugins that Astra knows by name (`directory.toml`)."""

from __future__ import annotations

from functools import cache


@cache
def _directory() -> dict[str, dict[str, dict[str, object]]]:
    import tomllib  # here: `from astra import Astra` reads no directory
    from importlib import resources

    text = resources.files("astra").joinpath("directory.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _aliases() -> dict[str, str]:
    found: dict[str, str] = {}
    for code, entry in _directory()["venues"].items():
        aliases = entry.get("aliases", [])
        assert isinstance(aliases, list)
        found.update({str(alias): code for alias in aliases})
    return found


def canonical_exchange(code: str) -> str:
    """The exchange code to use for `code`: itself, or what it is an alias of (`HTX` -> `HUOBI`)."""
    return _aliases().get(code, code)


def aliases_of(code: str) -> list[str]:
    """The other codes that mean the exchange (`HUOBI` -> `["HTX"]`)."""
    return [alias for alias, meant in _aliases().items() if meant == code]


def known_venues() -> dict[str, str]:
    """Exchange code -> distribution, for every venue of the directory."""
    return {code: str(entry["distribution"]) for code, entry in _directory()["venues"].items()}


def known_frontends() -> dict[str, str]:
    """Front-end name -> distribution, for every front-end of the directory."""
    return {name: str(entry["distribution"]) for name, entry in _directory()["frontends"].items()}


def known_middleware() -> dict[str, str]:
    """Middleware name -> distribution, for every middleware of the directory."""
    return {name: str(entry["distribution"]) for name, entry in _directory()["middleware"].items()}
