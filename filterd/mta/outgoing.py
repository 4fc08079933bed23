"""All ways out of the queue: into Maildirs, to the servers of a domain, to one server.

Decides which mail goes where and in which order servers are tried; `smtp_client` talks to each.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from filterd.lookup import Resolver
from filterd.mail.domain import Domain, DomainError
from filterd.mta.config import MtaConfig
from filterd.mta.deliver import Maildirs
from filterd.mta.exchangers import UnroutableError, exchangers
from filterd.mta.mta_sts import Mode, cached_policy
from filterd.mta.queued_mail import Fate, QueuedMail, QueuedRecipient
from filterd.mta.routes import Route, Tls, Via
from filterd.mta.smtp_client import NextHop, SmtpClient

_MAX_RECIPIENTS = 50  # of one transaction; Postfix's default_destination_recipient_limit
_DNS_PATIENCE = 60.0  # seconds for all questions about one domain
_OURS, _OTHERS = Route(("*",), Via.MAILDIR), Route(("*",), Via.MX)

#: Makes a resolver that waits for nothing past a time of time.monotonic().
ResolverUntil = Callable[[float], Resolver]
#: Whether somebody at this IP address and port is this very server.
IsOwn = Callable[[str, int], bool]


class Outgoing:
    """Brings mail to where it goes. Methods may be called from any thread."""

    def __init__(self, config: MtaConfig, maildirs: Maildirs, resolver: ResolverUntil | None, is_own: IsOwn) -> None:
        self._config = config
        self._settings = config.relay
        self._maildirs = maildirs
        self._resolver = resolver
        self._is_own = is_own
        self._client = SmtpClient(config.relay, config.hostname)

    def stop(self) -> None:
        """End what is under way with other servers."""
        self._client.stop()

    def is_local(self, mail: QueuedMail) -> bool:
        """Whether all that waits goes into Maildirs, which takes no time."""
        return all(self._way(each)[0].via is Via.MAILDIR for each in mail.waiting)

    def deliver(self, mail: QueuedMail, content: bytes) -> Iterator[Sequence[QueuedRecipient]]:
        """Try all that waits; yields what came of some recipients as soon as it is known."""
        ways: dict[tuple[Route, str], list[QueuedRecipient]] = {}
        for each in mail.waiting:
            ways.setdefault(self._way(each), []).append(each)
        for (route, domain), recipients in sorted(ways.items(), key=lambda way: way[0][0].via is not Via.MAILDIR):
            if route.via is Via.MAILDIR:
                yield tuple(self._maildirs.deliver(mail, recipients, content))
                continue
            for start in range(0, len(recipients), _MAX_RECIPIENTS):
                yield self._send(mail, recipients[start : start + _MAX_RECIPIENTS], content, route, domain)

    def _way(self, recipient: QueuedRecipient) -> tuple[Route, str]:
        """The route of a recipient, and the domain whose servers are asked."""
        written = recipient.address.rpartition("@")[2] if "@" in recipient.address else self._config.hostname
        try:
            domain = Domain.parse(written).name
        except DomainError:
            domain = written.lower()
        default = _OURS if self._config.is_ours(recipient.address.encode()) else _OTHERS
        route = next((each for each in self._settings.routes if each.is_for(domain)), default)
        return route, domain if route.via is Via.MX else ""

    def _send(
        self, mail: QueuedMail, recipients: Sequence[QueuedRecipient], content: bytes, route: Route, domain: str
    ) -> Sequence[QueuedRecipient]:
        try:
            hops = self._hops(route, domain)
        except UnroutableError as error:
            fate = Fate.FAILED if error.status.startswith("5") else Fate.WAITING
            return [replace(each, fate=fate, status=error.status, reply=str(error), host="") for each in recipients]
        settled: list[QueuedRecipient] = []
        waiting = recipients
        for hop in hops:
            outcome = self._client.hand_over(hop, mail, waiting, content)
            settled += [each for each in outcome.recipients if each.fate is not Fate.WAITING]
            waiting = [each for each in outcome.recipients if each.fate is Fate.WAITING]
            # RFC 5321 5.1: whom one server could not take now, the next may.
            if not waiting or not outcome.may_go_on:
                break
        return [*settled, *waiting]

    def _hops(self, route: Route, domain: str) -> list[NextHop]:
        if route.at is not None:
            at = route.at
            address = at.path or at.host
            return [NextHop(at.host or address, address, at.port, route.via, route.tls, route.login)]
        port = self._settings.mx_port
        if domain.startswith("["):
            # RFC 5321 4.1.3: an address literal is asked without DNS.
            address = domain.strip("[]").removeprefix("ipv6:")
            if self._is_own(address, port):
                raise UnroutableError("5.4.6", f"mail for {domain} would come back to us")
            return [NextHop(domain, address, port, Via.SMTP, route.tls)]
        if self._resolver is None:
            raise UnroutableError("4.4.3", f"nobody was asked about the servers of {domain}: there is no resolver")
        found = exchangers(domain, self._resolver(time.monotonic() + _DNS_PATIENCE), self._is_ours)
        hops = [NextHop(each.name, each.address, port, Via.SMTP, route.tls) for each in found]
        return self._allowed(domain, hops)

    def _allowed(self, domain: str, hops: list[NextHop]) -> list[NextHop]:
        """What MTA-STS leaves of the servers (RFC 8461 5)."""
        folder = self._settings.sts_folder
        policy = None if folder is None else cached_policy(folder, domain, time.time())
        if policy is None or policy.mode is not Mode.ENFORCE:
            return hops
        allowed = [replace(each, tls=Tls.VERIFY) for each in hops if policy.allows(each.name)]
        if not allowed:
            raise UnroutableError("4.7.5", f"the MTA-STS policy of {domain} allows none of its servers")
        return allowed

    def _is_ours(self, name: str, addresses: tuple[str, ...]) -> bool:
        port = self._settings.mx_port
        return name == self._config.hostname.lower() or any(self._is_own(each, port) for each in addresses)
