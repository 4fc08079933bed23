"""The one table of facts that a policy may name.

From it come CEL's declarations, the stage and the checks of every rule, the manual's table and what `explain` shows.
To add a fact: one row here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TypeVar, cast

from filterd.arc.verify import ArcCode
from filterd.authres.result import AuthenticationResults
from filterd.dkim.verify import DkimCode
from filterd.dmarc.evaluate import DmarcCode
from filterd.dmarc.record import Request
from filterd.dnsbl import ListCode, ListResult
from filterd.helo import HeloKind
from filterd.iprev import IprevCode
from filterd.mail.address import Mailbox
from filterd.mail.domain import Domain
from filterd.mail.encoded_word import shown
from filterd.mail.header import Header
from filterd.mail.indirect import indirect
from filterd.mail.message import Author
from filterd.mail.transaction import ForwardPath, Stage, Transaction
from filterd.policy.reported import dkim_word, of_author, reported
from filterd.policy.results import Results
from filterd.policy.verdict import Summand, score_of
from filterd.spam import SpamCode
from filterd.spf.check import SpfCode


class Check(StrEnum):
    """What can be found out about a mail, and costs something. All of these judge strangers only."""

    SPF = "spf"
    SPF_HELO = "spf_helo"
    HELO = "helo"
    IPREV = "iprev"
    DNSBL = "dnsbl"
    DNSBL_AUTHOR = "dnsbl_author"
    SPAM = "spam"
    DKIM = "dkim"
    ARC = "arc"
    DMARC = "dmarc"


class FactType(StrEnum):
    """The types of facts, by their CEL names."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    STRINGS = "list(string)"


