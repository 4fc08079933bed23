"""One SMTP session's state: the client, the mail transaction, and what the milters are told about both.

Turns commands into judgements and mails; knows nothing of sockets, and of SMTP's syntax only the replies.
"""

import secrets
import time
from dataclasses import dataclass, replace

from filterd.mail.header import Field
from filterd.mta.client_identity import ClientIdentity, TlsIdentity
from filterd.mta.commands import MailParameters, PathCommand
from filterd.mta.config import MtaConfig
from filterd.mta.connection import check_lines
from filterd.mta.judgement import GO_ON, Judgement, Kind, refuse
from filterd.mta.mail_object import ContentError, MailObject, parse_content
from filterd.mta.milter_chain import MilterChain
from filterd.mta.policy_client import PolicyClients
from filterd.mta.queue_runner import QueueRunner
from filterd.mta.queued_mail import new_mail
from filterd.wire.access_policy import ProtocolState, Request
from filterd.wire.milter import Data, Helo, Mail, Rcpt, UnknownCommand

_MAX_HOPS = 50
_ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZ"


def new_queue_id() -> str:
    """A name that no other mail has: the time in microseconds and a random part, without vowels."""
    number, digits = time.time_ns() // 1000 * 65536 + secrets.randbelow(65536), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


@dataclass(slots=True)
class MailTransaction:
    """What MAIL and RCPT have made so far. `discard` and `hold` are what a filter has said about it already.

    `instance` names it for the policy services; `prepended` are the fields that those put on top.
    """

    sender: PathCommand
    parameters: MailParameters
    recipients: dict[bytes, PathCommand]
    queue_id: str | None = None
    discard: bool = False
    hold: bytes | None = None
    instance: str = ""
    prepended: tuple[Field, ...] = ()


