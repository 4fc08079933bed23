"""filterd as the policy service of a real Postfix: alone, beside its own milter, and where the milter is alone.

What Postfix says to the client has the recipient ahead of our text: that is how it is told who decided.
"""

import contextlib
import os
import re
import signal
import smtplib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from example_org import HONEST, MAIL, SENDER, STRANGER, about, by_subject, policy, results
from servers.filterd import Filterd
from servers.milter_process import eventually
from servers.postfix import OWNER, Postfix, running

pytestmark = pytest.mark.system

CHECK = "check_policy_service unix:milters/policy"
MILTER = ["unix:milters/milter"]
# What is refused for good behind us, is: deferred or not.
UNKNOWN = "check_recipient_access inline:{nobody@example.net=REJECT}"
EVERYWHERE = {
    f"smtpd_{stage}_restrictions": CHECK
    for stage in ("client", "helo", "sender", "recipient", "data", "end_of_data", "etrn")
}
Judges = Callable[..., AbstractContextManager[Filterd]]


class Place:
    """A Postfix with what of filterd is attached to it."""

    def __init__(self, postfix: Postfix, dns: str) -> None:
        self.postfix = postfix
        self._dns = dns

    @contextmanager
    def judged(self, *more: str, access: str = 'mode: "0666"', server: str = "") -> Iterator[Filterd]:
        """Run filterd with both its services; it must neither report a fault of its own nor lose a worker."""
        service = f'policy_service: ["unix:{self.postfix.milters}/policy"], {server}'
        with Filterd(self.postfix.milters, policy(self._dns, *more), access=access, server=service) as filterd:
            yield filterd
            assert filterd.events("fault") == []
            assert filterd.events("worker ended") == []


@pytest.fixture(scope="module")
def alone(dns: str) -> Iterator[Place]:
    with running(settings={"smtpd_recipient_restrictions": f"{CHECK}, {UNKNOWN}"}) as postfix:
        yield Place(postfix, dns)


@pytest.fixture(scope="module")
def both(dns: str) -> Iterator[Place]:
    with running(milters=MILTER, settings={"smtpd_recipient_restrictions": f"{CHECK}, {UNKNOWN}"}) as postfix:
        yield Place(postfix, dns)


@pytest.fixture(scope="module")
def milter(dns: str) -> Iterator[Place]:
    with running(milters=MILTER) as postfix:
        yield Place(postfix, dns)


@pytest.fixture(params=["alone", "both", "milter"])
def place(request: pytest.FixtureRequest) -> Place:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Place)
    return found


def rcpt(smtp: smtplib.SMTP, recipient: str, sender: str = SENDER) -> tuple[int, bytes]:
    """The answer to RCPT in a mail of its own."""
    smtp.rset()
    smtp.mail(sender)
    return smtp.rcpt(recipient)


RULES = """rules:
- { name: no, when: 'envelope.recipient == "no@example.net"', then: reject, reply: "550 5.7.1 not him" }
- { name: later, when: 'envelope.recipient in ["later@example.net", "nobody@example.net"]', then: defer,
    reply: "450 4.2.0 not yet" }
- { name: full, when: 'envelope.recipient == "full@example.net"', then: defer, reply: "452 4.2.2 he is full" }
"""


def test_a_recipient_is_refused_with_our_text(place: Place, recipient: str) -> None:
    """The same rule, whoever judges it first; with both, the milter never hears of what Postfix has refused."""
    ours = "smtpd_recipient_restrictions" in place.postfix.main

    def said(code: int, status: str, name: str, text: str) -> tuple[int, bytes]:
        prefix = f"<{name}@example.net>: Recipient address rejected: " if ours else ""
        return code, f"{status} {prefix}{text}".encode()

    with place.judged(RULES) as filterd, place.postfix.connect(HONEST) as smtp:
        assert rcpt(smtp, "no@example.net") == said(550, "5.7.1", "no", "not him")
        assert rcpt(smtp, "later@example.net") == said(450, "4.2.0", "later", "not yet")
        assert rcpt(smtp, "full@example.net") == said(452, "4.2.2", "full", "he is full")
        smtp.rset()
        assert smtp.sendmail(SENDER, [recipient, "no@example.net"], MAIL).keys() == {"no@example.net"}
        smtp.quit()
        refused = eventually(
            lambda: len(lines := [each for each in filterd.events("judged") if each.get("refused")]) == 4 and lines
        )

    assert [each["refused"] for each in refused] == [
        f"{rule}:<{rule}@example.net>" for rule in ("no", "later", "full", "no")
    ]
    assert len(place.postfix.maildir(recipient)) == 1


