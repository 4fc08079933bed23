"""Greylisting in a real Postfix: who has to come again and who does not, and what is remembered of it.

A retry is made again and again until it is let in: nothing is measured by a clock.
"""

import smtplib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from dkim_mail import rsa_pair, signed
from example_org import HONEST, MAIL, SENDER, STRANGER, UNKNOWN, policy
from servers.filterd import Filterd
from servers.milter_process import eventually
from servers.postfix import Postfix, running

pytestmark = pytest.mark.system

NEIGHBOUR, ELSEWHERE = "203.0.113.67", "198.51.100.9"
#: Long enough that no retry is in time, and as short as can be.
NEVER, SOON = "delay: 1h", "delay: 1s"
FROM_UNKNOWN = MAIL.replace(b"joe@example.org", UNKNOWN.encode())
Greylists = Callable[..., AbstractContextManager[Filterd]]


@pytest.fixture
def greylisting(postfix: Postfix, dns: str, tmp_path: Path) -> Greylists:
    """Run filterd with two workers that share what they remember, by a section `greylist` and more of a policy."""

    @contextmanager
    def run(section: str, more: str = "") -> Iterator[Filterd]:
        text = f"dmarc: {{ on_multiple_authors: skip }}\n{f'greylist: {{ {section} }}' if section else ''}\n{more}"
        with Filterd(postfix.milters, policy(dns, text), server=f'state: "sqlite:{tmp_path}/state.db"') as filterd:
            yield filterd
            assert filterd.events("fault") == filterd.events("worker ended") == []

    return run


def send(
    postfix: Postfix, recipient: str, client: str = STRANGER, sender: str = UNKNOWN, mail: bytes = FROM_UNKNOWN
) -> list[int]:
    """The codes of RCPT, DATA and the end, as far as it comes."""
    with postfix.connect(client) as smtp:
        smtp.mail(sender)
        codes = [smtp.rcpt(recipient)[0]]
        if codes == [250]:
            try:
                codes.append(smtp.data(mail)[0])
            except smtplib.SMTPDataError as error:
                codes.append(error.smtp_code)
    return codes


def let_in(filterd: Filterd) -> list[str]:
    """What the log says of greylisting, of the mails that were taken: workers write in any order."""
    return [each["greylist"] for each in filterd.events("judged") if each["verdict"] == "accept"]


def remembered(folder: Path) -> int:
    """How many names are in the store."""
    with closing(sqlite3.connect(folder / "state.db")) as store:
        [[count]] = store.execute("SELECT count(*) FROM greylist").fetchall()
    return int(count)


def test_the_first_try_waits_and_the_retry_of_a_neighbour_is_delivered(
    postfix: Postfix, recipient: str, greylisting: Greylists
) -> None:
    with greylisting(SOON) as filterd:
        assert send(postfix, recipient) == [450]
        assert "new here: try again in 1 s" in postfix.log
        eventually(lambda: send(postfix, recipient, NEIGHBOUR) == [250, 250])
        # Whoever was let in once is, by either address.
        assert send(postfix, recipient, STRANGER) == [250, 250]
        first = filterd.decision()
        told = eventually(lambda: len(told := let_in(filterd)) == 2 and told)

    assert (first["verdict"], first["rule"], first["refused"]) == ("defer", "greylist", f"greylist:<{recipient}>")
    assert sorted(words.split()[0] for words in told) == ["known", "passed"]
    assert len(postfix.maildir(recipient)) == 2


def test_a_retry_is_no_other_sender_recipient_or_network(
    postfix: Postfix, recipient: str, greylisting: Greylists
) -> None:
    with greylisting(SOON):
        assert send(postfix, recipient) == [450]
        eventually(lambda: send(postfix, recipient) == [250, 250])
        assert send(postfix, recipient, ELSEWHERE) == [450]
        assert send(postfix, recipient, sender="joe@other.unknown.example.org") == [450]
        assert send(postfix, f"other-{recipient}") == [450]


def test_who_sends_from_where_its_domain_says_does_not_wait(
    postfix: Postfix, recipient: str, greylisting: Greylists, tmp_path: Path
) -> None:
    with greylisting(NEVER):
        assert send(postfix, recipient, HONEST, SENDER, MAIL) == [250, 250]
        assert send(postfix, recipient, STRANGER, SENDER, MAIL) == [450]


