"""DNS for the tests of filterd.dmarc: a few records, every question written down."""

from filterd.lookup import Answer, Outcome, ZoneResolver
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason


class Zone(ZoneResolver):
    """Publishes DMARC records by domain; the names in `hosts` exist without one, those in `broken` fail."""

    def __init__(
        self, records: dict[str, str | list[str]], *, hosts: tuple[str, ...] = (), broken: tuple[str, ...] = ()
    ):
        table = {}
        for domain, texts in records.items():
            values = [texts] if isinstance(texts, str) else texts
            name = f"_dmarc.{domain}"
            table[name, "TXT"] = Answer(name, "TXT", Outcome.FOUND, tuple(value.encode() for value in values))
        for name in hosts:
            table[name, "A"] = Answer(name, "A", Outcome.FOUND, ("192.0.2.1",))
        for name in broken:
            for rdtype in ("A", "TXT"):
                table[name, rdtype] = Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT)
        super().__init__(table)
        self.events: list[tuple[str, str]] = []

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.events.append(("lookup", name))
        return super().lookup(name, rdtype)

    def prefetch(self, name: str, rdtype: str) -> None:
        self.events.append(("prefetch", name))

    @property
    def asked(self) -> list[str]:
        return [name for kind, name in self.events if kind == "lookup"]

    @property
    def prefetched(self) -> list[str]:
        return [name for kind, name in self.events if kind == "prefetch"]


class Suffixes:
    """A public suffix list of a few names; every top-level domain is one, too."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def organizational_domain(self, domain: Domain) -> Domain:
        labels = domain.labels
        depth = max([1, *(name.count(".") + 1 for name in self._names if domain.under(Domain(name)))])
        return Domain(".".join(labels[-depth - 1 :]))
