"""Send the scenes by SMTP, and read back what became of each: from the reply, the Maildir and the decision log."""

import smtplib
import time
from dataclasses import dataclass
from typing import Any

from filterd.backend.zone import zone_resolver
from filterd.demo.cast import PASSWORD, READER, USER, Ends, Scene
from filterd.demo.stage import Stage
from filterd.dkim.verify import DkimCode, Verification
from filterd.mail.message import split
from filterd.policy.verdict import QUARANTINE_FIELD, TAG_FIELD

_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a scene's mail. `faults` are the differences from how it must end."""

    scene: Scene
    reply: str
    ends: str
    decision: dict[str, Any]
    faults: tuple[str, ...]


def play(stage: Stage, scene: Scene, number: int) -> Seen:
    """Send one mail, the n-th from 0."""
    time.sleep(scene.after)
    before = set(_delivered(stage))
    reply = _send(stage, scene)
    delivered = {name: data for name, data in _delivered(stage).items() if name not in before}
    decision = stage.decision(number)
    ends = _ends(reply, list(delivered.values()))
    faults = _faults(scene, ends, decision, list(delivered.values()))
    if scene.signed and not all(_signature_holds(data, stage) for data in delivered.values()):
        faults.append("it has no signature that holds")
    return Seen(scene, reply, ends, decision, tuple(faults))


def _send(stage: Stage, scene: Scene) -> str:
    """The reply that settled the mail, as one line."""
    with smtplib.SMTP(*stage.smtp, timeout=_TIMEOUT) as client:
        client.ehlo("demo.example")
        if scene.user:
            client.login(USER, PASSWORD)
        else:
            # What Postfix lets its tests do too: be any client.
            client.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={scene.client_ip} HELO={scene.helo}")
            client.ehlo(scene.helo)
        for command in (f"MAIL FROM:<{scene.sender}>", f"RCPT TO:<{READER}>"):
            code, text = client.docmd(command)
            if code >= 400:
                return _line(code, text)
        return _line(*client.data(scene.message))


def _line(code: int, text: bytes) -> str:
    return f"{code} {' '.join(text.decode('utf-8', 'replace').split())}"


def _delivered(stage: Stage) -> dict[str, bytes]:
    folder = stage.maildir / "new"
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.is_dir() else {}


def _ends(reply: str, delivered: list[bytes]) -> str:
    if not reply.startswith("250"):
        ends = Ends.WAITS if reply.startswith("4") else Ends.REFUSED
        return ends if not delivered else f"{ends} and delivered"
    if len(delivered) != 1:
        return f"{len(delivered)} copies"
    header, _ = split(delivered[0])
    if header.has(QUARANTINE_FIELD):
        return Ends.JUNK
    return Ends.TAGGED if header.has(TAG_FIELD) else Ends.INBOX


def _signature_holds(data: bytes, stage: Stage) -> bool:
    """What a receiver of the delivered mail would find."""
    header, body = split(data)
    verification = Verification(header, int(time.time()))
    verification.body(body)
    return any(each.code is DkimCode.PASS for each in verification.finish(zone_resolver(stage.zone)))


def _faults(scene: Scene, ends: str, decision: dict[str, Any], delivered: list[bytes]) -> list[str]:
    dkim = {part.partition(":")[0] for part in str(decision.get("dkim", "-")).split(",")}
    wanted = {
        "it ends in": (scene.ends, ends),
        "SPF is": (scene.spf, decision.get("spf")),
        "DKIM is": (scene.dkim, ",".join(sorted(dkim))),
        "ARC is": (scene.arc, str(decision.get("arc", "-")).partition(":")[0]),
        "DMARC is": (scene.dmarc, decision.get("dmarc")),
        "the rule is": (scene.rule, decision.get("rule")),
    }
    faults = [f"{what} {found}, not {want}" for what, (want, found) in wanted.items() if want != found]
    for data in delivered:
        data = data.replace(b"\r\n", b"\n")
        if scene.gone and scene.gone.replace(b"\r\n", b"\n").strip() in data:
            faults.append("a forged field is still there")
        if not scene.user and data.count(b"\nAuthentication-Results: ") + data.startswith(b"Authentication-R") != 1:
            faults.append("there is not exactly one Authentication-Results field")
    return faults
