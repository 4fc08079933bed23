"""Filters that a Postfix may have already: how they are known, what filterd takes over, who rewrites mail.

A filter is known by the name in its socket's path or by the port of its package; another name is a stranger's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from filterd.postfix.config import RESTRICTIONS, Config, milters, policy_services


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A filter. `rewrites`: whether it may change what a signature covers."""

    name: str
    words: tuple[str, ...]
    ports: tuple[str, ...]
    text: str
    rewrites: bool = False


NEIGHBOURS = (
    Neighbour("OpenDKIM", ("opendkim",), ("8891", "12301"), "filterd verifies and signs; `filterd key import-opendkim` "
              "takes its keys and tables over. With both, your mail is signed twice."),
    Neighbour("OpenDMARC", ("opendmarc",), ("8893", "54321"), "filterd judges DMARC, by rules of the policy."),
    Neighbour("OpenARC", ("openarc",), (), "filterd verifies ARC, and seals with `arc.seal`."),
    Neighbour("dkimpy-milter", ("dkimpy",), ("8892",), "filterd does the same; with both, your mail is signed twice."),
    Neighbour("policyd-spf", ("policyd-spf", "policy-spf", "pyspf", "spf"), (), "filterd checks SPF, and says so in "
              "Authentication-Results. Leave it only if it is to refuse mail for SPF alone."),
    Neighbour("Postgrey", ("postgrey", "sqlgrey", "milter-greylist", "greylist"), ("10023", "2501"),
              "With filterd's `greylist` it would delay mail twice."),
    Neighbour("policyd-rate-limit", ("rate-limit", "ratelimit", "postfwd"), (), "filterd's `limits` count, too."),
    Neighbour("spamass-milter", ("spamass",), (), "filterd's `spamd` asks it, too: mail is scanned twice.", True),
    Neighbour("Rspamd", ("rspamd",), ("11332",), "It stays; if it signs as well, your mail is signed twice.", True),
    Neighbour("Amavis", ("amavis",), ("10024",), "It stays.", True),
    Neighbour("MIMEDefang", ("mimedefang", "mailmunge"), (), "It stays.", True),
    Neighbour("alterMIME", ("altermime",), (), "It stays.", True),
    Neighbour("ClamAV", ("clam",), ("7357",), "It stays."),
)  # fmt: skip


def neighbour(address: str) -> Neighbour | None:
    """Who is at an address of Postfix's."""
    # Folders further above say where Postfix lives.
    place = "/".join(address.lower().split("/")[-2:])
    port = address.rpartition(":")[2] if address.startswith("inet") else ""
    for each in NEIGHBOURS:
        if port in each.ports or any(word in place for word in each.words):
            return each
    return None


def in_place(config: Config) -> Iterator[tuple[Neighbour, str]]:
    """The neighbours of a configuration, each with its address, once."""
    told = set()
    for service in (None, *config.listening()):
        asked = [address for name in RESTRICTIONS for address in policy_services(config.value(name, service))]
        for address in (*(each.address for each in milters(config.value("smtpd_milters", service))), *asked):
            found = neighbour(address)
            if found is not None and address not in told:
                told.add(address)
                yield found, address