def test_what_postfix_refuses_for_good_is_not_put_off(alone: Place) -> None:
    """access(5): DEFER_IF_PERMIT."""
    with alone.judged(RULES), alone.postfix.connect(HONEST) as smtp:
        assert rcpt(smtp, "nobody@example.net") == (
            554,
            b"5.7.1 <nobody@example.net>: Recipient address rejected: Access denied",
        )


ACTIONS = ("reject", "defer", "discard", "hold", "quarantine", "accept", "tag")
VERDICTS = "rules:\n" + "".join(
    f"""- {{ name: {then}, when: 'envelope.sender == "{then}@example.org"', then: {then} }}\n""" for then in ACTIONS
)


def test_every_verdict_about_a_whole_mail_is_carried_out_once(place: Place, recipient: str) -> None:
    """By whoever judges it: both mark a mail with one field, and hold it once."""
    refused = {}
    with place.judged(VERDICTS) as filterd, place.postfix.connect(HONEST) as smtp:
        for then in ACTIONS:
            smtp.rset()
            try:
                smtp.sendmail(f"{then}@example.org", [recipient], about(then))
            except smtplib.SMTPRecipientsRefused as error:
                refused[then] = error.recipients[recipient]
            except smtplib.SMTPSenderRefused as error:
                refused[then] = error.smtp_code, error.smtp_error
        delivered = by_subject(place.postfix.maildir(recipient))
        held = [entry for entry in place.postfix.held() if entry["recipients"][0]["address"] == recipient]
        smtp.quit()
        rules = eventually(
            lambda: (
                {"reject", "defer", "discard", "hold", "quarantine"}
                <= (found := {each["rule"] for each in filterd.events("judged")})
                and found
            )
        )

    milters = bool(place.postfix.main["smtpd_milters"])
    prefix = "" if milters else f"<{recipient}>: Recipient address rejected: "
    assert refused == {
        "reject": (550, f"5.7.1 {prefix}refused by policy (reject)".encode()),
        "defer": (451 if milters else 450, f"4.7.1 {prefix}try again later (defer)".encode()),
    }
    assert rules <= {*ACTIONS, "-"}
    assert sorted(delivered) == ["accept", "quarantine", "tag"]
    assert {subject: re.findall(rb"\n(X-Filterd-.*)", b"\n" + mail) for subject, mail in delivered.items()} == {
        "accept": [],
        "quarantine": [b"X-Filterd-Quarantine: quarantine"],
        "tag": [b"X-Filterd-Tag: tag"],
    }
    assert [entry["sender"] for entry in held] == ["hold@example.org"]
    if milters:
        assert {results(mail) for mail in delivered.values()} == {"spf=pass dkim=none dmarc=pass"}


def test_all_that_postfix_knows_is_judged_at_rcpt(alone: Place) -> None:
    rules = """rules:
- name: facts
  when: 'spf.result == "fail" && client.name == "mail.example.net" && client.helo == "h.example.net" &&
         !client.authenticated && envelope.sender_domain == "example.org" && envelope.recipient == "facts@example.net"'
  then: reject
- { name: user, when: 'client.user == "anna"', then: reject }
- { name: six, when: 'client.ip == "2001:db8::1"', then: reject }
"""
    with alone.judged(rules):
        clients: list[dict[str, str]] = [
            {"address": STRANGER, "name": "mail.example.net", "helo": "h.example.net"},
            {"address": HONEST, "name": "mail.example.net", "helo": "h.example.net"},
            {"address": HONEST, "user": "anna"},
            {"address": "2001:db8::1"},
        ]
        answers = []
        for client in clients:
            with alone.postfix.connect(**client) as smtp:
                answers.append(rcpt(smtp, "facts@example.net")[1].partition(b"rejected: ")[2])

    assert answers == [b"refused by policy (facts)", b"", b"refused by policy (user)", b"refused by policy (six)"]


