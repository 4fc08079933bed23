"""filterd behind a real Postfix when something breaks: a worker, the daemon, the policy, the DNS. No mail is lost."""

import os
import signal
import smtplib
import socket
import threading
from collections import Counter
from contextlib import nullcontext
from queue import Empty, SimpleQueue

import pytest
from example_org import HONEST, MAIL, ORG, SENDER, about, by_subject, policy, results
from servers import nsd
from servers.debian import free_port
from servers.filterd import Filterd, Judging
from servers.milter_process import eventually
from servers.postfix import Postfix

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("engine")]

PASS = "spf=pass dkim=none dmarc=pass"
UNAVAILABLE = (451, b"4.7.1 Service unavailable - try again later")
SEND = 200
REFUSE = "rules: [{ name: no, when: from_us == false, then: reject, reply: 550 5.7.1 not now }]"


def transact(smtp: smtplib.SMTP, recipient: str, mail: bytes, sender: str = SENDER) -> tuple[int, bytes]:
    """The reply that settles a mail."""
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
        reply = smtp.docmd(command)
        if reply[0] != 250:
            return reply
    try:
        return smtp.data(mail)
    except smtplib.SMTPDataError as refused:
        return refused.smtp_code, refused.smtp_error


def send(postfix: Postfix, recipient: str, mail: bytes = MAIL, sender: str = SENDER) -> tuple[int, bytes]:
    """The same for a mail on a connection of its own."""
    with postfix.connect(HONEST) as smtp:
        return transact(smtp, recipient, mail, sender)


class Senders:
    """Clients that send a store of mails at once, and one that is deferred again over a new connection."""

    def __init__(self, postfix: Postfix, recipient: str, clients: int) -> None:
        self.accepted, self.deferred = 0, 0
        self._postfix, self._recipient = postfix, recipient
        self._changed = threading.Condition()
        self._mails: SimpleQueue[bytes] = SimpleQueue()
        for number in range(SEND):
            self._mails.put(about(f"mail {number}"))
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, accepted: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= accepted, timeout=60)

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        smtp = self._postfix.connect(HONEST)
        while True:
            try:
                mail = self._mails.get_nowait()
            except Empty:
                break
            code, text = transact(smtp, self._recipient, mail)
            if code == 250:
                self._count(accepted=1)
                continue
            assert code in (421, 451), text
            self._mails.put(mail)
            smtp.close()
            smtp = self._postfix.connect(HONEST)
            self._count(deferred=1)
        smtp.close()

    def _count(self, accepted: int = 0, deferred: int = 0) -> None:
        with self._changed:
            self.accepted += accepted
            self.deferred += deferred
            self._changed.notify_all()


def test_a_worker_that_is_killed_costs_no_mail(postfix: Postfix, dns: str, recipient: str) -> None:
    with Filterd(postfix.milters, policy(dns)) as filterd:
        senders = Senders(postfix, recipient, clients=4)
        # One after the other, so that some client's worker is among them.
        for number, pid in enumerate(filterd.workers(), 1):
            senders.wait_for(number * SEND // 4)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: pid not in filterd.workers() and len(filterd.workers()) == 2)
        senders.join()
        deaths = filterd.wait_for("worker ended", 2)

    delivered = postfix.maildir(recipient)
    assert Counter(by_subject([mail]).popitem()[0] for mail in delivered) == {
        f"mail {number}": 1 for number in range(SEND)
    }
    assert Counter(map(results, delivered)) == {PASS: SEND}
    assert [death["how"] for death in deaths] == ["signal SIGKILL"] * 2
    assert senders.deferred > 0


def test_no_mail_passes_while_there_is_no_filterd(postfix: Postfix, dns: str, recipient: str) -> None:
    with Filterd(postfix.milters, policy(dns)) as filterd:
        replies = [send(postfix, recipient, about("before"))[0]]
        filterd.signal(signal.SIGTERM)
        assert filterd.wait() == 0
        replies.append(send(postfix, recipient, about("without")))
    with Filterd(postfix.milters, policy(dns)):
        replies.append(send(postfix, recipient, about("after"))[0])

    assert replies == [250, UNAVAILABLE, 250]
    delivered = by_subject(postfix.maildir(recipient))
    assert {subject: results(mail) for subject, mail in delivered.items()} == {"before": PASS, "after": PASS}


def test_a_new_policy_is_taken_and_a_broken_one_is_not(
    postfix: Postfix, dns: str, judging: Judging, recipient: str
) -> None:
    with judging() as filterd, postfix.connect(HONEST) as old_connection:
        before = send(postfix, recipient)[0]
        filterd.write(policy(dns, REFUSE))
        filterd.signal(signal.SIGHUP)
        filterd.wait_for("reloaded")
        refused = send(postfix, recipient)
        began_before = transact(old_connection, recipient, MAIL)[0]
        filterd.write(policy(dns, "rules: [{ name: no, when: from_uss, then: reject }]"))
        filterd.signal(signal.SIGHUP)
        filterd.wait_for("reload refused, the old policy stays")
        still_refused = send(postfix, recipient)
        errors = [line["error"] for line in filterd.events("policy")]

    assert before == began_before == 250
    assert refused == still_refused == (550, b"5.7.1 not now")
    place = f"{postfix.milters}/policy.yaml:5:27: rules[0].when: "
    assert errors == [f"{place}there is no fact or function from_uss; did you mean from_us?"]


def test_a_name_server_that_is_gone_costs_no_mail(postfix: Postfix, recipient: str) -> None:
    port = free_port()
    # Of domains that have no name in common: what could not be had is not asked for again at once.
    sent = {"before": SENDER, "without": "joe@other.example.org", "after": "joe@example.net"}
    mails = {when: about(when).replace(SENDER.encode(), sender.encode()) for when, sender in sent.items()}
    with Filterd(postfix.milters, policy(f"127.0.0.1:{port}")):
        for when, sender in sent.items():
            with nsd.running({"org": ORG, "net": ORG}, port) if when != "without" else nullcontext():
                assert send(postfix, recipient, mails[when], sender)[0] == 250

    delivered = by_subject(postfix.maildir(recipient))
    assert {when: results(mail) for when, mail in delivered.items()} == {
        "before": PASS,
        "without": "spf=temperror dkim=none dmarc=temperror",
        "after": PASS,
    }


def test_mail_that_waits_for_a_silent_name_server_passes_when_it_speaks(postfix: Postfix, recipient: str) -> None:
    port = free_port()
    asking = "timeout: 200ms, on_error: defer"
    with Filterd(postfix.milters, policy(f"127.0.0.1:{port}", asking=asking)) as filterd:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", port))
            deferred = send(postfix, recipient)
        with nsd.running({"org": ORG}, port):
            eventually(lambda: send(postfix, recipient)[0] == 250)
        decision = filterd.decision()

    assert deferred == (451, b"4.4.3 a DNS answer is missing, try again later")
    assert decision["rule"] == "dns.on_error"
    assert decision["reasons"] == "dns.timeout"
    assert [results(mail) for mail in postfix.maildir(recipient)] == [PASS]
