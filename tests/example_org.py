"""example.org: its mail, its zone, and what filterd says of the one by the other."""

import re

from dkim_mail import rsa_pair

#: The client that example.org sends by, and one that it does not.
HONEST, STRANGER = "192.0.2.1", "203.0.113.66"
SENDER = "joe@example.org"
#: A sender of a domain that does not exist.
UNKNOWN = "joe@unknown.example.org"
MAIL = b"From: Joe <joe@example.org>\r\nTo: b@example.net\r\nSubject: hello\r\n\r\nText.\r\n"

_KEY = rsa_pair().record.decode()
#: The zone "org", with the key by which `dkim_mail` signs.
ORG = f"""$TTL 300
example                  IN TXT "v=spf1 ip4:{HONEST} -all"
_dmarc.example           IN TXT "v=DMARC1; p=reject"
sel._domainkey.example   IN TXT "{_KEY[:250]}" "{_KEY[250:]}"
other.example            IN TXT "v=spf1 ip4:{HONEST} -all"
xn--bcher-kva.example    IN TXT "v=spf1 ip4:{HONEST} -all"
"""


def policy(dns: str, more: str = "dmarc: { on_multiple_authors: skip }", asking: str = "") -> str:
    """The policy of mx.example, which asks the server `dns`: by default without any rule, so that all is delivered.

    `asking` is what stands in the section besides the server.
    """
    return f'identity: {{ authserv_id: mx.example }}\ndns: {{ servers: ["{dns}"], {asking} }}\n{more}'


def about(subject: str) -> bytes:
    """The mail, by another subject."""
    return MAIL.replace(b"hello", subject.encode())


def by_subject(mails: list[bytes]) -> dict[str, bytes]:
    """Delivered mails: those sent at once are delivered in any order."""
    return {re.findall(rb"\nSubject: (.*)", mail)[0].decode(): mail for mail in mails}


def results(mail: bytes) -> str:
    """What the field of "mx.example" in a delivered mail says, which must stand above all but what delivery adds."""
    found = re.match(
        rb"(?:(?:Return-Path|X-Original-To|Delivered-To): .*\n)*"
        rb"Authentication-Results: mx\.example;(.*\n(?:[ \t].*\n)*)"
        rb"(?:X-Filterd-.*\n)*Received: ",
        mail,
    )
    assert found is not None, mail[:2000]
    return b" ".join(re.findall(rb"(?<=\s)(?:spf|dkim|dmarc)=\w+", found[1])).decode()


def content(mail: bytes) -> bytes:
    """What the client sent, as it was delivered: all below the MTA's own Received."""
    return re.split(rb"\nReceived: .*\n(?:[ \t].*\n)*", mail, maxsplit=1)[1].replace(b"\n", b"\r\n")
