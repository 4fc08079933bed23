"""Whether an address lies in networks that the policy names."""

from collections.abc import Sequence

from filterd.mail.transaction import IPAddress
from filterd.policy.field_types import Network
from filterd.policy.schema import Networks


def within(ip: IPAddress | None, networks: Sequence[Network]) -> bool:
    """Whether an address lies in any of the networks; an IPv4 address that is mapped into IPv6 is what it was."""
    mapped = getattr(ip, "ipv4_mapped", None)
    address = mapped or ip
    return address is not None and any(address in network for network in networks)


def ours(networks: Networks, ip: IPAddress | None) -> bool:
    """Whether the address is one of our own clients or relays."""
    return within(ip, (*networks.relays, *networks.trusted))