def test_who_is_asked_at_every_stage_judges_once(dns: str, recipient: str) -> None:
    rules = """rules:
- { name: at-connect, when: 'client.ip == "192.0.2.66"', then: reject, at: connect }
- { name: at-helo, when: 'client.helo == "bad.example"', then: reject, at: helo }
- { name: at-mail, when: 'envelope.sender == "bad@example.org"', then: reject }
- { name: at-data, when: envelope.recipients > 2, then: reject }
- { name: at-end, when: message.size > 10000, then: reject }
- { name: mark, when: "true", then: tag, at: mail }
"""
    with (
        running(settings={"smtpd_delay_reject": "no", **EVERYWHERE}) as postfix,
        Place(postfix, dns).judged(rules) as it,
    ):
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            postfix.connect("192.0.2.66")
        assert refused.value.smtp_code == 550
        with postfix.connect(HONEST) as smtp:
            assert smtp.helo("bad.example")[1].endswith(b"refused by policy (at-helo)")
        with postfix.connect(HONEST) as smtp:
            assert smtp.mail("bad@example.org")[1].endswith(b"refused by policy (at-mail)")
            for count, data in ((3, MAIL), (1, MAIL + b"x" * 80 + b"\r\n" * 6000), (2, MAIL)):
                smtp.rset()
                recipients = [recipient, *(f"r{number}@example.net" for number in range(1, count))]
                with contextlib.suppress(smtplib.SMTPDataError):
                    smtp.sendmail(SENDER, recipients, data)
            assert smtp.verify("somebody")[0] in (250, 252)
        judged = it.wait_for("judged", 9)
        (delivered,) = postfix.maildir(recipient)

    assert [(each["rule"], each.get("completed", "yes")) for each in judged] == [
        ("at-connect", "no"),
        ("at-helo", "no"),
        ("at-mail", "no"),
        # The mark is told of when it is made, and again where the end is asked about.
        ("-", "no"),
        ("at-data", "no"),
        ("-", "no"),
        ("at-end", "yes"),
        ("-", "no"),
        ("-", "yes"),
    ]
    assert delivered.count(b"X-Filterd-Tag: mark\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a socket to a group that it is not in")
def test_a_chrooted_smtpd_of_another_user_reaches_the_socket(dns: str) -> None:
    """As on Debian: the socket is in the queue directory, and open to Postfix's group alone."""
    settings = {"smtpd_recipient_restrictions": CHECK}
    with (
        running(settings=settings, chroot=True) as postfix,
        Place(postfix, dns).judged(RULES, access=f'group: {OWNER}, mode: "0660"'),
        postfix.connect(HONEST) as smtp,
    ):
        assert rcpt(smtp, "no@example.net")[1].endswith(b"rejected: not him")


@pytest.mark.parametrize("settings", [{}, {"max_use": "3"}, {"smtpd_policy_service_request_limit": "1"}])
def test_connections_are_used_again_as_long_as_postfix_wants(
    dns: str, recipient: str, settings: dict[str, str]
) -> None:
    """`max_use` ends smtpd after so many clients, and its connection with it."""
    with running(settings={"smtpd_recipient_restrictions": CHECK, **settings}) as postfix:
        with Place(postfix, dns).judged(RULES):
            for _ in range(8):
                with postfix.connect(HONEST) as smtp:
                    smtp.sendmail(SENDER, [recipient], MAIL)
            open_now = connections(postfix.milters / "policy")
        assert len(postfix.maildir(recipient)) == 8
        assert "problem talking to server" not in postfix.log

    if settings.keys() <= {"max_use"}:
        # Some are left; but fewer than mails.
        assert 0 < open_now < 8


