"""Which connections there are, and their limits and keep-alive rules."""

from __future__ import annotations

from typing import Final

from astra.streams.feed import Channel, DataType, Endpoint
from astra_kraken.settings import SPOT, KrakenSettings

SPOT_MARKETS: Final = "spot"
SPOT_ACCOUNT: Final = "spot-account"
DERIVATIVES_MARKETS: Final = "derivatives"
DERIVATIVES_ACCOUNT: Final = "derivatives-account"
UNIFIED_MARKETS: Final = "unified"

HEARTBEATS_S: Final = 10.0
"""Spot says something every second once anything is subscribed: silence of this length means a dead connection."""
_CONNECTS_PER_S: Final = 0.2
"""About 150 attempts in ten minutes from one address, then it is blocked for ten."""
_PING_EVERY_S: Final = 20.0
"""Derivatives close a connection that sent nothing for 60 s."""


def endpoint(channel: Channel, settings: KrakenSettings) -> Endpoint:
    """The connection that a channel runs on."""
    hosts = settings.hosts
    account = channel.data_type is DataType.ACCOUNT
    if channel.product == SPOT:
        return Endpoint(
            name=SPOT_ACCOUNT if account else SPOT_MARKETS,
            url=f"{hosts.spot_private_stream if account else hosts.spot_stream}/v2",
            scope=channel.credentials,
            max_channels=1 if account else settings.channels_per_connection,
            max_channels_per_frame=50,
            messages_per_s=5.0,
            connects_per_s=_CONNECTS_PER_S,
            silence_s=HEARTBEATS_S,
            ticketed=account,
        )
    if not account and settings.derivatives_feed == "unified":
        return Endpoint(
            name=UNIFIED_MARKETS,
            url=f"{hosts.unified_stream}/v2/public",
            max_channels=settings.channels_per_connection,
            max_channels_per_frame=50,
            messages_per_s=5.0,
            connects_per_s=_CONNECTS_PER_S,
            silence_s=HEARTBEATS_S,
        )
    return Endpoint(
        name=DERIVATIVES_ACCOUNT if account else DERIVATIVES_MARKETS,
        url=f"{hosts.derivatives_stream}/ws/v1",
        scope=channel.credentials,
        max_channels=1 if account else settings.channels_per_connection,
        max_channels_per_frame=100,
        messages_per_s=10.0,
        silence_s=60.0,
        ping_every_s=_PING_EVERY_S,
        ticketed=account,
    )
