"""Writes bounces: the mail that tells a sender which recipients did not get theirs, and why (RFC 3464).

Of the mail itself they bring back the header. DSN is not offered (RFC 3461), so there is nothing that a sender has
asked for; of recipients who got it nothing is said.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from email.message import EmailMessage, Message, MIMEPart
from email.policy import SMTP, SMTPUTF8
from email.utils import formatdate

from filterd.mail.address import AddressError, parse_path
from filterd.mta.queued_mail import QueuedMail, QueuedRecipient, new_mail

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_BEYOND_ASCII = re.compile(r"[^!-~]|[\\+=]")
_MAX_HEADER = 50_000  # octets; Postfix's bounce_size_limit


def can_bounce(mail: QueuedMail) -> bool:
    """Whether there is somebody to be told: a bounce has no sender, and a milter may have written anything there."""
    try:
        return parse_path(f"<{mail.sender}>") is not None
    except AddressError:
        return False


def bounce_of(mail: QueuedMail, content: bytes, hostname: str) -> tuple[QueuedMail, bytes]:
    """The bounce for the recipients that have failed, and its content, where `can_bounce`.

    Its queue id is made from that of the mail and the number of the try: one try has one bounce.
    """
    queue_id = f"{mail.queue_id}b{mail.attempts}"
    bounce = replace(new_mail(queue_id, b"", [mail.sender.encode()]), cause=mail.queue_id)
    message = EmailMessage(SMTP if mail.sender.isascii() else SMTPUTF8)
    message["From"] = f"Mail delivery <MAILER-DAEMON@{hostname}>"
    message["To"] = mail.sender
    message["Subject"] = "Mail that could not be delivered"
    message["Date"] = formatdate(bounce.arrived, localtime=True)
    message["Message-ID"] = f"<{queue_id}@{hostname}>"
    # RFC 3834 5: nobody's vacation program answers.
    message["Auto-Submitted"] = "auto-replied"
    message["MIME-Version"] = "1.0"
    message["Content-Type"] = "multipart/report; report-type=delivery-status"
    message.set_payload([_explanation(mail, hostname), _status(mail, hostname), _header(content)])
    return bounce, message.as_bytes()


def _explanation(mail: QueuedMail, hostname: str) -> MIMEPart:
    lines = [f"This is {hostname}. Your mail could not be delivered to:", ""]
    for each in mail.failed:
        said = f"{each.host} said: {each.reply}" if each.host else each.reply
        lines += [f"<{_line(each.address)}>", f"    {_line(said)}", ""]
    part = MIMEPart(SMTP)
    part.set_content("\n".join([*lines, "It is not tried again. Below is the header of your mail."]) + "\n")
    return part


def _status(mail: QueuedMail, hostname: str) -> MIMEPart:
    part = MIMEPart(SMTP)
    part["Content-Type"] = "message/delivery-status"
    of_mail = _block(
        [
            ("Reporting-MTA", f"dns; {hostname}"),
            ("X-Filterd-Queue-ID", mail.queue_id),
            ("Arrival-Date", formatdate(mail.arrived, localtime=True)),
        ]
    )
    part.set_payload([of_mail, *map(_of_recipient, mail.failed)])
    return part


def _of_recipient(recipient: QueuedRecipient) -> Message:
    lines = [("Final-Recipient", _typed(recipient.address)), ("Action", "failed"), ("Status", recipient.status)]
    if recipient.host:
        lines.append(("Remote-MTA", f"dns; {_line(recipient.host)}"))
    kind = "smtp" if recipient.host else "x-filterd"
    lines.append(("Diagnostic-Code", f"{kind}; {_ascii(_line(recipient.reply))}"))
    return _block(lines)


def _header(content: bytes) -> MIMEPart:
    end = content.find(b"\r\n\r\n")
    header = content[:_MAX_HEADER] if end < 0 or end > _MAX_HEADER else content[: end + 2]
    part = MIMEPart(SMTP)
    # Not parsed: it goes back as it came.
    part.set_content(header.replace(b"\r\n", b"\n"), "text", "rfc822-headers", cte="8bit")
    return part


def _block(fields: Iterable[tuple[str, str]]) -> Message:
    block = Message(SMTP)
    for name, value in fields:
        block[name] = value
    return block


def _typed(address: str) -> str:
    """An address with its type (RFC 3464 2.3.2); beyond ASCII in the form that fits ASCII (RFC 6533 3)."""
    line = _line(address)
    if line.isascii():
        return f"rfc822; {line}"
    return "utf-8; " + _BEYOND_ASCII.sub(lambda found: rf"\x{{{ord(found[0]):X}}}", line)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _line(text: str) -> str:
    """Remote text in one line: what is in it begins no field."""
    return _CONTROL.sub(" ", text)