def test_mail_waits_while_the_service_is_away_and_goes_on_when_it_is_back(alone: Place, recipient: str) -> None:
    """SMTPD_POLICY_README: smtpd_policy_service_default_action."""
    away = (451, f"4.3.5 <{recipient}>: Recipient address rejected: Server configuration problem".encode())
    with alone.postfix.connect(HONEST) as smtp:
        assert rcpt(smtp, recipient) == away
        with alone.judged(RULES):
            assert rcpt(smtp, recipient)[0] == 250
        assert rcpt(smtp, recipient) == away
        with alone.judged(RULES):
            assert rcpt(smtp, "no@example.net")[0] == 550


def test_a_worker_that_is_killed_and_a_reload_put_off_no_mail(alone: Place, recipient: str) -> None:
    with Filterd(
        alone.postfix.milters,
        policy(alone._dns, RULES),
        server=f'policy_service: ["unix:{alone.postfix.milters}/policy"]',
    ) as filterd:
        with alone.postfix.connect(HONEST) as smtp:
            assert rcpt(smtp, recipient)[0] == 250
            for pid in filterd.workers():
                os.kill(pid, signal.SIGKILL)
            filterd.wait_for("worker ended", 2)
            assert rcpt(smtp, recipient)[0] == 250
            filterd.write(policy(alone._dns, "rules: [{ name: all, when: 'true', then: reject }]"))
            filterd.signal(signal.SIGHUP)
            filterd.wait_for("reloaded")
            # A worker of the old policy answers until it has heard that it is to go.
            eventually(lambda: rcpt(smtp, recipient)[1].endswith(b"refused by policy (all)"))
        assert filterd.events("fault") == []


LIMIT = """dmarc: { on_multiple_authors: skip }
limits:
- { name: burst, key: client.ip, rate: RATE, then: defer, reply: "450 4.7.1 {limit.remaining} of RATE left" }
"""


def test_recipients_are_charged_once_whoever_judges_them(place: Place, recipient: str, tmp_path: Path) -> None:
    """Over one connection and over several."""
    limit = LIMIT.replace("RATE", "12 recipients per 1d")
    with place.judged(limit, server=f'state: "sqlite:{tmp_path}/state.db"') as filterd:
        for _ in range(3):
            with place.postfix.connect(HONEST) as smtp:
                for _ in range(2):
                    assert smtp.sendmail(SENDER, [recipient, f"x-{recipient}"], MAIL) == {}
        with place.postfix.connect(HONEST) as smtp:
            code, text = rcpt(smtp, recipient)
        with place.postfix.connect(STRANGER) as smtp:
            assert rcpt(smtp, recipient)[0] == 250
        filterd.wait_for("judged")

    assert (code, text.rpartition(b"rejected: ")[2]) in (
        (450, b"0 of 12 recipients per 1d left"),
        (450, b"4.7.1 0 of 12 recipients per 1d left"),
    )
    assert len(place.postfix.maildir(recipient)) == 6


def test_a_burst_is_put_off_and_the_next_window_lets_it_pass(place: Place, recipient: str, tmp_path: Path) -> None:
    limit = LIMIT.replace("RATE", "2 recipients per 3s")
    with (
        place.judged(limit, server=f'state: "sqlite:{tmp_path}/state.db"'),
        place.postfix.connect(HONEST) as smtp,
    ):

        def is_put_off() -> bool:
            try:
                smtp.sendmail(SENDER, [recipient], MAIL)
            except smtplib.SMTPRecipientsRefused as refused:
                code, text = refused.recipients[recipient]
                assert (code, text.endswith(b"0 of 2 recipients per 3s left")) == (450, True)
                return True
            return False

        eventually(is_put_off)
        eventually(lambda: not is_put_off())


def connections(path: Path) -> int:
    """How many are connected to a socket."""
    lines: Sequence[str] = Path("/proc/net/unix").read_text().splitlines()
    # The state 03 is SS_CONNECTED; whoever connects has no path.
    return sum(line.endswith(str(path)) and line.split()[5] == "03" for line in lines)
