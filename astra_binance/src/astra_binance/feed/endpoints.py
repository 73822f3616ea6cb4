"""Which connections there are: hosts, paths, limits and keep-alive rules of every family's streams.

Market streams use raw connections (`/ws`): frames come without the `{"stream", "data"}` envelope of `/stream`, which
would cost a second decoding and says nothing that the frames do not. USD-M's and options' depth lives under `/public`,
USD-M's aggregated trades under `/market`: a stream asked for on the other path is acknowledged and stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from astra.streams.feed import Channel, DataType, Endpoint
from astra_binance.settings import COINM, OPTIONS, SPOT, USDM, BinanceSettings

DAY_S = 86_400.0
ACCOUNT = "account"


class _Streams(msgspec.Struct, frozen=True):
    """Connections of one family. `messages_per_s` and `max_streams` are the venue's limits."""

    host: str
    """The setting that names it."""
    books: str
    trades: str
    account: str
    """Path of the private connection."""
    messages_per_s: float
    max_streams: int


_STREAMS: Mapping[str, _Streams] = {
    SPOT: _Streams("spot_stream", "/ws", "/ws", "/ws-api/v3", 5.0, 1024),
    USDM: _Streams("usdm_stream", "/public/ws", "/market/ws", "/private/ws", 10.0, 1024),
    # 1024 by the newest page, 200 by older ones.
    COINM: _Streams("coinm_stream", "/ws", "/ws", "/ws", 10.0, 200),
    OPTIONS: _Streams("options_stream", "/public/ws", "/public/ws", "/private/ws", 10.0, 200),
}
_MESSAGES_SHARE = 0.6
"""Pongs and pings count as messages, too, and whoever passes the limit is cut off, then banned."""
OPTION_TRADES = "options-trades"
_MANY = 100_000


def endpoint(channel: Channel, settings: BinanceSettings) -> Endpoint:
    """The connection that a channel runs on."""
    product = channel.product
    streams = _STREAMS[product]
    if channel.data_type is DataType.ACCOUNT:
        host = settings.hosts.spot_ws_api if product == SPOT else getattr(settings.hosts, streams.host)
        return Endpoint(
            name=f"{product}-{ACCOUNT}",
            url=host + streams.account,
            scope=channel.credentials,
            max_channels=1,
            messages_per_s=streams.messages_per_s * _MESSAGES_SHARE,
            lifetime_s=DAY_S,
            silence_s=60.0,
            ticketed=True,
        )
    path = streams.books if channel.data_type is DataType.ORDERBOOK else streams.trades
    name = product if streams.books == streams.trades else f"{product}-{channel.data_type.lower()}"
    max_channels = min(settings.streams_per_connection, streams.max_streams)
    if product == OPTIONS and channel.data_type is DataType.TRADE:
        # One stream carries the trades of all options on an underlying: channels are many, streams few.
        name, max_channels = OPTION_TRADES, _MANY
    return Endpoint(
        name=name,
        url=getattr(settings.hosts, streams.host) + path,
        max_channels=max_channels,
        messages_per_s=streams.messages_per_s * _MESSAGES_SHARE,
        lifetime_s=DAY_S,
        silence_s=60.0,
    )


def product_of(endpoint: Endpoint) -> str:
    """The family that an endpoint belongs to."""
    return endpoint.name.partition("-")[0]


def is_account(endpoint: Endpoint) -> bool:
    return endpoint.name.endswith(f"-{ACCOUNT}")


def account_product(endpoint: Endpoint) -> str:
    """The family of a private connection."""
    assert is_account(endpoint)
    return product_of(endpoint)


def listen_url(endpoint: Endpoint, listen_key: str) -> str:
    """Where a listen key's events are served. USD-M takes it as parameter (all events), the others in the path."""
    if account_product(endpoint) == USDM:
        return f"{endpoint.url}?listenKey={listen_key}"
    return f"{endpoint.url}/{listen_key}"
