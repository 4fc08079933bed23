"""Who handed a mail to one of our relays, by the Received field that the relay wrote (RFC 5321 4.4).

Only fields that our own relays wrote are asked, yet the client chose the HELO name in them. So where a field shows two
addresses, none is believed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from filterd.mail.header import Field, Header
from filterd.mail.transaction import IPAddress

_MAX_CLAUSE = 2_000
_FROM = re.compile(rb"\s*from\s+(?P<helo>[^\s()]+)(?P<rest>.*?)\sby\s", re.IGNORECASE | re.DOTALL)
# Postfix, Sendmail and Exim bracket the address; Exchange writes it bare, as the whole comment.
_ADDRESS = re.compile(rb"\[(?:IPv6:)?([0-9a-f.:]+)\]|\(([0-9a-f.:]+)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Handover:
    """The client as a relay saw it: its HELO name and its address."""

    helo: str
    ip: IPAddress | None


def handover(field: Field) -> Handover | None:
    """What a Received field says of the client; None where it does not say. Contradictory addresses are no address."""
    clause = _FROM.match(field.value[:_MAX_CLAUSE])
    if clause is None:
        return None
    text = clause["helo"] + clause["rest"]
    found: set[IPAddress] = set()
    for bracketed, bare in _ADDRESS.findall(text):
        try:
            found.add(ip_address((bracketed or bare).decode("ascii")))
        except ValueError:
            return None
    if not found:
        return None
    helo = clause["helo"].decode("ascii", "replace").strip("[]")
    return Handover(helo, found.pop() if len(found) == 1 else None)


def added_inside(header: Header, ours: Callable[[IPAddress], bool]) -> tuple[Field, ...]:
    """The fields that servers of ours may have added to a mail that one of them hands us: those on top.

    They end at the first Received field that a stranger wrote. Those right below the Received field of our outermost
    server may be of either, as many filters insert theirs there.
    """
    found: list[Field] = []
    inside = True
    for field in header:
        if field.key == b"received":
            if not inside:
                break
            client = handover(field)
            inside = client is not None and client.ip is not None and ours(client.ip)
        found.append(field)
    return tuple(found)
