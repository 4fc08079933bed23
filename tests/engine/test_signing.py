"""Mail from us is signed with the keys that are published, or has one reason why not."""

from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from filterd.backend.zone import zone_resolver
from filterd.dkim.sign import SigningError, SigningKey
from filterd.dkim.verify import Verification
from filterd.engine.changes import InsertField
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.address import parse_path
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason
from filterd.mail.transaction import Client, ForwardPath, ReversePath
from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition


def _key(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> SigningKey:
    return SigningKey.load(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


KEYS = {
    "rsa.pem": _key(rsa.generate_private_key(65537, 2048)),
    "ed.pem": _key(ed25519.Ed25519PrivateKey.generate()),
}
POLICY = """\
version: 1
sign:
  - domains: [example.org, "*.example.org"]
    keys: [{ selector: r, file: rsa.pem }, { selector: e, file: ed.pem }]
senders: { anna: ["@example.org", "@news.example.org", "x@two.example"], root: ["*"] }
"""


def zone(*published: str) -> str:
    records = {"r": KEYS["rsa.pem"].public_record(), "e": KEYS["ed.pem"].public_record()}
    lines = ["$TTL 300", "@ IN SOA a. b. 1 2 3 4 5"]
    for name in published:
        text = records[name]
        strings = " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250))
        lines.append(f"{name}._domainkey.example.org. IN TXT {strings}")
    return "\n".join(lines) + "\n"


class Broken:
    """A resolver that can tell nothing."""

    def lookup(self, name: str, rdtype: str) -> Answer:
        return Answer(name, rdtype, Outcome.TEMPFAIL, reason=Reason.DNS_TIMEOUT)

    def prefetch(self, name: str, rdtype: str) -> None:
        pass


class Desk:
    """Sends mail from us, and keeps what became of it."""

    def __init__(self, resolver: Resolver, policy: str = POLICY) -> None:
        self.resolver = resolver
        self.transcripts: list[Transcript] = []
        compiled = load(policy, "p.yaml", KEYS.__getitem__)
        self.runtime = Runtime(compiled, "mx.example.org", lambda _: self.resolver, self.transcripts.append)

    def send(self, author: bytes, user: str | None = "anna") -> Transcript:
        session = MailSession(self.runtime, "c")
        session.connect(Client(ip_address("127.0.0.1")), None)
        session.helo("phone", None)
        session.mail(ReversePath("anna@example.org", parse_path("anna@example.org")), user, None)
        session.rcpt(ForwardPath("x@y.example", None), "Q")
        self.fields = (*(Field(b"From", b" " + each) for each in author.split(b"|")), Field(b"Subject", b" x"))
        session.end_of_headers(self.fields, "Q")
        session.body(b"some te")
        session.body(b"xt\r\n")
        self.finished = session.end_of_message("Q")
        return self.transcripts[-1]

    def verified(self) -> list[str]:
        """What a receiver finds."""
        added = [change for change in self.finished.changes if isinstance(change, InsertField)]
        made = [Field(each.name.encode(), b" " + each.value.replace("\n", "\r\n").encode()) for each in added]
        verification = Verification(Header((*made, *self.fields)), int(self.runtime.clock.now()))
        verification.body(b"some text\r\n")
        return [
            f"{each.code}:{each.sdid}/{each.selector}" for each in verification.finish(zone_resolver(zone("r", "e")))
        ]


def test_every_published_key_signs() -> None:
    desk = Desk(zone_resolver(zone("r", "e")))

    mail = desk.send(b"anna@example.org")

    assert mail.signed == ("example.org/r", "example.org/e")
    assert None is mail.unsigned
    assert sorted(desk.verified()) == ["pass:example.org/e", "pass:example.org/r"]


def test_signatures_cover_what_rules_have_edited() -> None:
    rule = "rules:\n  - { name: r, when: from_us, then: { subject_prefix: '[S]' } }\n"
    desk = Desk(zone_resolver(zone("r", "e")), POLICY + rule)

    desk.send(b"anna@example.org")
    assert sorted(desk.verified()) == ["fail:example.org/e", "fail:example.org/r"]

    desk.fields = (desk.fields[0], Field(b"Subject", b" [S] x"))
    assert sorted(desk.verified()) == ["pass:example.org/e", "pass:example.org/r"]


def test_a_key_that_is_not_published_is_not_used() -> None:
    desk = Desk(zone_resolver(zone("r")))

    assert desk.send(b"anna@example.org").signed == ("example.org/r",)
    assert desk.verified() == ["pass:example.org/r"]


def test_a_subdomain_signs_as_the_domain_that_the_wildcard_stands_under() -> None:
    desk = Desk(zone_resolver(zone("r", "e")))

    assert desk.send(b"anna@news.example.org").signed == ("example.org/r", "example.org/e")


@pytest.mark.parametrize(
    ("on_unpublished", "disposition", "signatures"),
    [("defer", Disposition.DEFER, 0), ("skip", Disposition.CONTINUE, 0), ("sign", Disposition.CONTINUE, 2)],
)
def test_without_a_published_key_the_policy_says(
    on_unpublished: str, disposition: Disposition, signatures: int
) -> None:
    policy = POLICY.replace("    keys:", f"    on_unpublished: {on_unpublished}\n    keys:")
    desk = Desk(zone_resolver(zone()), policy)

    mail = desk.send(b"anna@example.org")

    assert disposition is mail.verdict.disposition
    assert signatures == len(mail.signed)
    assert (None if signatures else Reason.SIGN_UNPUBLISHED) == mail.unsigned
    if disposition is Disposition.DEFER:
        assert str(mail.verdict.reply) == "451 4.7.5 this mail cannot be signed now, try again later"


def test_a_signature_that_cannot_be_made_is_no_matter_of_publication(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise SigningError("no")

    monkeypatch.setattr("filterd.engine.signing.sign", breaks)
    mail = Desk(zone_resolver(zone("r"))).send(b"anna@example.org")

    assert (mail.verdict.disposition, mail.verdict.rule) == (Disposition.DEFER, "sign.failed")
    assert (mail.unsigned, mail.fault) == (Reason.SIGN_FAILED, "sign: no")


def test_a_broken_resolver_keeps_the_last_known_state() -> None:
    desk = Desk(Broken())
    assert len(desk.send(b"anna@example.org").signed) == 2

    desk.resolver = zone_resolver(zone("r"))
    desk.send(b"anna@example.org")
    desk.resolver = Broken()
    assert desk.send(b"anna@example.org").signed == ("example.org/r",)


@pytest.mark.parametrize(
    ("author", "user", "reason"),
    [
        (b"anna@other.example", None, Reason.SIGN_NOT_CONFIGURED),
        (b"anna@other.example", "anna", Reason.SIGN_SENDER),
        (b"anna@example.org", "bob", Reason.SIGN_SENDER),
        (b"y@two.example", "anna", Reason.SIGN_SENDER),
        (b"x@two.example", "anna", Reason.SIGN_NOT_CONFIGURED),
        (b"anna@example.org, boss@example.org", "root", Reason.AUTHOR_SEVERAL),
        (b"anna@example.org|boss@example.org", "root", Reason.AUTHOR_SEVERAL_FIELDS),
        (b"Anna <", "root", Reason.AUTHOR_MALFORMED),
    ],
)
def test_unsigned_mail_has_one_reason(author: bytes, user: str | None, reason: Reason) -> None:
    desk = Desk(zone_resolver(zone("r", "e")))

    mail = desk.send(author, user)

    assert ((), reason) == (mail.signed, mail.unsigned)
    assert desk.verified() == []
    assert Disposition.CONTINUE is mail.verdict.disposition
    assert f"unsigned={reason}" in " ".join(f"{key}={value}" for key, value in mail.log_line().items())


def test_a_policy_may_refuse_somebody_elses_author() -> None:
    rule = "rules: [{ name: not-yours, when: from_us && !author.allowed, then: reject }]\n"
    desk = Desk(zone_resolver(zone("r")), POLICY + rule)

    for author in (
        b"boss@else.example",
        b"anna@example.org|boss@example.org",
        b"anna@example.org <boss@example.org",
        b"",
    ):
        assert Disposition.REJECT is desk.send(author).verdict.disposition
    assert Disposition.CONTINUE is desk.send(b"anna@example.org").verdict.disposition


def test_strangers_mail_is_never_signed() -> None:
    desk = Desk(zone_resolver(zone("r")), POLICY + "networks: { trusted: [] }\n")

    assert (desk.send(b"anna@example.org", None).signed, desk.transcripts[-1].unsigned) == ((), None)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("file: rsa.pem", "file: no.pem", "p.yaml:4:27: sign[0].keys[0].file: keys are not read here"),
        ("selector: r", "selector: r..r/", "p.yaml:4:14: sign[0].keys[0].selector: "),
        ("[example.org,", "[example.org, exa_mple.org.., ", "p.yaml:3:15: sign[0].domains[1]: "),
        ("senders:", "  - { domains: [example.org], keys: [{ selector: r, file: rsa.pem }] }\nsenders:", "p.yaml:5:17: sign[1].domains[0]: example.org is signed for by the entry in line 3 already"),
        ("@news.example.org", "news.example.org", "p.yaml:5:27: senders.anna[1]: there is no @"),
    ],
)  # fmt: skip
def test_faults_name_their_place(old: str, new: str, expected: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load(POLICY.replace(old, new), "p.yaml")

    assert any(str(error).startswith(expected.rsplit(":", 1)[0].split(":", 1)[0]) for error in caught.value.errors)
    texts = [str(error).split(": ", 1)[1] for error in caught.value.errors]
    assert any(text.startswith(expected.split(": ", 1)[1].strip()) for text in texts), texts
