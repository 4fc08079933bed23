"""Names in the store: of buckets, mails and networks. Whatever a client says, a name is short, and one word a part."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import quote, unquote

from filterd.limits.rate import Rate, Unit
from filterd.mail.transaction import Client, ReversePath

_LONGEST = 200
# What a name may have as it is: printable, and no space, comma or per cent sign.
_SAFE = "!#$&'()*+-./:;<=>?@[]^_`{|}~"
_BUCKET = re.compile(r"(?P<limit>\S+) (?P<unit>\w+)/(?P<span>[1-9][0-9]{0,14}) (?P<key>\S*)")


@dataclass(frozen=True, slots=True)
class Fold:
    """How many leading bits of an address tell networks apart."""

    ipv4: int = 24
    ipv6: int = 64


@dataclass(frozen=True, slots=True)
class BucketName:
    """What a bucket's name says: whose limit, what and how long it counts (milliseconds), and the key."""

    limit: str
    unit: Unit
    span: int
    key: str

    @classmethod
    def of(cls, limit: str, rate: Rate, key: str) -> "BucketName":
        return cls(limit, rate.unit, rate.span, key)

    @classmethod
    def parse(cls, text: str) -> "BucketName | None":
        """Read what `str` gives; None for what is nothing of ours."""
        found = _BUCKET.fullmatch(text)
        unit = next((each for each in Unit if found is not None and each == found["unit"]), None)
        if found is None or unit is None:
            return None
        return cls(found["limit"], unit, int(found["span"]), found["key"])

    def __str__(self) -> str:
        return f"{self.limit} {self.unit}/{self.span} {self.key}"


def key_text(parts: Sequence[str]) -> str:
    """The key that facts make; their case does not matter, and what is over-long is told apart by its hash."""
    return ",".join(_bounded(quote(part.casefold(), safe=_SAFE, errors="replace")) for part in parts)


def readable_key(key: str) -> str:
    """A key as it is shown: as it was, but for its case."""
    return unquote(key)


def network(address: str, fold: Fold) -> str:
    """The network of an address; what is no address stays as it is. An IPv4 address mapped into IPv6 is IPv4."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    found = mapped or found
    # A zone (fe80::1%eth0) is nothing of the network's.
    plain = str(found).partition("%")[0]
    folded = ip_network(f"{plain}/{fold.ipv4 if found.version == 4 else fold.ipv6}", strict=False)
    return str(folded.network_address) if folded.num_addresses == 1 else str(folded)


def mail_member(client: Client, sender: ReversePath | None, session: str) -> str:
    """By which name a mail is held: the same for the milter and the policy service, who are told the same of it.

    Where the client's port is not known, `session` tells mails apart, and nobody else knows the name.
    """
    place = f"{client.ip} {client.port}" if client.ip is not None and client.port else session
    return short(f"{place} {sender.address if sender is not None else ''}")


def short(text: str) -> str:
    """A name of 22 letters for a text of any length."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:22]


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}~{short(text)}"
