"""Who is who in the spoofing suite, what their domains publish, and how an attack and its honest twin are written down.

The attacker has a domain of its own whose SPF, DKIM and DMARC are in perfect order, its zone, its clients, and every
octet that it sends. All names and addresses are reserved for documentation.
"""

from base64 import b64encode
from dataclasses import dataclass

from dkim_mail import ed25519_pair, rsa_der, rsa_pair
from spoofing.small_rsa import CUBE, WEAK

HOST = "mx.home.example"
VICTIM, ATTACKER = "bank.example", "evil.example"
VICTIM_IP, ATTACKER_IP, RELAY_IP, USER_IP = "192.0.2.10", "203.0.113.66", "198.51.100.1", "192.0.2.99"
US, LIST, LIST_IP = "home.example", "lists.example", "192.0.2.25"

# There is one key of each size.
VICTIM_KEY, VICTIM_ED25519_KEY, ATTACKER_KEY = rsa_pair(2048), ed25519_pair(), rsa_pair(2304)


@dataclass(frozen=True)
class Mail:
    """A mail as it is sent, octet by octet, up to the line with the dot; `{recipient}` stands for who gets it.

    `user` is who has logged in. `before` are mails that go first over the same connection. With `bdat` it goes without
    such a line (RFC 3030).
    """

    name: str
    content: bytes
    mail_from: bytes = b"<x@evil.example>"
    helo: bytes = b"mail.evil.example"
    client: str = ATTACKER_IP
    user: str | None = None
    before: "tuple[Mail, ...]" = ()
    bdat: bool = False


@dataclass(frozen=True)
class Honest(Mail):
    """A mail of the victim that looks like an attack, and passes DMARC as `author`, or `ends` otherwise."""

    mail_from: bytes = b"<service@bank.example>"
    helo: bytes = b"mail.bank.example"
    client: str = VICTIM_IP
    author: str = VICTIM
    ends: str | None = None


@dataclass(frozen=True)
class Attack(Mail):
    """A mail that wants to pass as the victim.

    `known` is who described it. `twin` is the name of an honest mail that uses the same means. `ends` is what DMARC
    says in the delivered mail, "pass as" and the domain where it passes, or the reply that refused it, by code and
    status; `postfix` is the same behind Postfix, where that is something else. Where the MTA makes of it an honest mail
    of the victim, `lie` is what it has thrown away.
    """

    known: str = ""
    twin: str = "plain"
    ends: str = "fail"
    postfix: str | None = None
    lie: bytes | None = None


def mail(*fields: bytes, body: bytes = b"Please confirm.\r\n") -> bytes:
    """A message with these header fields and what else a message has."""
    rest = (b"To: <anna@home.example>", b"Subject: Your account", b"Date: Tue, 14 Nov 2023 22:13:20 +0000")
    return b"\r\n".join((*fields, *rest, b"Message-ID: <1@mail.example>")) + b"\r\n\r\n" + body


def encoded(text: str, charset: str = "utf-8") -> bytes:
    """An encoded word (RFC 2047)."""
    return b"=?%s?b?%s?=" % (charset.encode(), b64encode(text.encode()))


