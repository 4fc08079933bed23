"""The demonstration's mails through the bundled MTA and through Postfix: nobody can tell which it was.

Two daemons run one policy, each behind an MTA of its own, and ask one name server and one spamd. Compared are every reply, the
decision, and what was delivered.
"""

import re
import smtplib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from dkim_mail import verify
from servers import postfix as real
from servers.filterd import Filterd

from filterd.backend.zone import zone_resolver
from filterd.demo.cast import HOST, READER, Ends, Scene, guarded_scenes, scenes
from filterd.demo.stage import Stage, set_up
from filterd.dkim.verify import DkimCode
from filterd.mail.message import split

pytestmark = pytest.mark.system

_POLICY = Path(__file__).parents[2] / "policies" / "default.yaml"
# What belongs to a moment: the MTA's queue id, ours, how long it took, and how long a mail waited; and the text that the
# addresses are in.
_PASSING = {"time", "queue_id", "session", "ms", "policy", "greylist"}


@dataclass
class Seen:
    """What became of a mail."""

    title: str
    replies: list[str]
    decision: dict[str, Any]
    delivered: list[bytes]

    @property
    def ends(self) -> str:
        if not self.delivered:
            return Ends.WAITS if any(reply.startswith("4") for reply in self.replies) else Ends.REFUSED
        header, _ = split(self.delivered[0])
        if header.has("X-Filterd-Quarantine"):
            return Ends.JUNK
        return Ends.TAGGED if header.has("X-Filterd-Tag") else Ends.INBOX

    def comparable(self) -> "Seen":
        """What must be the same whatever the MTA."""
        judged = {word: value for word, value in self.decision.items() if word not in _PASSING}
        return replace(self, decision=judged, delivered=[_comparable(mail) for mail in self.delivered])


def test_postfix_and_the_bundled_mta_do_the_same(tmp_path: Path) -> None:
    with (
        set_up(tmp_path, _POLICY) as stage,
        real.running(milters=["unix:milters/milter"], settings={"myhostname": HOST}) as postfix,
        Filterd(postfix.milters, _policy(stage), server=f'state: "sqlite:{tmp_path}/postfix.db"') as filterd,
    ):
        assert stage.unscanned is None
        cast = (*scenes(stage.key, int(time.time())), *guarded_scenes())
        bundled = _play_all(cast, stage.smtp, stage.decision, lambda: _files(stage.maildir))
        actual = _play_all(cast, ("127.0.0.1", postfix.port), filterd.decision, lambda: postfix.maildir(READER))

    for scene, expected, found in zip(cast, bundled, actual, strict=True):
        assert expected.comparable() == found.comparable()
        assert (scene.ends, scene.rule) == (found.ends, found.decision["rule"])
        assert (scene.spf, scene.dkim, scene.dmarc) == tuple(
            found.decision[check].partition(":")[0] for check in ("spf", "dkim", "dmarc")
        )
        if scene.signed:
            results = [_verified(mail, stage) for mail in found.delivered]
            assert results == [[DkimCode.PASS]]


def _policy(stage: Stage) -> str:
    """The very policy, for a daemon in another folder."""
    text = (stage.folder / "policy.yaml").read_text()
    return re.sub(r"(?m)^(version|server): .*\n", "", text).replace("file: ", f"file: {stage.folder}/")


def _play_all(
    cast: tuple[Scene, ...],
    smtp: tuple[str, int],
    decision: Callable[[int], dict[str, Any]],
    mailbox: Callable[[], list[bytes]],
) -> list[Seen]:
    seen = []
    for number, scene in enumerate(cast):
        time.sleep(scene.after)
        before = len(mailbox())
        replies = _send(smtp, scene)
        seen.append(Seen(scene.title, replies, decision(number), mailbox()[before:]))
    return seen


def _send(smtp: tuple[str, int], scene: Scene) -> list[str]:
    with smtplib.SMTP(*smtp, timeout=60) as client:
        client.ehlo("demo.example")
        login = f" LOGIN={scene.user}" if scene.user else ""
        client.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={scene.client_ip} HELO={scene.helo}{login}")
        client.ehlo(scene.helo)
        said = [client.mail(scene.sender), client.rcpt(READER)]
        if said[-1][0] == 250:
            said.append(client.data(scene.message))
    return [f"{code} {re.sub(r'queued as .*', 'queued', text.decode())}" for code, text in said]


def _files(maildir: Path) -> list[bytes]:
    new = maildir / "new"
    files = sorted(new.iterdir(), key=lambda file: file.stat().st_mtime_ns) if new.is_dir() else []
    return [file.read_bytes() for file in files]


def _verified(mail: bytes, stage: Stage) -> list[DkimCode]:
    """What a receiver of the delivered mail finds."""
    results = verify(mail.replace(b"\n", b"\r\n"), zone_resolver(stage.zone), int(time.time()))
    return [each.code for each in results]


def _comparable(mail: bytes) -> bytes:
    """The mail without what only Postfix writes, and without what a moment leaves in the fields of MTA and filterd."""
    mail = re.sub(rb"(?m)^X-Original-To: .*\n", b"", mail, count=1)
    mail = re.sub(rb"(?m)^Received: from (.*)\n\tby \S+ .*(\n\t.*)*", rb"Received: from \1", mail, count=1)
    ours = rb"(?m)^DKIM-Signature: .*(\n[ \t].*)*d=home\.example;.*(\n[ \t].*)*"
    return re.sub(ours, lambda field: re.sub(rb"\b(t|b)=[^;]*", b"", field[0]), mail)
