"""Where a request comes from, and whom a reverse proxy says it is for.

The rule: what a header says of either counts only when the peer is a proxy that was named as trusted; from anybody else it is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from paretune.errors import ConfigError

FORWARDED = "x-forwarded-for"


@dataclass(frozen=True, slots=True)
class Proxy:
    """Reverse proxies in front of the console."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    user_header: str = ""  # names who was signed in by the proxy; empty = nobody is

    def __post_init__(self) -> None:
        if self.user_header and not self.networks:
            raise ConfigError(
                f"anybody could send the header {self.user_header}", hint="name the addresses of the proxy: --proxy 10.0.0.5/32"
            )


def trusted(addresses: Sequence[str], *, user_header: str = "") -> Proxy:
    """Return proxies at some addresses or networks.

    Raises:
        ConfigError: one is no address, or a header is to be believed from anybody.
    """
    try:
        return Proxy(tuple(ip_network(address) for address in addresses), user_header.lower())
    except ValueError as error:
        raise ConfigError(f"no address of a proxy: {error}", hint="write 10.0.0.5 or 10.0.0.0/24") from None


def is_trusted(address: str, proxy: Proxy) -> bool:
    """Say whether an address is that of a trusted proxy."""
    try:
        place = ip_address(address)
    except ValueError:
        return False
    return any(place in network for network in proxy.networks)


def origin_of(peer: str, forwarded: Sequence[str], proxy: Proxy) -> str:
    """Return the address a request comes from: the last one that is no trusted proxy.

    Args:
        peer: address of the connection.
        forwarded: the values of X-Forwarded-For, in order; whoever sends a request can write what it likes at its beginning.
        proxy: whom to believe.
    """
    found = peer
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    while is_trusted(found, proxy) and hops:
        try:
            found = str(ip_address(hops.pop()))
        except ValueError:
            break
    return found


def user_of(peer: str, values: Sequence[str], proxy: Proxy) -> str:
    """Return whom a proxy signed in; empty where none did, or it said two things.

    Args:
        peer: address of the connection.
        values: of the user header.
        proxy: whom to believe.
    """
    return values[0].strip().lower() if proxy.user_header and len(values) == 1 and is_trusted(peer, proxy) else ""
