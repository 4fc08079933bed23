"""Mail that came through hops which seal, judged by the whole engine, and as it is delivered then."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from arc_mail import DOMAINS, RSA, key_name, rebuilt, signing_key
from dkim_mail import NOW, SELECTOR, split

from filterd.dkim.sign import SigningKey
from filterd.engine.changes import InsertField
from filterd.engine.finish import Finished
from filterd.engine.replay import StoredMail, judge
from filterd.engine.runtime import Clock, Runtime
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

#: Without its own tests, as these change what it says.
SHIPPED = (Path(__file__).parents[1] / "policies" / "default.yaml").read_text().partition("\ntests:")[0] + "\n"
HOST, US = "mx.home.example", "home.example"
LIST, FORWARDER, UNIVERSITY = DOMAINS
#: home.example seals, list.example and forwarder.example are trusted.
SEALING = f"""\
version: 1
identity: {{ authserv_id: {HOST} }}
arc: {{ seal: true, trusted_sealers: [{LIST}, {FORWARDER}] }}
sign: [{{ domains: [{US}], keys: [{{ selector: {SELECTOR}, file: rsa }}] }}]
"""
TRUSTING = f"identity: {{ authserv_id: {HOST} }}\narc: {{ trusted_sealers: [{LIST}, {FORWARDER}] }}\n"
KEYS: Mapping[str, SigningKey] = {"rsa": signing_key(RSA)}
#: What the author's domain asks for; the keys of all who seal.
TEXTS = {
    "_dmarc.example.org": b"v=DMARC1; p=reject",
    "_dmarc.shop.example": b"v=DMARC1; p=quarantine",
    "_dmarc.news.example": b"v=DMARC1; p=none",
    **{key_name(domain): RSA.record for domain in (*DOMAINS, US)},
}


def zone(**changed: bytes | None) -> "Zone":
    return Zone({name: text for name, text in {**TEXTS, **changed}.items() if text is not None})


class Zone:
    """DNS with these TXT records; names in `failing` cannot be answered."""

    def __init__(self, texts: Mapping[str, bytes], failing: frozenset[str] = frozenset()) -> None:
        answers = {(name, "TXT"): Answer(name, "TXT", Outcome.FOUND, (text,)) for name, text in texts.items()}
        self._zone, self._failing = ZoneResolver(answers), failing
        self.asked: list[str] = []

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.asked.append(name)
        if name in self._failing:
            return Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT)
        return self._zone.lookup(name, rdtype)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass


@dataclass
class Judged:
    """A mail's end. `added` is what was inserted, top to bottom, as field names and values in one line."""

    transcript: Transcript
    finished: Finished
    delivered: bytes

    @property
    def added(self) -> list[tuple[str, str]]:
        made = [change for change in reversed(self.finished.changes) if isinstance(change, InsertField)]
        return [(each.name, " ".join(each.value.split())) for each in made]

    @property
    def results(self) -> str:
        return dict(self.added)["Authentication-Results"]

    @property
    def facts(self) -> dict[str, object]:
        """Those that rules read at the end."""
        steps = [step for judgement in self.transcript.judgements for step in judgement.verdict.steps]
        return {name: value for step in steps for name, value in step.facts}


def judged(
    mail: bytes,
    policy: str = SHIPPED + TRUSTING,
    resolver: Resolver | None = None,
    ip: str = "198.51.100.7",
    user: str | None = None,
) -> Judged:
    """What becomes of a mail that this client brings."""
    transcripts: list[Transcript] = []
    source = resolver or zone()
    clock = Clock(now=lambda: NOW)
    runtime = Runtime(load(policy, "p.yaml", KEYS.__getitem__), HOST, lambda _: source, transcripts.append, clock)
    sender, recipient = ReversePath("x@bounces.example", parse_path("x@bounces.example")), "anna@home.example"
    to = ForwardPath(recipient, parse_path(recipient))
    finished = judge(runtime, StoredMail(mail, Client(ip_address(ip)), "forward.example", sender, (to,), user))
    return Judged(transcripts[-1], finished, _delivered(mail, finished))


def _delivered(mail: bytes, finished: Finished) -> bytes:
    """The mail after the changes, each made as an MTA makes it."""
    fields = list(split(mail)[0])
    for change in finished.changes:
        name = change.name.encode()
        if isinstance(change, InsertField):
            value = b" " + change.value.encode().replace(b"\n", b"\r\n")
            fields.insert(change.index, Field(name, value))
        else:
            places = [place for place, field in enumerate(fields) if field.key == name.lower()]
            del fields[places[change.occurrence - 1]]
    return rebuilt(mail, fields)
