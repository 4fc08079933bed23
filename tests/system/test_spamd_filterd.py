"""Debian's spamd behind filterd behind a real Postfix: what it says of a mail is on the mail, and what others say is not."""

import email
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_org import HONEST, SENDER, content, policy
from servers.debian import unpacked
from servers.filterd import Filterd
from servers.milter_process import eventually
from servers.postfix import Postfix
from servers.spamd import SpamdServer

pytestmark = pytest.mark.system

SAMPLES = unpacked("spamassassin") / "usr/share/doc/spamassassin/examples"
# Fields that claim to be a scanner's: spamd itself would hand on the last one as its own.
CLAIMS = b"X-Spam-Status: No, hits=-100\r\nX-SPAM-FLAG: NO\r\nX-Spam-Prev-Subject: x\r\n"
STATUS, FLAG, LEVEL = "X-Spam-Status", "X-Spam-Flag", "X-Spam-Level"


def sample(name: str) -> bytes:
    """A mail that SpamAssassin ships, as SMTP has it. Postfix takes fields away that an MTA adds."""
    mail = (SAMPLES / f"sample-{name}.txt").read_bytes().replace(b"\n", b"\r\n")
    head, _, body = mail.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.startswith((b"Return-Path:", b"Delivered-To:"))]
    return b"\r\n".join(kept) + b"\r\n\r\n" + body


SPAM, HAM = sample("spam"), sample("nonspam")


@pytest.fixture(scope="module")
def spamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpamdServer]:
    """Reports are fields, and one user takes all mail for spam."""
    with tempfile.TemporaryDirectory(prefix="filterd-prefs-") as name:
        preferences = Path(name) / "harsh@example.net" / "user_prefs"
        preferences.parent.mkdir()
        preferences.write_text("required_score -10\n")
        # spamd has given up root when it reads them.
        for folder in (Path(name), preferences.parent):
            folder.chmod(0o755)
        options = ["--cf=report_safe 0", f"--virtual-config-dir={name}/%u"]
        with SpamdServer(tmp_path_factory.mktemp("spamd"), None, *options) as server:
            yield server


def scanned_by(spamd: SpamdServer, more: str = "", rules: str = "score: { tag: 5 }") -> str:
    """The part of the policy about spamd."""
    return f'spamd: {{ address: "inet:{spamd.port}@127.0.0.1", timeout: 60s, on_error: defer, {more} }}\n{rules}'


def send(
    postfix: Postfix, mail: bytes, *recipients: str, user: str | None = None, helo: str = "client.example"
) -> None:
    with postfix.connect(HONEST, user=user, helo=helo) as smtp:
        assert smtp.sendmail(SENDER, recipients, mail) == {}


def fields(mail: bytes) -> dict[str, str]:
    """What a delivered mail has of X-Spam-*; each may stand there once."""
    found = [each for each in email.message_from_bytes(mail).items() if each[0].lower().startswith("x-spam-")]
    assert len(found) == len(dict(found))
    return dict(found)


def test_what_spamd_says_is_on_the_mail_and_what_others_say_is_not(
    postfix: Postfix, dns: str, spamd: SpamdServer, recipient: str
) -> None:
    with Filterd(postfix.milters, policy(dns, scanned_by(spamd))) as filterd:
        for mail in (CLAIMS + SPAM, CLAIMS + HAM):
            send(postfix, mail, recipient)
        decisions = filterd.wait_for("judged", 2)
        assert filterd.events("fault") == []
    spam, ham = sorted(postfix.maildir(recipient), key=lambda mail: b"GTUBE" not in mail)

    assert fields(spam).keys() == {"X-Spam-Checker-Version", FLAG, LEVEL, STATUS, "X-Spam-Report"}
    assert fields(spam)[FLAG] == "YES"
    assert fields(spam)[STATUS].startswith("Yes, score=10")
    assert "GTUBE" in fields(spam)[STATUS]
    assert "\n\t* 1000 GTUBE BODY: Generic Test for Unsolicited Bulk Email" in "\n\t" + fields(spam)["X-Spam-Report"]
    assert b"X-Filterd-Tag: score.tag" in spam
    assert fields(ham).keys() == {"X-Spam-Checker-Version", STATUS, LEVEL}
    assert fields(ham)[STATUS].startswith("No, score=")
    assert [each["spam"].partition(":")[0] for each in decisions] == ["spam", "ham"]
    # Nothing else of the mails has changed.
    assert (content(spam), content(ham)) == (SPAM, HAM)


