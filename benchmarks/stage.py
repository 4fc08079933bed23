"""What all measurements stand on: mails, name servers, the load generator, and how long it may take."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filters import Setting
from mails import DOMAIN, Mails
from nameserver import Resolver, name_server, resolver


@dataclass(frozen=True, slots=True)
class Asked:
    """How much of it: 5 kB mails a round, rounds, whether all there is, and only titles that have a word."""

    count: int
    rounds: int
    full: bool
    only: str
    loadgen: Path

    @property
    def strangers(self) -> int:
        """Mails a round where each is of a domain that nobody has asked for."""
        return max(20, self.count // 10)


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: the resolver that filters ask, in front of the name server of the mails' domains."""

    asked: Asked
    folder: Path
    mails: Mails
    resolver: Resolver

    def setting(self, name: str, nameserver: str | None = None) -> Setting:
        """A folder of that name for a filter that asks the resolver, or another name server."""
        folder = self.folder / name
        folder.mkdir()
        return Setting(folder, nameserver or self.resolver.address, self.mails.key)


@contextmanager
def stage(asked: Asked) -> Iterator[Stage]:
    """All that is needed, in a temporary folder."""
    with TemporaryDirectory(prefix="filterd-bench-") as name:
        folder = Path(name)
        mails = Mails(folder, asked.rounds + 1, asked.strangers)
        with name_server(folder, {DOMAIN: mails.zone()}) as upstream, resolver(folder, upstream) as cache:
            yield Stage(asked, folder, mails, cache)
