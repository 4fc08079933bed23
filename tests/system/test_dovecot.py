"""The chain that people run: submission by Dovecot's SASL, signed, Postfix to Postfix, verified, LMTP, read by IMAP.

Postfix and Dovecot are set up by the lines of contrib/dovecot, with nothing changed but where things are.
"""

import re
import smtplib
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from arc_mail import RSA
from dkim_mail import SELECTOR
from servers import dovecot, postfix
from servers.certificate import certificate
from servers.debian import free_port
from servers.dovecot import Dovecot
from servers.filterd import Filterd
from servers.postfix import OWNER, SETGID_GROUP, Postfix

from filterd.demo.nameserver import Nameserver

pytestmark = pytest.mark.system

_CONTRIB = Path(__file__).parents[2] / "contrib"
_ANNA, _PAUL = "anna@home.example", "paul@example.net"
_USERS = {_ANNA: "anna's secret", _PAUL: "paul's secret"}
_KEY = RSA.record.decode()
_ZONE = f"""
@ 300 IN SOA a. b. 1 2 3 4 5
home.example. 300 IN TXT "v=spf1 ip4:127.0.0.1 -all"
_dmarc.home.example. 300 IN TXT "v=DMARC1; p=reject"
{SELECTOR}._domainkey.home.example. 300 IN TXT "{_KEY[:250]}" "{_KEY[250:]}"
"""
_MAIL = f"From: Anna <{_ANNA}>\r\nTo: {_PAUL}\r\nSubject: lunch\r\nMessage-ID: <1@home.example>\r\nDate: {{date}}\r\n\r\nAt noon?\r\n"


class Chain:
    """Home, where users submit; the exchanger of example.net; and everybody's mailbox."""

    def __init__(self, home: Postfix, exchanger: Postfix, port: int, tls: ssl.SSLContext, mailboxes: Dovecot) -> None:
        self.home = home
        self.exchanger = exchanger
        self._port = port
        self._tls = tls
        self.mailboxes = mailboxes

    def submission(self) -> smtplib.SMTP:
        """A connection to the submission service, within TLS."""
        smtp = smtplib.SMTP("localhost", self._port, local_hostname="laptop.home.example", timeout=60)
        smtp.starttls(context=self._tls)
        smtp.ehlo()
        return smtp

    def settle(self) -> None:
        """Wait until all that was sent is where it goes."""
        self.home.settle()
        self.exchanger.settle()


def _shipped(name: str) -> Mapping[str, str]:
    """The lines of a main.cf of ours."""
    return dict(re.findall(r"(?m)^(\w+) = (.*)$", (_CONTRIB / "dovecot" / name).read_text()))


@contextmanager
def _filterd(where: Postfix, dns: tuple[str, int], name: str, more: str = "") -> Iterator[Filterd]:
    host, port = dns
    policy = f"""
identity: {{ authserv_id: {name} }}
networks: {{ trusted: [] }}
dns: {{ servers: ["{host}:{port}"] }}
{more}
"""
    with Filterd(where.milters, policy) as filterd:
        yield filterd
        assert filterd.events("fault") == []


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    folder = tmp_path_factory.mktemp("chain")
    (folder / "key.pem").write_bytes(RSA.pem)
    (folder / "key.pem").chmod(0o600)
    port, pem = free_port(), certificate(folder)
    lines = _shipped("main.cf")
    submission = (_CONTRIB / "dovecot/master.cf").read_text()
    with ExitStack() as stack:
        dns = stack.enter_context(Nameserver(_ZONE)).address
        exchanger = stack.enter_context(
            postfix.running(milters=["unix:milters/milter"], chroot=True, settings={"virtual_transport": lines["virtual_transport"]})
        )  # fmt: skip
        home = stack.enter_context(
            postfix.running(
                milters=["unix:milters/milter"],
                chroot=True,
                settings={
                    **lines,
                    "myhostname": "mail.home.example",
                    "smtpd_tls_chain_files": str(pem),
                    "virtual_mailbox_domains": "",
                    "default_transport": "smtp",
                    "relayhost": f"[127.0.0.1]:{exchanger.port}",
                },
                services=re.sub("(?m)^submission ", f"127.0.0.1:{port} ", submission),
            )
        )
        stack.enter_context(
            _filterd(
                home,
                dns,
                "mail.home.example",
                f"sign: [{{ domains: [home.example], keys: [{{ selector: {SELECTOR}, file: {folder}/key.pem }}] }}]",
            )
        )
        stack.enter_context(_filterd(exchanger, dns, "mx.example.net"))
        mailboxes = stack.enter_context(dovecot.running(_USERS, _placed(home, exchanger)))
        yield Chain(home, exchanger, port, ssl.create_default_context(cafile=str(pem)), mailboxes)


def _placed(home: Postfix, exchanger: Postfix) -> str:
    """Our lines of dovecot.conf: who logs in is asked at home, the exchanger brings mail."""
    text = (_CONTRIB / "dovecot/dovecot.conf").read_text()
    text = text.replace("/var/spool/postfix/private/auth", f"{home.queue_directory}/private/auth")
    text = text.replace("/var/spool/postfix/private/dovecot-lmtp", f"{exchanger.queue_directory}/private/dovecot-lmtp")
    return text.replace("user = postfix", f"user = {OWNER}").replace("group = postfix", f"group = {SETGID_GROUP}")


def _results(mail: bytes) -> str:
    """What the exchanger's filterd found; there is no other such field."""
    (found,) = re.findall(rb"(?m)^Authentication-Results: mx\.example\.net;(.*\n(?:[ \t].*\n)*)", mail)
    assert mail.count(b"Authentication-Results: ") == 1
    return b" ".join(re.findall(rb"(?<=\s)(?:spf|dkim|dmarc)=\w+", found)).decode()


def test_a_mail_from_a_user_to_another_servers_user(chain: Chain) -> None:
    mail = _MAIL.format(date=time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime())).encode()
    with chain.submission() as client:
        client.login(_ANNA, _USERS[_ANNA])
        client.sendmail(_ANNA, [_PAUL], mail)
    chain.settle()

    (delivered,) = chain.mailboxes.mails(_PAUL)
    header, _, body = delivered.partition(b"\r\n\r\n")
    assert body == b"At noon?\r\n"
    assert header.endswith(mail.partition(b"\r\n\r\n")[0])
    assert _results(delivered) == "spf=pass dkim=pass dmarc=pass"
    assert header.count(b"DKIM-Signature: ") == 1
    assert b"with ESMTPSA" in header


def test_who_does_not_log_in_sends_nothing(chain: Chain) -> None:
    with chain.submission() as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(_ANNA, "guess")
        client.mail(_ANNA)
        assert client.rcpt(_PAUL)[0] == 554


def test_a_forgery_is_told_in_the_mailbox(chain: Chain) -> None:
    with chain.exchanger.connect("192.0.2.66") as client:
        client.sendmail(_ANNA, [_PAUL], b"From: Anna <anna@home.example>\r\nSubject: forged\r\n\r\nSend money.\r\n")
    chain.settle()

    forged = [mail for mail in chain.mailboxes.mails(_PAUL) if b"Subject: forged" in mail]
    assert [_results(mail) for mail in forged] == ["spf=fail dkim=none dmarc=fail"]
