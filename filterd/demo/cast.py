"""The people of the demonstration: domains, a zone that speaks for them, and the mails that they and others send.

All addresses and names are reserved for documentation (RFC 2606, RFC 5737).
"""

from dataclasses import dataclass
from email.utils import formatdate
from enum import StrEnum

from filterd.arc.seal import seal
from filterd.arc.verify import ArcCode, ArcResult
from filterd.authres.result import AuthenticationResults, MethodResult, Property
from filterd.dkim.bodyhash import BodyHasher
from filterd.dkim.sign import OUTGOING_BODY, SigningKey, sign
from filterd.mail.domain import Domain
from filterd.mail.message import split

HOST = "mx.home.example"
USER, PASSWORD = "anna", "demonstration"
READER = "anna@home.example"

BANK_IP, SHOP_IP, PLAIN_IP = "192.0.2.10", "192.0.2.20", "192.0.2.30"
FORWARDER_IP, STRANGER_IP = "198.51.100.7", "203.0.113.66"
NEW_IP, ITS_NEIGHBOUR_IP = "203.0.113.130", "203.0.113.131"
SEALER = "list.example"

#: How long, in seconds, greylisting lets strangers wait here, and how many mails an account may send in an hour.
DELAY, RATE = 2, 3
# Whatever has it is spam to SpamAssassin.
_GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


class Ends(StrEnum):
    """Where a mail is found when all is over."""

    INBOX = "inbox"
    TAGGED = "inbox, tagged"
    JUNK = "junk"
    REFUSED = "refused"
    WAITS = "deferred"


@dataclass(frozen=True, slots=True)
class Scene:
    """One mail, and how it must end.

    `message` has CRLF line ends. `user` makes it a submission by SMTP AUTH. `spf`, `dkim` and `dmarc` are result words,
    "-" where the check is not run; `arc` is "-" where the mail bears no chain. `gone` is text that must not be in the
    delivered mail. `signed` mail has a signature of ours that holds. `scanned` mail is spamd's to judge. `after` is how
    many seconds pass before it is sent.
    """

    title: str
    client_ip: str
    helo: str
    sender: str
    message: bytes
    spf: str
    dkim: str
    dmarc: str
    ends: Ends
    rule: str = "-"
    user: str | None = None
    gone: bytes | None = None
    arc: str = "-"
    signed: bool = False
    scanned: bool = False
    after: float = 0


def zone(key: SigningKey) -> str:
    """What the domains publish, as a master file (RFC 1035)."""
    return f"""$TTL 300
@                             IN SOA ns.demo.example. postmaster.demo.example. 1 3600 600 86400 300
bank.example.                 IN TXT "v=spf1 ip4:{BANK_IP} -all"
_dmarc.bank.example.          IN TXT "v=DMARC1; p=reject"
demo._domainkey.bank.example. IN TXT {_strings(key.public_record())}
demo._domainkey.home.example. IN TXT {_strings(key.public_record())}
demo._domainkey.{SEALER}. IN TXT {_strings(key.public_record())}
shop.example.                 IN TXT "v=spf1 ip4:{SHOP_IP} -all"
_dmarc.shop.example.          IN TXT "v=DMARC1; p=quarantine"
stranger.example.             IN TXT "v=spf1 ip4:{STRANGER_IP} -all"
demo._domainkey.stranger.example. IN TXT {_strings(key.public_record())}
plain.example.                IN A {PLAIN_IP}
{HOST}.              IN A 127.0.0.1
"""