def zone() -> str:
    """What all of them publish, as a master file. The attacker's wildcard says yes to whatever is asked."""
    cube = b64encode(rsa_der(CUBE.modulus, 3)).decode()
    weak = b64encode(rsa_der(WEAK.modulus)).decode()
    mine, theirs = ATTACKER_KEY.record.decode(), VICTIM_KEY.record.decode()
    return f"""$TTL 300
@ IN SOA ns.example. postmaster.example. 1 3600 600 86400 300

$ORIGIN bank.example.
@                    IN TXT "v=spf1 ip4:{VICTIM_IP} -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
sel._domainkey       IN TXT {_strings(theirs)}
ed._domainkey        IN TXT {_strings(VICTIM_ED25519_KEY.record.decode())}
weak._domainkey      IN TXT {_strings("v=DKIM1; p=" + weak)}
cube._domainkey      IN TXT {_strings("v=DKIM1; p=" + cube)}
revoked._domainkey   IN TXT "v=DKIM1; p="
; keys that the bank has let others have, for other things than its mail
report._domainkey    IN TXT {_strings(mine.replace("; p=", "; s=tlsrpt; p="))}
sha1._domainkey      IN TXT {_strings(mine.replace("; p=", "; h=sha1; p="))}
users._domainkey     IN TXT {_strings(theirs.replace("; p=", "; t=s; p="))}

; we ourselves
$ORIGIN home.example.
@                    IN TXT "v=spf1 -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
own._domainkey       IN TXT {_strings(VICTIM_ED25519_KEY.record.decode())}

; a mailing list whose seals are believed
$ORIGIN lists.example.
@                    IN TXT "v=spf1 ip4:{LIST_IP} -all"
sel._domainkey       IN TXT {_strings(theirs)}

$ORIGIN xn--bcher-kva.example.
@                    IN TXT "v=spf1 ip4:{VICTIM_IP} -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
sel._domainkey       IN TXT {_strings(theirs)}

; a public suffix, and two who live under it
$ORIGIN co.example.
_dmarc               IN TXT "v=DMARC1; p=reject; psd=y"
sel._domainkey       IN TXT {_strings(mine)}
shop                 IN TXT "v=spf1 ip4:{VICTIM_IP} -all"
_dmarc.shop          IN TXT "v=DMARC1; p=reject"
evil                 IN TXT "v=spf1 ip4:{ATTACKER_IP} -all"
_dmarc.evil          IN TXT "v=DMARC1; p=reject"
sel._domainkey.evil  IN TXT {_strings(mine)}

; somebody who trusts no name below its own, as the attacker has got hold of one
$ORIGIN strict.example.
@                    IN TXT "v=spf1 ip4:{VICTIM_IP} -all"
_dmarc               IN TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
sel._domainkey       IN TXT {_strings(theirs)}
promo                IN TXT "v=spf1 ip4:{ATTACKER_IP} -all"
sel._domainkey.promo IN TXT {_strings(mine)}

; a host of sites whose customers have names below its own, and say in their own records whose they are
$ORIGIN host.example.
@                    IN TXT "v=spf1 ip4:{VICTIM_IP} -all"
_dmarc               IN TXT "v=DMARC1; p=reject; psd=n"
site                 IN TXT "v=spf1 ip4:{ATTACKER_IP} -all"
_dmarc.site          IN TXT "v=DMARC1; p=none; psd=n"
sel._domainkey.site  IN TXT {_strings(mine)}

; somebody whose senders are found by reverse names; the attacker's claim to be one of them
$ORIGIN legacy.example.
@                    IN TXT "v=spf1 ptr -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
mail                 IN A {VICTIM_IP}
66.113.0.203.in-addr.arpa. IN PTR mail.legacy.example.
10.2.0.192.in-addr.arpa.   IN PTR mail.legacy.example.

; somebody who allows each user another host
$ORIGIN users.example.
@                    IN TXT "v=spf1 exists:%{{l}}.%{{i}}._spf.%{{d}} a:%{{l}}.hosts.%{{d}} -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
anna.{VICTIM_IP}._spf IN A 127.0.0.2

$ORIGIN evil.example.
@                    IN TXT "v=spf1 ip4:{ATTACKER_IP} -all"
_dmarc               IN TXT "v=DMARC1; p=reject"
*                    IN TXT "v=spf1 +all"
*                    IN TXT {_strings(mine)}
*                    IN A {ATTACKER_IP}
sel._domainkey       IN TXT {_strings(mine)}
macro                IN TXT "v=spf1 redirect=%{{l}}"
twice                IN TXT "v=spf1 include:bank.example ?all"
twice                IN TXT "v=spf1 +all"
borrowed             IN CNAME bank.example.

; a part of the bank's zone that nobody serves any more
; fails: old.bank.example

; names that look like the victim's and are the attacker's
$ORIGIN example.
notbank              IN TXT "v=spf1 +all"
sel._domainkey.notbank IN TXT {_strings(mine)}
xn--bnk-6cd          IN TXT "v=spf1 +all"
_dmarc.xn--bnk-6cd   IN TXT "v=DMARC1; p=reject"
"""


def _strings(record: str) -> str:
    return " ".join(f'"{record[start : start + 250]}"' for start in range(0, len(record), 250))