def test_who_logged_in_does_not_wait(postfix: Postfix, recipient: str, greylisting: Greylists) -> None:
    with greylisting(NEVER), postfix.connect(STRANGER, user="anna") as smtp:
        assert smtp.sendmail(UNKNOWN, [recipient], FROM_UNKNOWN) == {}


@pytest.mark.parametrize(("mail", "again"), [(signed(MAIL, rsa_pair()), [250, 250]), (MAIL, [450])])
def test_whose_signature_held_once_waits_for_no_other_recipient(
    postfix: Postfix, recipient: str, greylisting: Greylists, mail: bytes, again: list[int]
) -> None:
    with greylisting(SOON):
        assert send(postfix, recipient, mail=mail) == [450]
        eventually(lambda: send(postfix, recipient, mail=mail) == [250, 250])
        assert send(postfix, f"other-{recipient}", NEIGHBOUR, mail=mail) == again


def test_a_bounce_waits_after_its_recipient_was_answered(
    postfix: Postfix, recipient: str, greylisting: Greylists
) -> None:
    with greylisting(SOON):
        assert send(postfix, recipient, sender="") == [250, 450]
        eventually(lambda: send(postfix, recipient, sender="") == [250, 250])


def test_one_recipient_waits_and_the_other_has_the_mail(
    postfix: Postfix, recipient: str, greylisting: Greylists
) -> None:
    with greylisting("when: 'envelope.recipient.matches(\"^late-\")', delay: 1h"), postfix.connect(STRANGER) as smtp:
        refused = smtp.sendmail(UNKNOWN, [recipient, f"late-{recipient}"], FROM_UNKNOWN)

    assert [code for code, _ in refused.values()] == [450]
    assert len(postfix.maildir(recipient)) == 1


@pytest.mark.parametrize("live", ["", SOON])
def test_a_candidate_neither_defers_nor_remembers(
    postfix: Postfix, recipient: str, greylisting: Greylists, tmp_path: Path, live: str
) -> None:
    candidate = "version: 1\ngreylist: { when: 'true', delay: 1h, on_error: defer }\n"
    (postfix.milters / "candidate.yaml").write_text(candidate)
    with greylisting(live and f"when: 'false', {live}", "shadow: candidate.yaml") as filterd:
        for _ in range(3):
            assert send(postfix, recipient) == [250, 250]
        told = [filterd.decision(number)["shadow"] for number in range(3)]

    assert told == ["cannot-tell:greylist"] * 3
    # Whatever a store says that was never opened.
    assert not (tmp_path / "state.db").exists() or remembered(tmp_path) == 0


def test_a_candidate_is_judged_by_what_the_policy_in_force_was_answered(
    postfix: Postfix, recipient: str, greylisting: Greylists, tmp_path: Path
) -> None:
    (postfix.milters / "candidate.yaml").write_text("version: 1\ngreylist: { delay: 2h }\n")
    with greylisting(SOON, "shadow: candidate.yaml") as filterd:
        assert send(postfix, recipient) == [450]
        before = remembered(tmp_path)
        eventually(lambda: send(postfix, recipient) == [250, 250])
        eventually(lambda: any(each["verdict"] == "accept" for each in filterd.events("judged")))
        told = {each["verdict"]: each["shadow"] for each in filterd.events("judged")}

    assert told == {"defer": "same", "accept": "recipients:defer:greylist"}
    assert before == 1


def test_the_policy_service_alone_defers_and_lets_in(dns: str, recipient: str, tmp_path: Path) -> None:
    with running(
        settings={"smtpd_recipient_restrictions": "check_policy_service unix:milters/policy, permit"}
    ) as postfix:
        server = f'policy_service: ["unix:{postfix.milters}/policy"], state: "sqlite:{tmp_path}/state.db"'
        text = f"dmarc: {{ on_multiple_authors: skip }}\ngreylist: {{ {SOON} }}"
        with Filterd(postfix.milters, policy(dns, text), server=server) as filterd:
            assert send(postfix, recipient) == [450]
            assert "Recipient address rejected: new here: try again in 1 s" in postfix.log
            assert send(postfix, recipient, HONEST, SENDER, MAIL) == [250, 250]
            eventually(lambda: send(postfix, recipient, NEIGHBOUR) == [250, 250])
            assert filterd.events("fault") == []
