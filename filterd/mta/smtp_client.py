"""One conversation with the next server, by SMTP or LMTP, and what comes of each recipient (RFC 5321, RFC 2033).

Python's smtplib reads and writes the lines. A hostile server costs at most the time of a conversation.
"""

import re
import smtplib
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address
from typing import Any

from filterd.mail.address import AddressError, parse_path
from filterd.mta.queued_mail import Fate, QueuedMail, QueuedRecipient
from filterd.mta.routes import Relay, Tls, Via

_MAX_LINES = 200  # of one reply
_MAX_REPLY = 1000  # characters that are kept
_FAREWELL = 5.0  # seconds
_STATUS = re.compile(rb"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_DOT = re.compile(rb"(?m)^\.")


@dataclass(frozen=True, slots=True)
class NextHop:
    """A server. `name` is what its certificate must be for; `address` is an IP address, a host or a unix path."""

    name: str
    address: str
    port: int
    via: Via
    tls: Tls = Tls.MAY
    login: tuple[str, str] | None = None

    @property
    def is_near(self) -> bool:
        """Whether nobody between us and it can listen."""
        if self.address.startswith("/") or self.address == "localhost":
            return True
        with suppress(ValueError):
            return ip_address(self.address).is_loopback
        return False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of each recipient, and whether another server may be asked about those that wait."""

    recipients: tuple[QueuedRecipient, ...]
    may_go_on: bool


class _RefusedError(Exception):
    """The server takes nothing: what is said of all recipients."""

    def __init__(self, fate: Fate, status: str, text: str, theirs: bool = True) -> None:
        super().__init__(text)
        self.fate, self.status, self.theirs = fate, status, theirs


class _NoTlsError(Exception):
    """TLS was offered and did not come about."""


class SmtpClient:
    """Hands mail over to one server after the other. `hostname` is our name. Methods may be called from any thread."""

    def __init__(self, settings: Relay, hostname: str) -> None:
        self._settings = settings
        self._hostname = hostname
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        with self._lock:
            self._stopped = True
            for each in self._open:
                each.cut()

    @cached_property
    def _any_certificate(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    @cached_property
    def _valid_certificate(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._settings.ca_file is not None:
            context.load_verify_locations(self._settings.ca_file)
        return context

    def hand_over(
        self, hop: NextHop, mail: QueuedMail, recipients: Sequence[QueuedRecipient], content: bytes
    ) -> Outcome:
        """Hand the mail over for these recipients."""
        try:
            return self._converse(hop, mail, recipients, content, with_tls=True)
        except _NoTlsError:
            # RFC 7435 3: anything is better than nothing. It takes a new connection.
            return self._converse(hop, mail, recipients, content, with_tls=False)

    def _converse(
        self, hop: NextHop, mail: QueuedMail, recipients: Sequence[QueuedRecipient], content: bytes, with_tls: bool
    ) -> Outcome:
        context = self._valid_certificate if hop.tls is Tls.VERIFY else self._any_certificate
        connection = _Connection(hop, self._hostname, self._settings, context)
        with self._lock:
            if self._stopped:
                return _all_wait(recipients, "4.3.2", "we are stopping", hop, may_go_on=False)
            self._open.add(connection)
        watchdog = threading.Timer(self._settings.conversation_timeout, connection.cut)
        watchdog.daemon = True
        watchdog.start()
        transfer = _Transfer(connection, hop, mail, recipients, content)
        try:
            connection.begin(with_tls)
            transfer.run()
            connection.farewell()
        except _RefusedError as error:
            transfer.settle(error.fate, error.status, str(error), hop.name if error.theirs else "")
        except (OSError, ValueError) as error:
            # ValueError: smtplib's decoders, of what the server wrote.
            transfer.settle(Fate.WAITING, "4.4.2", f"{hop.name}[{hop.address}]: {_reason(error)}", "")
        finally:
            watchdog.cancel()
            connection.close()
            with self._lock:
                self._open.discard(connection)
        return transfer.outcome


class _Connection(smtplib.SMTP):
    """A connection that is not made yet."""

    def __init__(self, hop: NextHop, hostname: str, settings: Relay, context: ssl.SSLContext) -> None:
        super().__init__(local_hostname=hostname, timeout=settings.connect_timeout)
        self._host = hop.name  # whom starttls() asks a certificate of
        self._hop = hop
        self._settings = settings
        self._context = context
        self._plug: socket.socket | None = None
        self._is_cut = False
        self.encrypted = False
        if hop.via is Via.LMTP:
            self.ehlo_msg = "lhlo"

    def cut(self) -> None:
        """End it at once, from another thread."""
        self._is_cut = True
        if self._plug is not None:
            with suppress(OSError):
                self._plug.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            super().close()
        if self._plug is not None:
            self._plug.close()

    def begin(self, with_tls: bool) -> None:
        """Connect, greet, make it as safe as it must be, and log in. Raises _RefusedError, _NoTlsError, OSError."""
        hop = self._hop
        self._expect("4.4.1", 220, *self.connect(hop.name, hop.port or 1))
        self._hello()
        offered = self.has_extn("starttls")
        if not self.encrypted and with_tls and offered:
            self._start_tls()
        if hop.tls is not Tls.MAY and not self.encrypted:
            raise _RefusedError(Fate.WAITING, "4.7.4", "TLS is required, and the server does not offer it", False)
        if hop.login is not None:
            if not self.encrypted and not hop.is_near:
                raise _RefusedError(Fate.WAITING, "4.7.4", "a password is said within TLS only", False)
            try:
                self.login(*hop.login)
            except smtplib.SMTPResponseException as error:
                raise _RefusedError(Fate.WAITING, "4.7.8", _text(error.smtp_code, error.smtp_error)) from None

    def farewell(self) -> None:
        """QUIT; the mail has been handed over, whatever comes."""
        with suppress(OSError, ValueError):
            if self.sock is not None:
                self.sock.settimeout(_FAREWELL)
            self.docmd("QUIT")

    def wait_long(self) -> None:
        """Give the replies the time that a whole message may take."""
        if self.sock is not None:
            self.sock.settimeout(self._settings.content_timeout)

    def getreply(self) -> tuple[int, bytes]:
        if self.file is None and self.sock is not None:
            self.file = _Bounded(self.sock.makefile("rb"))
        if self.file is not None:
            self.file.left = _MAX_LINES
        return super().getreply()

    def _get_socket(self, _host: str, _port: int, timeout: float) -> socket.socket:
        hop = self._hop
        if hop.address.startswith("/"):
            opened = socket.socket(socket.AF_UNIX)
            opened.settimeout(timeout)
            try:
                opened.connect(hop.address)
            except OSError:
                opened.close()
                raise
        else:
            opened = socket.create_connection((hop.address, hop.port), timeout)
        opened.settimeout(self._settings.reply_timeout)
        self._plug = opened.dup()
        if self._is_cut:
            self.cut()
        if hop.via is Via.SMTPS:
            opened = self._context.wrap_socket(opened, server_hostname=hop.name)
            self.encrypted = True
        return opened

    def _hello(self) -> None:
        code, text = self.ehlo()
        if code != 250 and self._hop.via is not Via.LMTP:
            code, text = self.helo()
        self._expect("4.4.2", 250, code, text)
        greeted = text.decode("latin-1").split()
        if self._hop.via is not Via.LMTP and greeted and greeted[0].lower() == self.local_hostname.lower():
            raise _RefusedError(Fate.FAILED, "5.4.6", "the server has our name: mail would come back to us", False)

    def _start_tls(self) -> None:
        try:
            self.starttls(context=self._context)
        except (OSError, ValueError) as error:
            if self._hop.tls is Tls.MAY:
                raise _NoTlsError from None
            problem = f"TLS with {self._hop.name} failed: {_reason(error)}"
            raise _RefusedError(Fate.WAITING, "4.7.5", problem, False) from None
        self.encrypted = True
        self._hello()

    def _expect(self, status: str, wanted: int, code: int, text: bytes) -> None:
        if code != wanted:
            # As Postfix: what a server says before the mail is no word about the mail, and another one is asked.
            theirs = _STATUS.match(text)
            known = theirs is not None and theirs[1] == b"4"
            raise _RefusedError(Fate.WAITING, _status(code, text) if known else status, _text(code, text))


class _Bounded:
    """The server's lines, of which a reply has only so many."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.left = _MAX_LINES

    def readline(self, size: int) -> bytes:
        self.left -= 1
        return bytes(self._file.readline(size)) if self.left >= 0 else b""

    def close(self) -> None:
        self._file.close()


class _Transfer:
    """One mail over a connection that is ready, and how far each recipient is."""

    def __init__(
        self,
        connection: _Connection,
        hop: NextHop,
        mail: QueuedMail,
        recipients: Sequence[QueuedRecipient],
        content: bytes,
    ) -> None:
        self._connection = connection
        self._hop = hop
        self._mail = mail
        self._content = content
        self._settled: dict[str, QueuedRecipient] = {}
        self._open = {each.address: each for each in recipients}
        self._is_sent = False

    @property
    def outcome(self) -> Outcome:
        return Outcome(tuple(self._settled.values()), not self._is_sent)

    def settle(self, fate: Fate, status: str, text: str, host: str) -> None:
        """Say the same of all recipients of whom nothing is said yet."""
        for address in tuple(self._open):
            self._settle(address, fate, status, text, host)

    def run(self) -> None:
        """MAIL, RCPT and DATA. What is not settled when it raises is the error's. Raises _RefusedError, OSError."""
        connection = self._connection
        if self._mail.sender and not _is_address(self._mail.sender):
            raise _RefusedError(Fate.FAILED, "5.1.7", "the sender is no address", False)
        for address in tuple(self._open):
            if not _is_address(address):
                self._settle(address, Fate.FAILED, "5.1.3", "this is no address", "")
        if not self._open:
            return
        parameters = self._parameters()
        code, text = connection.docmd("MAIL", " ".join([f"FROM:<{self._mail.sender}>", *parameters]))
        if not 200 <= code < 300:
            raise _RefusedError(_fate(code), _status(code, text), _text(code, text))
        accepted = []
        for address in tuple(self._open):
            code, text = connection.docmd("RCPT", f"TO:<{address}>")
            if 200 <= code < 300:
                accepted.append(address)
            else:
                # RFC 5321 4.5.3.1.10: 552 here may mean too many recipients for now.
                self._reply(address, 452 if code == 552 else code, text)
        if accepted:
            self._data(accepted)

    def _data(self, accepted: list[str]) -> None:
        connection = self._connection
        code, text = connection.docmd("DATA")
        if code != 354:
            if code < 400:
                raise _RefusedError(Fate.WAITING, "4.5.0", _text(code, text))
            for address in accepted:
                self._reply(address, code, text)
            return
        ended = self._content if self._content.endswith(b"\r\n") else self._content + b"\r\n"
        # From here on the server may have the mail, though it does not say so.
        self._is_sent = True
        connection.send(_DOT.sub(b"..", ended) + b".\r\n")
        connection.wait_long()
        if self._hop.via is Via.LMTP:
            # RFC 2033 4.2: one reply for each, in their order.
            for address in accepted:
                self._reply(address, *connection.getreply())
        else:
            code, text = connection.getreply()
            for address in accepted:
                self._reply(address, code, text)

    def _parameters(self) -> list[str]:
        connection, content = self._connection, self._content
        parameters = [f"SIZE={len(content)}"] if connection.has_extn("size") else []
        if not content.isascii():
            if not connection.has_extn("8bitmime"):
                # RFC 6152 3: it cannot go on as it is, and changed it would lose its signatures.
                raise _RefusedError(Fate.FAILED, "5.6.3", "the server takes no 8-bit content", False)
            parameters.append("BODY=8BITMIME")
        header = content.partition(b"\r\n\r\n")[0]
        addresses = "".join([self._mail.sender, *self._open])
        if not addresses.isascii() or (self._mail.smtputf8 and not header.isascii()):
            if not connection.has_extn("smtputf8"):
                # RFC 6531 3.2
                raise _RefusedError(Fate.FAILED, "5.6.7", "the server takes no addresses beyond ASCII", False)
            parameters.append("SMTPUTF8")
            connection.command_encoding = "utf-8"
        return parameters

    def _reply(self, address: str, code: int, text: bytes) -> None:
        self._settle(address, _fate(code), _status(code, text), _text(code, text), self._hop.name)

    def _settle(self, address: str, fate: Fate, status: str, text: str, host: str) -> None:
        self._settled[address] = replace(
            self._open.pop(address), fate=fate, status=status, reply=text[:_MAX_REPLY], host=host
        )


def _is_address(address: str) -> bool:
    """Whether it can stand in a command; a milter may have written it."""
    if address.lower() == "postmaster":
        return True
    try:
        return parse_path(f"<{address}>") is not None
    except AddressError:
        return False


def _fate(code: int) -> Fate:
    if 200 <= code < 300:
        return Fate.DELIVERED
    return Fate.FAILED if 500 <= code < 600 else Fate.WAITING


def _status(code: int, text: bytes) -> str:
    found = _STATUS.match(text)
    first = code // 100 if 2 <= code // 100 <= 5 else 4
    return found[0].decode() if found and int(found[1]) == first else f"{4 if first == 3 else first}.0.0"


def _text(code: int, text: bytes | str) -> str:
    octets = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    return f"{code} {_CONTROL.sub(' ', octets.decode('utf-8', 'replace'))}".strip()


def _reason(error: Exception) -> str:
    return _CONTROL.sub(" ", getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _all_wait(recipients: Sequence[QueuedRecipient], status: str, text: str, hop: NextHop, may_go_on: bool) -> Outcome:
    waiting = (replace(each, fate=Fate.WAITING, status=status, reply=text, host="") for each in recipients)
    return Outcome(tuple(waiting), may_go_on)