class SmtpSession:
    """The session behind the dialogue. A refusal leaves the state as it was."""

    def __init__(self, config: MtaConfig, queue: QueueRunner, client: ClientIdentity, local: tuple[str, int]) -> None:
        self._config = config
        self._queue = queue
        self._local = local
        self.client = client
        self.transaction: MailTransaction | None = None
        # The command that is being judged: its macros are asked for before it counts.
        self._asked: PathCommand | None = None
        # What was said of the recipient that milters are told of, where they are told of refused ones.
        self._refused: Judgement | None = None
        self._milters = MilterChain(config, self._macro)
        self._policy_services = PolicyClients(config)

    async def connect(self) -> Judgement:
        """The client has come."""
        return await self._milters.ask(self.client.connect)

    async def helo(self, name: str, esmtp: bool) -> Judgement:
        """HELO or EHLO, at any time: it ends a transaction (RFC 5321 4.1.4)."""
        judgement = await self._milters.ask(Helo(name.encode("utf-8", "surrogateescape")))
        if self.client.helo is not None:
            self._milters.abort()
        self.reset()
        self.client = replace(self.client, helo=name, esmtp=esmtp)
        return judgement

    async def mail(self, path: PathCommand, parameters: MailParameters) -> Judgement:
        transaction = MailTransaction(path, parameters, {}, instance=new_queue_id())
        judgement = await self._judge(transaction, path, Mail(path.written, path.parameters))
        if judgement.kind is Kind.GO_ON:
            self.transaction = transaction
        else:
            self._milters.abort()
        return judgement

    async def rcpt(self, path: PathCommand) -> Judgement:
        assert self.transaction is not None
        judgement = self._may_relay(path)
        if judgement.kind is Kind.GO_ON:
            judgement = await self._ask_policy_services(self.transaction, path)
        command = Rcpt(path.written, path.parameters)
        if judgement.kind is Kind.GO_ON:
            judgement = await self._judge(self.transaction, path, command)
        elif judgement.kind is Kind.REFUSE and not self.transaction.discard:
            await self._tell_refused(path, command, judgement)
        if judgement.kind is Kind.GO_ON:
            self.transaction.recipients.setdefault(path.address, path)
            self.transaction.queue_id = self.transaction.queue_id or new_queue_id()
        return judgement

    async def data(self) -> Judgement:
        assert self.transaction is not None
        return await self._judge(self.transaction, None, Data())

    async def unknown(self, line: bytes) -> Judgement:
        return await self._milters.ask(UnknownCommand(line))

    async def content(self, content: bytes) -> Judgement:
        """Judge and queue; when it says "go on" the mail is on the disk. Ends the transaction.

        Raises ContentError for what is no mail, and OSError where it cannot be stored.
        """
        assert self.transaction is not None
        try:
            mail = self._mail_object(self.transaction, content)
            if self.transaction.discard:
                return GO_ON
            judgement, mail = await self._milters.message(mail)
            if judgement.kind is Kind.REFUSE:
                return judgement
            if judgement.kind is Kind.GO_ON and mail.recipients:
                queued = new_mail(mail.queue_id, mail.sender, mail.recipients, mail.hold)
                queued = replace(queued, smtputf8=self.transaction.parameters.smtputf8)
                await self._queue.take(queued, mail.content)
            return GO_ON
        finally:
            self.reset()

    def reset(self) -> None:
        """End the mail transaction, if there is one."""
        if self.transaction is not None:
            self._milters.abort()
        self.transaction = None

    def authenticate(self, login: str, mechanism: str) -> None:
        """The client has proved who it is."""
        self.client = replace(self.client, login=login, mechanism=mechanism)

    def start_tls(self, tls: TlsIdentity) -> None:
        """The client speaks TLS from now on, and all that it said before is forgotten (RFC 3207 4.2)."""
        self._milters.abort()
        self.reset()
        self.client = replace(self.client, helo=None, esmtp=False, login=None, mechanism=None, tls=tls)

    def pretend(self, client: ClientIdentity) -> None:
        """Begin anew as another client, with new connections to the milters."""
        self.close()
        self.client, self.transaction = client, None
        self._milters = MilterChain(self._config, self._macro)

    def close(self) -> None:
        self._milters.quit()
        self._policy_services.close()

    def _may_relay(self, path: PathCommand) -> Judgement:
        """Whether the client may send to this recipient, who may be somebody else's."""
        client = self.client
        if client.login is not None or self._config.is_trusted(client.address) or self._config.is_ours(path.address):
            return GO_ON
        # As Postfix.
        return refuse(f"554 5.7.1 {path.written.decode('utf-8', 'replace')}: Relay access denied")

    async def _ask_policy_services(self, transaction: MailTransaction, path: PathCommand) -> Judgement:
        if transaction.discard:
            return GO_ON
        ruling = await self._policy_services.ask(self._question(transaction, path))
        if ruling.judgement.kind is Kind.REFUSE:
            return ruling.judgement
        transaction.discard |= ruling.judgement.kind is Kind.DISCARD
        if ruling.hold.kind is Kind.HOLD:
            transaction.hold = ruling.hold.text
        transaction.prepended += ruling.fields
        return GO_ON

    def _question(self, transaction: MailTransaction, path: PathCommand) -> Request:
        client, (address, port) = self.client, self._local[:2]
        return Request(
            ProtocolState.RCPT,
            protocol_name="ESMTP" if client.esmtp else "SMTP",
            helo_name=client.helo or "",
            queue_id=transaction.queue_id or "",
            sender=transaction.sender.address.decode("utf-8", "surrogateescape"),
            recipient=path.address.decode("utf-8", "surrogateescape"),
            client_address=client.address,
            client_name=client.name,
            reverse_client_name=client.reverse_name,
            instance=transaction.instance,
            sasl_method=client.mechanism or "",
            encryption_protocol=client.tls.version if client.tls else "",
            encryption_cipher=client.tls.cipher if client.tls else "",
            encryption_keysize=client.tls.bits if client.tls else 0,
            sasl_username=client.login or "",
            size=transaction.parameters.size,
            client_port=client.port,
            server_address=address,
            server_port=port,
        )

    async def _judge(
        self, transaction: MailTransaction, path: PathCommand | None, command: Mail | Rcpt | Data
    ) -> Judgement:
        if transaction.discard:
            return GO_ON
        self._asked = path
        judgement = await self._milters.ask(command)
        self._asked = None
        match judgement.kind:
            case Kind.DISCARD:
                transaction.discard = True
            case Kind.HOLD:
                transaction.hold = judgement.text
            case Kind.REFUSE:
                return judgement
        return GO_ON

    async def _tell_refused(self, path: PathCommand, command: Rcpt, judgement: Judgement) -> None:
        """Tell the milters that want to know of a recipient that was refused before they were asked."""
        self._asked, self._refused = path, judgement
        await self._milters.tell_refused(command)
        self._asked = self._refused = None

    def _mail_object(self, transaction: MailTransaction, content: bytes) -> MailObject:
        if (problem := check_lines(content)) is not None:
            raise ContentError(problem)
        fields, body = parse_content(content)
        if sum(each.key == b"received" for each in fields) > _MAX_HOPS:
            raise ContentError("554 5.4.6 Too many hops")
        assert transaction.queue_id is not None
        recipients = tuple(transaction.recipients)
        smtputf8 = transaction.parameters.smtputf8
        trace = self.client.received(self._config.hostname, transaction.queue_id, recipients, smtputf8)
        received = Field(b"Received", b" " + trace)
        sender = transaction.sender.address
        return MailObject(
            transaction.queue_id,
            sender,
            recipients,
            received,
            (*transaction.prepended, received, *fields),
            body,
            transaction.hold,
        )

    def _macro(self, name: str) -> bytes | None:
        client, transaction, asked, refused = self.client, self.transaction, self._asked, self._refused
        text: str | None = None
        match name:
            case "j" | "daemon_name":
                text = self._config.hostname
            case "v":
                text = "filterd mta"
            case "_":
                text = client.described
            case "daemon_addr":
                text = self._local[0]
            case "daemon_port":
                text = str(self._local[1])
            case "client_addr":
                text = client.address
            case "client_name":
                text = client.name
            case "client_ptr":
                text = client.reverse_name
            case "client_port":
                text = str(client.port)
            case "auth_type":
                text = client.mechanism
            case "auth_authen":
                text = client.login
            case "tls_version" if client.tls is not None:
                text = client.tls.version
            case "cipher" if client.tls is not None:
                text = client.tls.cipher
            case "cipher_bits" if client.tls is not None:
                text = str(client.tls.bits)
            case "i":
                text = None if transaction is None else transaction.queue_id
            # As Postfix: an address that is refused has resolved to an error, its status and its text.
            case "rcpt_mailer" if refused is not None:
                text = "error"
            case "rcpt_host" if refused is not None:
                return refused.status
            case "rcpt_addr" if refused is not None:
                return refused.text.splitlines()[0][4:]
            case "mail_addr" | "rcpt_addr" if asked is not None:
                return asked.address
            case "mail_host" | "rcpt_host" if asked is not None:
                return asked.host or self._config.hostname.encode()
            case "mail_mailer" if asked is not None:
                text = "smtp" if asked.host else "local"
            case "rcpt_mailer":
                text = "virtual"
        return None if text is None else text.encode()