def test_spam_is_refused_while_the_client_is_there_and_never_bounced(
    postfix: Postfix, dns: str, spamd: SpamdServer, recipient: str
) -> None:
    before = postfix.log
    with (
        Filterd(postfix.milters, policy(dns, scanned_by(spamd, rules="score: { reject: 100 }"))) as filterd,
        postfix.connect(HONEST) as smtp,
    ):
        smtp.mail(SENDER)
        smtp.rcpt(recipient)
        code, _ = smtp.data(SPAM)
        decision = filterd.decision()
    delivered = postfix.maildir(recipient)

    assert (code, decision["rule"]) == (550, "score.reject")
    # No mail is left behind, for the recipient or back to the sender.
    assert (delivered, postfix.maildir(SENDER), postfix.queue()) == ([], [], [])
    assert "postfix/bounce" not in postfix.log.removeprefix(before)


def test_the_preferences_of_the_only_recipient_hold(postfix: Postfix, dns: str, spamd: SpamdServer) -> None:
    harsh, other = "harsh@example.net", "mild@example.net"
    with Filterd(postfix.milters, policy(dns, scanned_by(spamd, "user: recipient"))):
        for recipients in ([harsh], [other], [harsh, other]):
            send(postfix, HAM, *recipients)
    required = [
        [fields(mail)[STATUS].partition("required=")[2].split()[0] for mail in postfix.maildir(each)]
        for each in (harsh, other)
    ]

    assert required == [["-10.0", "5.0"], ["5.0", "5.0"]]


@pytest.mark.parametrize(("ours", "scanned"), [("false", False), ("true", True)])
def test_mail_of_users_and_trusted_networks_is_scanned_where_the_policy_says_so(
    postfix: Postfix, dns: str, spamd: SpamdServer, recipient: str, ours: str, scanned: bool
) -> None:
    trusted = f'networks: {{ trusted: ["{HONEST}"] }}\n'
    with Filterd(postfix.milters, policy(dns, trusted + scanned_by(spamd, f"ours: {ours}"))):
        send(postfix, SPAM, recipient)
        with postfix.connect("203.0.113.9", user="anna") as smtp:
            smtp.sendmail(SENDER, [recipient], SPAM)
    delivered = postfix.maildir(recipient)

    assert [STATUS in fields(mail) for mail in delivered] == [scanned] * 2


def test_large_mail_is_not_scanned_and_says_nothing_of_spam(
    postfix: Postfix, dns: str, spamd: SpamdServer, recipient: str
) -> None:
    with Filterd(postfix.milters, policy(dns, scanned_by(spamd, "max_size: 2KiB"))) as filterd:
        send(postfix, CLAIMS + SPAM + b"x" * 70 + b"\r\n" + b"y\r\n" * 1000, recipient)
        decision = filterd.decision()
    (delivered,) = postfix.maildir(recipient)

    assert decision["spam"] == "skipped:0"
    assert fields(delivered) == {}


def test_mail_flows_on_while_a_spamd_dies_and_comes_back(
    postfix: Postfix, dns: str, recipient: str, tmp_path: Path
) -> None:
    """Two servers: one is enough, none is `on_error` and one warning."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    with SpamdServer(folders[0]) as one, SpamdServer(folders[1]) as two:
        both = f'spamd: {{ address: ["inet:{one.port}@127.0.0.1", "inet:{two.port}@127.0.0.1"], on_error: defer }}'
        with Filterd(postfix.milters, policy(dns, both), workers=1) as filterd:

            def code() -> int:
                with postfix.connect(HONEST) as smtp:
                    smtp.mail(SENDER)
                    smtp.rcpt(recipient)
                    return smtp.data(HAM)[0]

            codes = [code()]
            one.stop()
            codes.append(code())
            assert filterd.events("no spamd can say what it thinks") == []
            two.stop()
            codes += [code() for _ in range(5)]
            one.start()
            eventually(lambda: code() == 250)
            away, back = filterd.events("no spamd can say what it thinks"), filterd.events("spamd is back")
            assert filterd.decision(2)["rule"] == "spamd.on_error"
    delivered = postfix.maildir(recipient)

    assert codes == [250, 250, *[451] * 5]
    assert (len(away), len(back)) == (1, 1)
    # Whatever was taken was scanned.
    assert [STATUS in fields(mail) for mail in delivered] == [True] * 3
