"""The lines of contrib/ attach filterd to a real Postfix and a real Sendmail, and so does `filterd attach postfix`."""

import os
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from example_org import HONEST, MAIL, SENDER, policy, results
from servers.debian import free_port, run_as_root
from servers.filterd_process import FilterdProcess
from servers.joint import Joint
from servers.postfix import Postfix, configured
from servers.sendmail import running

pytestmark = pytest.mark.system

RULE = """rules: [{ name: no, when: 'envelope.recipient == "no@example.net"', then: reject, reply: "550 5.1.1 not him" }]"""
CONTRIB = Path(__file__).parents[2] / "contrib"


@contextmanager
def filterd(folder: Path, dns: str, more: str = RULE) -> Iterator[FilterdProcess]:
    """The daemon; its sockets are in the folder."""
    services = f'socket: {{ mode: "0666" }}, policy_service: ["unix:{folder}/policy.sock"]'
    with FilterdProcess(folder, policy(dns, more), address=f"unix:{folder}/milter.sock", server=services) as process:
        yield process


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    """As Debian's: its smtpd lives in a chroot. It does not run yet; filterd may listen in its folder `filterd`."""
    with configured(chroot=True) as process:
        run_as_root("install", "-d", "-o", str(os.getuid()), process.queue_directory / "filterd")
        yield process


def deliver(postfix: Postfix, recipient: str) -> bytes:
    with postfix.connect(HONEST) as smtp:
        smtp.sendmail(SENDER, [recipient], MAIL)
    (delivered,) = postfix.maildir(recipient)
    return delivered


def lines(name: str) -> str:
    """A file of contrib/, with those lines of main.cf that ask the policy service."""
    text = (CONTRIB / name).read_text()
    return text.replace("#smtpd_recipient_restrictions =\n#  ", "smtpd_recipient_restrictions =\n")


def refusal(postfix: Postfix) -> bytes:
    """What a recipient is answered whom a rule refuses: first of all, by the policy service."""
    with postfix.connect(HONEST) as smtp:
        smtp.mail(SENDER)
        return smtp.rcpt("no@example.net")[1]


REFUSED = b"5.1.1 <no@example.net>: Recipient address rejected: not him"


def test_contrib_attaches_postfix(postfix: Postfix, dns: str) -> None:
    back = free_port()
    ports = {"submission inet": f"127.0.0.1:{free_port()} inet", "127.0.0.1:10025": f"127.0.0.1:{back}"}
    master = lines("postfix/master.cf")
    for name, port in ports.items():
        master = master.replace(name, port)
    joint = Joint(postfix)
    joint.listens("filterd/milter.sock", "filterd/policy.sock")
    joint.add(lines("postfix/main.cf"), master)
    with filterd(postfix.queue_directory / "filterd", dns):
        status, text = joint.run("doctor", "--postfix")
        assert status == 0, text
        assert joint.run("attach", "postfix") == (0, f"{postfix.config}: Postfix asks filterd already\n")
        postfix.start()
        assert results(deliver(postfix, "b@example.net")) == "spf=pass dkim=none dmarc=pass"
        assert refusal(postfix) == REFUSED
        # What a content filter gives back is judged no second time.
        with smtplib.SMTP("127.0.0.1", back) as smtp:
            smtp.sendmail(SENDER, ["c@example.net"], MAIL)
        (given_back,) = postfix.maildir("c@example.net")
        assert b"Authentication-Results" not in given_back


def test_attach_attaches_postfix_and_detach_undoes_it(postfix: Postfix, dns: str) -> None:
    joint = Joint(postfix)
    joint.listens("filterd/milter.sock", "filterd/policy.sock")
    before = joint.files()
    with filterd(postfix.queue_directory / "filterd", dns):
        status, text = joint.run("attach", "postfix", "--yes")
        assert (status, "Nobody answers" in text) == (0, False), text
        postfix.start()
        assert results(deliver(postfix, "b@example.net")) == "spf=pass dkim=none dmarc=pass"
        assert refusal(postfix) == REFUSED
    joint.run("detach", "postfix", "--yes")
    assert joint.files() == before
    postfix.reload()
    assert b"Authentication-Results" not in deliver(postfix, "c@example.net")


def test_contrib_attaches_sendmail(dns: str) -> None:
    text = lines("sendmail/filterd.mc").replace("{", "{{").replace("}", "}}")
    text = text.replace("/run/filterd/", "{directory}/milters/")
    with running(more=[text]) as sendmail:
        strangers = 'networks: { trusted: ["127.0.0.7"] }'
        with filterd(sendmail.milters, dns, strangers), sendmail.connect("127.0.0.6") as smtp:
            smtp.sendmail(SENDER, ["b@example.net"], MAIL)
        (delivered,) = sendmail.maildir("b@example.net")
        assert results(delivered) == "spf=fail dkim=none dmarc=fail"
        # Without filterd mail waits.
        with sendmail.connect("127.0.0.6") as smtp:
            assert smtp.mail(SENDER)[0] == 451
