"""Judge a stored mail by the same engine as live mail, offline."""

from dataclasses import dataclass

from filterd.engine.finish import Finished
from filterd.engine.runtime import Runtime
from filterd.engine.session import MailSession
from filterd.mail.message import split
from filterd.mail.transaction import Client, ForwardPath, ReversePath

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail with the envelope that it is to be judged by; `data` has any line ends."""

    data: bytes
    client: Client
    helo: str
    sender: ReversePath
    recipients: tuple[ForwardPath, ...]
    user: str | None = None


def judge(runtime: Runtime, mail: StoredMail) -> Finished:
    """Judge as if the mail came in by SMTP: a refusal at any stage ends it. The runtime records the transcript."""
    session = MailSession(runtime, "offline")
    try:
        return _dialogue(session, mail)
    finally:
        session.close()


def _dialogue(session: MailSession, mail: StoredMail) -> Finished:
    verdict = session.connect(mail.client, None)
    verdict = verdict if verdict.disposition.final else session.helo(mail.helo, None)
    verdict = verdict if verdict.disposition.final else session.mail(mail.sender, mail.user, None)
    if verdict.disposition.final:
        return Finished(verdict)
    refused = [session.rcpt(recipient, None) for recipient in mail.recipients]
    if refused and all(each.disposition.final for each in refused):
        return Finished(refused[0])
    header, body = split(mail.data)
    verdict = session.data(None)
    verdict = verdict if verdict.disposition.final else session.end_of_headers(header.fields, None)
    if verdict.disposition.final:
        return Finished(verdict)
    for start in range(0, len(body), _CHUNK):
        session.body(body[start : start + _CHUNK])
    return session.end_of_message(None)