def scenes(key: SigningKey, now: int) -> tuple[Scene, ...]:
    """The mails that `policies/default.yaml` judges by itself, in the order in which they are sent."""
    bank = _mail("The Bank <service@bank.example>", "Your statement", "It is ready.\r\n")
    signed = _signed(bank, "bank.example", key, now)
    shop = _mail("The Shop <orders@shop.example>", "Your order", "It is on its way.\r\n")
    forged = _mail("The Bank <service@bank.example>", "Confirm your password", "http://stranger.example/\r\n")
    listed = b"List-Id: Friends <friends.list.example>\r\n" + signed + b"-- \r\nfriends mailing list\r\n"
    sealed, vouched = (_sealed(listed, domain, key, now) for domain in ("stranger.example", SEALER))
    claim = f"Authentication-Results: {HOST}; dmarc=pass header.from=shop.example\r\n".encode()
    two = b"From: The Shop <orders@shop.example>\r\n" + forged
    fake = _mail("The Shop <orders@shop.example>", "You have won", "http://stranger.example/\r\n")
    bank_at, stranger_at = "service@bank.example", "x@stranger.example"
    by_bank = (BANK_IP, "mail.bank.example", bank_at)
    by_plain = (PLAIN_IP, "mail.plain.example", "paul@plain.example")
    by_forwarder = (FORWARDER_IP, "forward.example", bank_at)
    by_stranger = (STRANGER_IP, "stranger.example", stranger_at)
    failing = ("fail", "fail", "fail")
    inbox, junk, refused = Ends.INBOX, Ends.JUNK, Ends.REFUSED
    changed = signed.replace(b"ready", b"stolen")
    return (
        Scene("honest: DKIM and SPF", *by_bank, signed, "pass", "pass", "pass", inbox),
        Scene("honest: SPF only", *_BY_SHOP, shop, "pass", "none", "pass", inbox),
        Scene("honest: forwarded, DKIM only", *by_forwarder, signed, "fail", "pass", "pass", inbox),
        Scene("forged From, p=reject", *by_stranger, forged, "pass", "none", "fail", refused, "refuse-forgery"),
        Scene("forged From, p=quarantine", *by_stranger, fake, "pass", "none", "fail", junk, "quarantine-forgery"),
        Scene("body changed after signing", *by_forwarder, changed, "fail", "fail", "fail", refused, "refuse-forgery"),
        Scene("changed by a mailing list", *by_forwarder, listed, "fail", "fail", "fail", junk, "quarantine-list"),
        Scene("list with a stranger's seal", *by_forwarder, sealed, *failing, junk, "quarantine-list", arc="pass"),
        Scene("list with a trusted seal", *by_forwarder, vouched, *failing, inbox, arc="pass"),
        Scene("forged results of ours", *_BY_SHOP, claim + shop, "pass", "none", "pass", inbox, gone=claim),
        Scene("two From fields", *_BY_SHOP, two, "pass", "-", "-", refused, "dmarc.on_multiple_authors"),
        Scene("domain without records", *by_plain, _PLAIN, *_NOTHING, Ends.TAGGED),
        Scene("submission, logged in", *_BY_PHONE, _OWN, *_OURS, inbox, user=USER, signed=True),
    )


def guarded_scenes() -> tuple[Scene, ...]:
    """The mails after those, for spamd, greylisting and a limit to judge."""
    spam = _mail("The Shop <orders@shop.example>", "Buy now", f"{_GTUBE}\r\n")
    new, neighbour = ((ip, "pc-7", "paul@plain.example") for ip in (NEW_IP, ITS_NEIGHBOUR_IP))
    refused, waits = Ends.REFUSED, Ends.WAITS
    again = Scene("comes again, next door", *neighbour, _PLAIN, *_NOTHING, Ends.TAGGED, after=DELAY + 0.5)
    burst = ("burst: her second mail", "burst: her third mail")
    return (
        Scene("spam, by SpamAssassin", *_BY_SHOP, spam, "pass", "none", "pass", refused, "score.reject", scanned=True),
        Scene("new, proves nothing", *new, _PLAIN, "none", "-", "-", waits, "greylist"),
        again,
        *(Scene(title, *_BY_PHONE, _OWN, *_OURS, Ends.INBOX, user=USER, signed=True) for title in burst),
        Scene("burst: one too many", *_BY_PHONE, _OWN, *_OURS, waits, "per-user", user=USER),
    )


def _mail(author: str, subject: str, body: str, to: str = READER) -> bytes:
    fields = [f"From: {author}", f"To: <{to}>", f"Subject: {subject}", f"Date: {formatdate()}"]
    fields += ["Message-ID: <demonstration.1@mail.demo.example>", "MIME-Version: 1.0"]
    return ("\r\n".join(fields) + "\r\n\r\n" + body).encode()


def _signed(message: bytes, domain: str, key: SigningKey, now: int) -> bytes:
    header, body = split(message)
    return sign(header, _hash(body), key, Domain.parse(domain), "demo", now).raw + message


def _sealed(message: bytes, domain: str, key: SigningKey, now: int) -> bytes:
    """As a list passes it on that saw DMARC pass, before it changed the mail."""
    header, body = split(message)
    saw = MethodResult("dmarc", "pass", (Property("header", "from", "bank.example"),))
    results, chain = AuthenticationResults(f"mx.{domain}", (saw,)), ArcResult(ArcCode.NONE)
    fields = seal(header, _hash(body), key, Domain.parse(domain), "demo", results, chain, now)
    return b"".join(field.raw for field in fields or ()) + message


def _hash(body: bytes) -> bytes:
    hasher = BodyHasher([OUTGOING_BODY])
    hasher.update(body)
    hasher.finish()
    return hasher.hash_of(OUTGOING_BODY).digest


def _strings(record: str) -> str:
    """A TXT record's text as character strings of at most 255 octets (RFC 1035 3.3.14)."""
    return " ".join(f'"{record[start : start + 250]}"' for start in range(0, len(record), 250))


_PLAIN = _mail("Paul <paul@plain.example>", "Hello", "Long time no see.\r\n")
_OWN = _mail("Anna <anna@home.example>", "Greetings", "From my phone.\r\n", to="paul@plain.example")
_NOTHING, _OURS = ("none", "none", "none"), ("-", "-", "-")
_BY_SHOP = (SHOP_IP, "mail.shop.example", "orders@shop.example")
_BY_PHONE = ("192.0.2.99", "phone", READER)
