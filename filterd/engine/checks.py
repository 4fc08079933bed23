"""Which check of a mail runs when, on whose connection, and what was found so far.

What a check is, and what stands for one that breaks, is `Gather`'s to know; what results mean is the policy's.
"""

from collections.abc import Iterable
from dataclasses import replace

from filterd.engine.gather import CONTRADICTED, Gather
from filterd.engine.networks import ours
from filterd.engine.notes import Notes
from filterd.engine.scanning import Scanning
from filterd.iprev import reverse_name
from filterd.mail.message import Author
from filterd.mail.received import Handover
from filterd.mail.transaction import Client
from filterd.policy.facts import Check, Facts
from filterd.policy.reputation import of_author
from filterd.policy.results import Results
from filterd.policy.rules import Policy

_SPF = frozenset({Check.SPF})
_AHEAD = frozenset({Check.SPF, Check.IPREV})
# What judges the content, whoever wrote it.
_CONTENT = frozenset({Check.SPAM})


class Checks:
    """The checks of one mail, each of which runs once. `transaction` is as MAIL began it, `results` are those found."""

    def __init__(self, policy: Policy, connection: Facts, gather: Gather, notes: Notes) -> None:
        self._policy, self._gather, self._notes = policy, gather, notes
        self.transaction = connection.transaction
        self.results = Results()
        #: whose address SPF judges: the client's, or, once it is known, the one that our outermost relay recorded
        self.origin = None if connection.client_relay else connection.transaction
        self.from_us = False

    def prefetch(self) -> None:
        """At MAIL: ask for what will be looked at first."""
        checks = self._policy.checks & _AHEAD
        if self.from_us or not checks:
            return
        resolver = self._notes.resolver()
        sender, helo = self.transaction.sender, self.transaction.helo
        name = str(sender.mailbox.domain) if sender is not None and sender.mailbox is not None else helo
        # SPF asks nobody about an address literal (RFC 7208 4.3).
        if Check.SPF in checks and name and name[0] != "[":
            resolver.prefetch(name, "TXT")
        if Check.IPREV in checks and self.origin is not None and self.origin.client.ip is not None:
            resolver.prefetch(reverse_name(self.origin.client.ip), "PTR")

    def has_recipient(self) -> None:
        """A recipient is accepted, and only now: a client that offers no recipient we know costs no SPF."""
        if self.results.spf is None and self.origin is not None:
            self.run(_SPF & self._policy.checks, None, None)

    def prefetch_lists(self, author: Author) -> None:
        """At the end of headers: all lists are asked that nobody has asked yet, beside the keys of signatures."""
        lists = self._policy.settings.dnsbl
        if lists and self.origin is not None:
            asked = of_author(lists, True) + (of_author(lists, False) if self.results.dnsbl is None else ())
            self._gather.prefetch_lists(asked, self.origin, author, self._notes.resolver())

    def relayed(self, handovers: Iterable[Handover | None]) -> None:
        """Find the connection that our outermost relay took: the fields of our relays stand on top, newest first."""
        self.origin = replace(self.transaction, client=Client(None), helo=None)
        for found in handovers:
            if found is None:
                break
            self._notes.handovers.append(found)
            if found.ip is None:
                self.results = replace(self.results, spf=CONTRADICTED)
                break
            if not ours(self._policy.settings.networks, found.ip):
                self.origin = replace(self.transaction, client=Client(found.ip), helo=found.helo)
                break

    def run(self, checks: frozenset[Check], author: Author | None, scanning: Scanning | None) -> None:
        """Run what is needed, was not run yet, and has what it needs; mail from us is not judged as a stranger's."""
        if self.from_us:
            checks = checks & _CONTENT
        if not checks:
            return
        resolver, gather, lists = self._notes.resolver(), self._gather, self._policy.settings.dnsbl
        spf, helo, dkim, dmarc = self.results.spf, self.results.spf_helo, self.results.dkim, self.results.dmarc
        dmarc_psl, arc, arc_trusted = self.results.dmarc_psl, self.results.arc, self.results.arc_trusted
        iprev, dnsbl, spam = self.results.iprev, self.results.dnsbl, self.results.spam
        dnsbl_author = self.results.dnsbl_author
        origin = self.origin
        if Check.SPF in checks and spf is None and origin is not None:
            spf = self._notes.timed("spf", lambda: gather.spf(origin, resolver))
        if Check.SPF_HELO in checks and helo is None and origin is not None:
            helo = self._notes.timed("spf", lambda: gather.spf_helo(origin, resolver))
        if Check.IPREV in checks and iprev is None and origin is not None:
            iprev = self._notes.timed("iprev", lambda: gather.iprev(origin, resolver))
        helo_name = self.results.helo
        if Check.HELO in checks and helo_name is None and origin is not None:
            helo_name = self._notes.timed("helo", lambda: gather.helo(origin, resolver))
        if Check.DNSBL in checks and dnsbl is None and origin is not None:
            dnsbl = self._notes.timed("dnsbl", lambda: gather.dnsbl(of_author(lists, False), origin, None, resolver))
        if Check.DNSBL_AUTHOR in checks and dnsbl_author is None and author is not None:
            dnsbl_author = self._notes.timed(
                "dnsbl", lambda: gather.dnsbl(of_author(lists, True), self.transaction, author, resolver)
            )
        if Check.DKIM in checks and dkim is None:
            dkim = self._notes.timed("dkim", lambda: gather.dkim(resolver))
        if Check.ARC in checks and arc is None:
            arc, arc_trusted = self._notes.timed("arc", lambda: gather.arc(resolver))
        if Check.DMARC in checks and dmarc is None and author is not None:
            dmarc, dmarc_psl = self._notes.timed("dmarc", lambda: gather.dmarc(author, spf, dkim or (), arc, resolver))
        if Check.SPAM in checks and spam is None and scanning is not None:
            # Last: it scans while all else is looked up.
            spam = self._notes.timed("spam", lambda: gather.spam(scanning))
        self.results = Results(
            spf, helo, dkim, dmarc, dmarc_psl, arc, arc_trusted, iprev, dnsbl, dnsbl_author, spam, helo_name
        )