FactValue = bool | int | float | str | list[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a mail at a stage, without any check.

    `recipient` is the one that is being judged, at RCPT only. `from_us` is None before MAIL. `header` and `author` are
    None before the end of headers, `size` (octets, header and body) before the end of message. `trusted` is what
    another server of ours found; None where there is none, or no rule asks. Where a mail is judged again by its record,
    `recorded` are facts of a content that was not kept, and `unknown` says of facts and checks why they are not known.
    `summands` are what earlier stages and checks add to the score.
    """

    transaction: Transaction
    client_trusted: bool = False
    client_relay: bool = False
    from_us: bool | None = None
    recipient: ForwardPath | None = None
    header: Header | None = None
    author: Author | None = None
    author_allowed: bool | None = None
    size: int | None = None
    trusted: AuthenticationResults | None = None
    recorded: Mapping[str, object] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)
    summands: tuple[Summand, ...] = ()

    def value(self, name: str, results: Results) -> "FactValue | None":
        """A fact by its name; None where it could not be had."""
        if name in self.unknown:
            return None
        found = FACTS[name].read(self, results)
        return cast("FactValue | None", self.recorded.get(name)) if found is None else found

    def why_not(self, name: str) -> str:
        """Why a fact could not be had."""
        check = FACTS[name].check
        return self.unknown.get(name) or (
            self.unknown.get(check, f"{check} was not run") if check else f"{name} was not found out"
        )


#: The functions that ask the header, with what they give; each with a field's name is a fact.
HEADER_FUNCTIONS = {
    "header": FactType.STRING,
    "headers": FactType.STRINGS,
    "has_header": FactType.BOOL,
}
_HEADER_FACT = re.compile(r'(header|headers|has_header)\("([!-9;-~]{1,76})"\)')
# Of one name, that many fields are read, and that much of each: what a condition costs is bounded by its own length.
_MAX_FIELDS = 100
_MAX_FIELD_TEXT = 10_000


class Form(StrEnum):
    """What a fact's text always looks like: what it is compared with has to look alike."""

    ADDRESS = "an IP address"
    DOMAIN = "a domain name in lower case"
    LOWER = "lower case"


@dataclass(frozen=True, slots=True)
class Fact:
    """One row. `read` gives None where the fact could not be had: its check was not run."""

    name: str
    type: FactType
    stage: Stage
    doc: str
    read: Callable[[Facts, Results], FactValue | None]
    check: Check | None = None
    words: tuple[str, ...] = ()
    form: Form | None = None


def _domain(mailbox: Mailbox | None) -> str:
    return mailbox.domain.name if mailbox is not None and isinstance(mailbox.domain, Domain) else ""


def _name(domain: Domain | None) -> str:
    return domain.name if domain is not None else ""


T = TypeVar("T")


def _of(found: T | None, read: Callable[[T], FactValue]) -> FactValue | None:
    return None if found is None else read(found)


def _trusted_word(facts: Facts, method: str, words: tuple[str, ...]) -> str:
    """What a trusted server says of a method."""
    results = facts.trusted.results if facts.trusted is not None else ()
    return reported(results, method, words, facts.transaction.sender)


def _hop_word(facts: Facts, results: Results, method: str, words: tuple[str, ...]) -> str | None:
    """What the first trusted hop of the ARC chain says of a method. None where no chain was looked for."""
    if results.arc is None:
        return None
    seen = results.arc_trusted.results if results.arc_trusted is not None else None
    said = [each for each in seen.results if method != "dmarc" or of_author(each, facts.author)] if seen else ()
    return reported(said, method, words, facts.transaction.sender)


def _listed(found: tuple[ListResult, ...]) -> FactValue:
    zones = (each.listing.zone.name for each in found if each.code is ListCode.LISTED)
    return list(dict.fromkeys(zones))


_SPF_WORDS = tuple(code.value for code in SpfCode)
_DKIM_WORDS = tuple(code.value for code in DkimCode)
_DMARC_WORDS = tuple(code.value for code in DmarcCode)
_SPAM_WORDS = tuple(code.value for code in SpamCode)
_HELO_WORDS = tuple(kind.value for kind in HeloKind)
_IPREV_WORDS = tuple(code.value for code in IprevCode)
_ARC_WORDS = tuple(code.value for code in ArcCode)
_REQUEST_WORDS = ("", *(request.value for request in Request))
_AUTHOR_WORDS = ("", "author.missing", "author.several-fields", "author.several", "author.malformed")

_S, _B, _I, _L = FactType.STRING, FactType.BOOL, FactType.INT, FactType.STRINGS
#: The fact that grows while the rules of a stage are asked.
SCORE = "score"


class _Facts(dict[str, Fact]):
    """All facts by their names. `header("subject")` and the like are facts, too: they need no row."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and _HEADER_FACT.fullmatch(name) is not None)

    def __missing__(self, name: str) -> Fact:
        return _header_fact(name)


FACTS: dict[str, Fact] = _Facts({
    fact.name: fact
    for fact in (
        Fact(
            "client.ip", _S, Stage.CONNECT, "The client's address; empty for a local submission.",
            lambda f, r: str(f.transaction.client.ip or ""), form=Form.ADDRESS,
        ),
        Fact(
            "client.name", _S, Stage.CONNECT, "The client's name as the MTA verified it; empty where it could not.",
            lambda f, r: f.transaction.client.name or "",
        ),
        Fact(
            "client.trusted", _B, Stage.CONNECT, "Whether the client is in `networks.trusted`.",
            lambda f, r: f.client_trusted,
        ),
        Fact(
            "client.relay", _B, Stage.CONNECT, "Whether the client is in `networks.relays`: one of our own MXs.",
            lambda f, r: f.client_relay,
        ),
        Fact(
            "client.helo", _S, Stage.HELO, "The name that the client gave itself.",
            lambda f, r: f.transaction.helo or "",
        ),
        Fact(
            "client.authenticated", _B, Stage.MAIL, "Whether the client logged in by SMTP AUTH.",
            lambda f, r: f.transaction.user is not None,
        ),
        Fact(
            "client.user", _S, Stage.MAIL, "The login name; empty for strangers.",
            lambda f, r: f.transaction.user or "",
        ),
        Fact(
            "from_us", _B, Stage.MAIL, "Whether `mail_from_us` holds: the mail is ours to sign.",
            lambda f, r: f.from_us,
        ),
        Fact(
            "envelope.sender", _S, Stage.MAIL, "The envelope sender, A-labels, lower case; empty for bounces.",
            lambda f, r: _of(f.transaction.sender, lambda path: path.address), form=Form.LOWER,
        ),
        Fact(
            "envelope.sender_domain", _S, Stage.MAIL, "Its domain, A-labels, lower case; empty where it has none.",
            lambda f, r: _of(f.transaction.sender, lambda path: _domain(path.mailbox)), form=Form.DOMAIN,
        ),
        Fact(
            "envelope.recipient", _S, Stage.RCPT, "The recipient that is judged; rules run once for each.",
            lambda f, r: _of(f.recipient, lambda path: path.address), form=Form.LOWER,
        ),
        Fact(
            "envelope.recipient_domain", _S, Stage.RCPT, "Its domain, A-labels, lower case.",
            lambda f, r: _of(f.recipient, lambda path: _domain(path.mailbox)), form=Form.DOMAIN,
        ),
        Fact(
            "envelope.recipients", _I, Stage.DATA, "How many recipients were accepted.",
            lambda f, r: f.transaction.recipient_count,
        ),
        Fact(
            "author.domain", _S, Stage.END_OF_HEADERS, "The domain of the one author in From; empty if not one.",
            lambda f, r: _of(f.author, lambda author: _name(author.domain)), form=Form.DOMAIN,
        ),
        Fact(
            "author.problem", _S, Stage.END_OF_HEADERS, "Why there is no single author; empty if there is.",
            lambda f, r: _of(f.author, lambda author: author.reason.value if author.reason else ""),
            words=_AUTHOR_WORDS,
        ),
        Fact(
            "author.allowed", _B, Stage.END_OF_HEADERS, "Whether the login may write as this author; see `senders`.",
            lambda f, r: f.author_allowed,
        ),
        Fact(
            "message.indirect", _B, Stage.END_OF_HEADERS,
            "Whether something speaks for a mailing list or forwarder: List-Id, List-Post, an ARC set, Resent- fields.",
            lambda f, r: _of(f.header, indirect),
        ),
        Fact(
            "message.header_fields", _I, Stage.END_OF_HEADERS, "How many header fields the mail has.",
            lambda f, r: _of(f.header, len),
        ),
        Fact(
            "trusted.spf", _S, Stage.END_OF_HEADERS,
            "SPF as a server of `identity.trusted_authserv_ids` found it; empty where none says.",
            lambda f, r: _trusted_word(f, "spf", _SPF_WORDS), words=("", *_SPF_WORDS),
        ),
        Fact(
            "trusted.dkim", _S, Stage.END_OF_HEADERS, "DKIM as that server found it: its best result, or empty.",
            lambda f, r: _trusted_word(f, "dkim", _DKIM_WORDS), words=("", *_DKIM_WORDS),
        ),
        Fact(
            "trusted.dmarc", _S, Stage.END_OF_HEADERS, "DMARC as that server found it, or empty.",
            lambda f, r: _trusted_word(f, "dmarc", _DMARC_WORDS), words=("", *_DMARC_WORDS),
        ),
        Fact(
            "trusted.arc", _S, Stage.END_OF_HEADERS, "The ARC chain as that server found it, or empty.",
            lambda f, r: _trusted_word(f, "arc", _ARC_WORDS), words=("", *_ARC_WORDS),
        ),
        Fact(
            "message.size", _I, Stage.END_OF_MESSAGE, "Octets of header and body.",
            lambda f, r: f.size,
        ),
        Fact(
            SCORE, FactType.DOUBLE, Stage.END_OF_MESSAGE, "The sum of all `score` actions of the rules before.",
            lambda f, r: score_of(f.summands),
        ),
        Fact(
            "spf.result", _S, Stage.MAIL, "SPF of the envelope sender (RFC 7208).",
            lambda f, r: _of(r.spf, lambda spf: spf.code.value), Check.SPF, _SPF_WORDS,
        ),
        Fact(
            "spf.domain", _S, Stage.MAIL, "The domain whose SPF record was asked.",
            lambda f, r: _of(r.spf, lambda spf: _name(spf.domain)), Check.SPF, form=Form.DOMAIN,
        ),
        Fact(
            "spf.helo_result", _S, Stage.MAIL, "SPF of the HELO name. Never counts for DMARC.",
            lambda f, r: _of(r.spf_helo, lambda spf: spf.code.value), Check.SPF_HELO, _SPF_WORDS,
        ),
        Fact(
            "helo.kind", _S, Stage.MAIL,
            "What kind of name the client gave itself; DNS is asked for the addresses of one that looks right.",
            lambda f, r: _of(r.helo, lambda helo: helo.kind.value), Check.HELO, _HELO_WORDS,
        ),
        Fact(
            "iprev.result", _S, Stage.MAIL,
            "Whether the client's address has a name that leads back to it (RFC 8601 3); permerror: it has no name.",
            lambda f, r: _of(r.iprev, lambda iprev: iprev.code.value), Check.IPREV, _IPREV_WORDS,
        ),
        Fact(
            "iprev.name", _S, Stage.MAIL, "That name; empty unless iprev.result is pass.",
            lambda f, r: _of(r.iprev, lambda iprev: _name(iprev.name)), Check.IPREV, form=Form.DOMAIN,
        ),
        Fact(
            "dnsbl.listed", _L, Stage.MAIL,
            "The zones of `dnsbl` that list the client, its HELO name or the envelope sender's domain.",
            lambda f, r: _of(r.dnsbl, _listed), Check.DNSBL, form=Form.DOMAIN,
        ),
        Fact(
            "dnsbl.author_listed", _L, Stage.END_OF_MESSAGE, "The zones of `dnsbl` that list the author domain.",
            lambda f, r: _of(r.dnsbl_author, _listed), Check.DNSBL_AUTHOR, form=Form.DOMAIN,
        ),
        Fact(
            "spam.result", _S, Stage.END_OF_MESSAGE, "What spamd thinks; skipped: larger than `spamd.max_size`.",
            lambda f, r: _of(r.spam, lambda spam: spam.code.value), Check.SPAM, _SPAM_WORDS,
        ),
        Fact(
            "spam.score", FactType.DOUBLE, Stage.END_OF_MESSAGE, "spamd's score; 0 where it has none.",
            lambda f, r: _of(r.spam, lambda spam: spam.score), Check.SPAM,
        ),
        Fact(
            "spam.threshold", FactType.DOUBLE, Stage.END_OF_MESSAGE, "From which score on spamd calls a mail spam.",
            lambda f, r: _of(r.spam, lambda spam: spam.threshold), Check.SPAM,
        ),
        Fact(
            "spam.symbols", _L, Stage.END_OF_MESSAGE, "The names of SpamAssassin's tests that the mail met.",
            lambda f, r: _of(r.spam, lambda spam: list(spam.symbols)), Check.SPAM,
        ),
        Fact(
            "spam.report", _S, Stage.END_OF_MESSAGE,
            "What spamd says of each test in X-Spam-Report; empty where its configuration writes none.",
            lambda f, r: _of(r.spam, lambda spam: spam.report), Check.SPAM,
        ),
        Fact(
            "dkim.result", _S, Stage.END_OF_MESSAGE, "The best result of all signatures; none if there is none.",
            lambda f, r: _of(r.dkim, lambda found: dkim_word({each.code for each in found})), Check.DKIM, _DKIM_WORDS,
        ),
        Fact(
            "dkim.pass_domains", _L, Stage.END_OF_MESSAGE, "The signing domains (d=) whose signatures hold.",
            lambda f, r: _of(r.dkim, lambda found: [_name(each.sdid) for each in found if each.code is DkimCode.PASS]),
            Check.DKIM, form=Form.DOMAIN,
        ),
        Fact(
            "arc.result", _S, Stage.END_OF_MESSAGE, "Whether the chain of ARC sets holds (RFC 8617).",
            lambda f, r: _of(r.arc, lambda arc: arc.code.value), Check.ARC, _ARC_WORDS,
        ),
        Fact(
            "arc.sealer", _S, Stage.END_OF_MESSAGE, "The domain of the newest seal of a chain that holds, or empty.",
            lambda f, r: _of(r.arc, lambda arc: _name(next(iter(arc.sealers), None))), Check.ARC, form=Form.DOMAIN,
        ),
        Fact(
            "arc.trusted", _B, Stage.END_OF_MESSAGE,
            "Whether the chain holds, and its newest seal is of `arc.trusted_sealers`; says nothing of who wrote it.",
            lambda f, r: _of(r.arc, lambda _: r.arc_trusted is not None), Check.ARC,
        ),
        Fact(
            "arc.trusted_spf", _S, Stage.END_OF_MESSAGE,
            "SPF as the first of the trusted sealers through which the mail came saw it; empty where none says.",
            lambda f, r: _hop_word(f, r, "spf", _SPF_WORDS), Check.ARC, ("", *_SPF_WORDS),
        ),
        Fact(
            "arc.trusted_dkim", _S, Stage.END_OF_MESSAGE, "DKIM as that sealer saw it: its best result, or empty.",
            lambda f, r: _hop_word(f, r, "dkim", _DKIM_WORDS), Check.ARC, ("", *_DKIM_WORDS),
        ),
        Fact(
            "arc.trusted_dmarc", _S, Stage.END_OF_MESSAGE,
            "DMARC as that sealer saw it, of the author whom the mail still has; or empty.",
            lambda f, r: _hop_word(f, r, "dmarc", _DMARC_WORDS), Check.ARC, ("", *_DMARC_WORDS),
        ),
        Fact(
            "dmarc.result", _S, Stage.END_OF_MESSAGE, "DMARC (RFC 9989): whether what passed belongs to the author.",
            lambda f, r: _of(r.dmarc, lambda dmarc: dmarc.code.value), Check.DMARC, _DMARC_WORDS,
        ),
        Fact(
            "dmarc.policy", _S, Stage.END_OF_MESSAGE, "What the author's domain asks for if DMARC fails, or empty.",
            lambda f, r: _of(r.dmarc, lambda dmarc: dmarc.policy.value if dmarc.policy else ""),
            Check.DMARC, _REQUEST_WORDS,
        ),
        Fact(
            "dmarc.author_domain", _S, Stage.END_OF_MESSAGE, "The author domain that DMARC judged.",
            lambda f, r: _of(r.dmarc, lambda dmarc: _name(dmarc.author_domain)), Check.DMARC, form=Form.DOMAIN,
        ),
        Fact(
            "dmarc.policy_domain", _S, Stage.END_OF_MESSAGE, "The domain whose DMARC record governs; empty: none.",
            lambda f, r: _of(r.dmarc, lambda dmarc: _name(dmarc.policy_domain)), Check.DMARC, form=Form.DOMAIN,
        ),
        Fact(
            "dmarc.testing", _B, Stage.END_OF_MESSAGE, "Whether that record is only tried out: t=y, or pct below 100.",
            lambda f, r: _of(r.dmarc, lambda dmarc: dmarc.testing), Check.DMARC,
        ),
    )
})  # fmt: skip


def content_facts(facts: Facts) -> dict[str, FactValue]:
    """The facts of the content that are numbers, or true or false: they say nothing of persons, and may be kept."""
    found = {fact.name: fact.read(facts, Results()) for fact in _CONTENT_FACTS}
    return {name: value for name, value in found.items() if value is not None}


@lru_cache(maxsize=1024)
def _header_fact(name: str) -> Fact:
    """The fact of a field. Raises KeyError."""
    found = _HEADER_FACT.fullmatch(name)
    if found is None:
        raise KeyError(name)
    function, field_name = found[1], found[2]

    def read(facts: Facts, results: Results) -> FactValue | None:
        if facts.header is None:
            return None
        if function == "has_header":
            return facts.header.has(field_name)
        fields = facts.header.all(field_name)[: 1 if function == "header" else _MAX_FIELDS]
        texts = [shown(each.value[:_MAX_FIELD_TEXT]) for each in fields]
        return texts if function == "headers" else next(iter(texts), None)

    return Fact(name, HEADER_FUNCTIONS[function], Stage.END_OF_HEADERS, f"The field {field_name}.", read)


_CONTENT_FACTS = tuple(
    fact
    for fact in FACTS.values()
    if fact.name.startswith("message.") and fact.type in (FactType.BOOL, FactType.INT) and fact.check is None
)
