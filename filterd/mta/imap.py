"""IMAP by pymap, over the same Maildirs and users: folders, flags, search and IDLE.

Ours is who may log in, whose mailbox it is, and that a stranger costs no memory: pymap takes literals of any size. It
has no STARTTLS here, as pymap would take what was pipelined before TLS for said within (CVE-2011-0411): there is TLS
from the first octet, or on loopback none. Needs the extra `imap`.
"""

import asyncio
import ssl
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from mailbox import MaildirMessage
from pathlib import Path
from typing import Any

from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.maildir import Config, FilterSet, Session
from pymap.backend.maildir.layout import DefaultLayout
from pymap.backend.maildir.mailbox import MailboxSet, Maildir
from pymap.concurrent import Subsystem
from pymap.context import connection_exit
from pymap.exceptions import AuthorizationFailure, InvalidAuth, MailboxNotFound, NotAllowedError
from pymap.imap import IMAPConnection
from pymap.imap.state import ConnectionState
from pymap.interfaces.login import IdentityInterface, LoginInterface
from pymap.token import AllTokens
from pymap.user import UserMetadata
from pysasl.creds.server import ServerCredentials
from pysasl.identity import Identity

from filterd.mta.auth import Credentials, Gate
from filterd.mta.client_identity import is_loopback
from filterd.mta.config import MtaConfig
from filterd.mta.connection import Connection
from filterd.mta.deliver import Maildirs
from filterd.mta.maildrop import read_mail

_MAX_BEFORE_LOGIN = 1 << 16  # octets, in all
_IDLE = 1800.0  # seconds; RFC 9051 5.4


class ImapDialogue:
    """One IMAP connection."""

    def __init__(self, config: MtaConfig, connection: Connection, maildirs: Maildirs, gate: Gate) -> None:
        self._config = config
        self._connection = connection
        self._maildirs = maildirs
        self._gate = gate

    async def run(self) -> None:
        """Talk until it is over."""
        on_loopback = self._config.auth_without_tls and is_loopback(self._connection.name("peername")[0])
        if self._connection.tls is None and not on_loopback:
            await self.refuse("passwords go through TLS only")
            return
        plain, writer = self._connection.streams
        reader = _Reader(plain, self._config.message_size_limit, self._config.smtp_timeout)
        settings = _Settings(self._config)
        login = _Login(self._config, settings, self._maildirs, self._gate, self._connection.name("peername")[0], reader)
        dialogue = IMAPConnection(settings.commands, settings, reader, writer, SocketInfoLocal(writer))
        async with AsyncExitStack() as stack:
            connection_exit.set(stack)
            await dialogue.run(ConnectionState(login, settings))

    async def refuse(self, problem: str) -> None:
        """Turn the client away."""
        await self._connection.reply(f"* BYE [UNAVAILABLE] {problem}".encode())

    def end(self) -> bool:
        """There is no command whose end is worth waiting for."""
        return False


class _Reader(asyncio.StreamReader):
    """What pymap reads: so much and so slowly as whoever has logged in may, or has not yet."""

    def __init__(self, reader: asyncio.StreamReader, literal_limit: int, patience: float) -> None:
        super().__init__()
        self._from = reader
        self._literal_limit = literal_limit
        self._patience = patience
        self._left: int | None = _MAX_BEFORE_LOGIN

    def trust(self) -> None:
        """The client has logged in."""
        self._left, self._patience = None, _IDLE

    async def readline(self) -> bytes:
        try:
            async with asyncio.timeout(self._patience):
                line = await self._from.readline()
        except (ValueError, TimeoutError):
            raise EOFError from None  # too long, or too long ago
        self._count(len(line))
        return line

    async def readexactly(self, n: int) -> bytes:
        if n > self._literal_limit:
            raise EOFError
        self._count(n)
        try:
            async with asyncio.timeout(self._patience):
                return await self._from.readexactly(n)
        except TimeoutError:
            raise EOFError from None

    def _count(self, octets: int) -> None:
        if self._left is not None:
            self._left -= octets
            if self._left < 0:
                raise EOFError


class _Settings(Config):
    def __init__(self, config: MtaConfig) -> None:
        super().__init__(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            base_dir=str(config.maildir),
            layout="++",
            colon=None,
            host=None,
            port=0,
            tls_enabled=False,
            # Else it looks for certificates in the environment.
            ssl_context=config.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
            reject_dnsbl=False,
            cpu_subsystem=Subsystem.for_asyncio(),
            max_append_len=config.message_size_limit,
        )
        self._hostname = config.hostname

    @property
    def greeting(self) -> bytes:
        return f"{self._hostname} filterd IMAP ready".encode()


class _Heard(Identity):
    """Hears the password that somebody gave."""

    def __init__(self) -> None:
        self.secret = ""

    @property
    def authcid(self) -> str:
        return ""

    def compare_authcid(self, authcid: str) -> bool:
        return True

    def compare_secret(self, secret: str) -> bool:
        self.secret = secret
        return True

    def get_clear_secret(self) -> str | None:
        return None


class _Login(LoginInterface):
    def __init__(
        self, config: MtaConfig, settings: Config, maildirs: Maildirs, gate: Gate, address: str, reader: _Reader
    ) -> None:
        self._config = config
        self._settings = settings
        self._maildirs = maildirs
        self._gate = gate
        self._address = address
        self._reader = reader

    @property
    def tokens(self) -> AllTokens:
        return AllTokens(self._settings)

    async def authenticate(self, credentials: ServerCredentials) -> IdentityInterface:
        heard = _Heard()
        credentials.verify(heard)
        if not await self._gate.lets_in(self._address, Credentials(credentials.authcid, heard.secret)):
            raise InvalidAuth
        self._reader.trust()
        folder = self._maildirs.made(self._config.mailbox(credentials.authcid))
        return _Owner(credentials.authcid, folder, self._settings)

    async def authorize(self, authenticated: IdentityInterface, authzid: str) -> IdentityInterface:
        if authzid != authenticated.name:
            raise AuthorizationFailure
        return authenticated


class _Stored(MaildirMessage):
    """A message as it is in its file. Python would parse it and write it anew, which no signature survives; and what
    pymap copies, whose content it has not read, would be empty."""

    file: Path

    def __bytes__(self) -> bytes:
        return read_mail(self.file)


class _Mailbox(Maildir):
    def get_message_metadata(self, key: str) -> MaildirMessage:
        message = _Stored(super().get_message_metadata(key))
        message.file = Path(self._join(self._lookup(key)))
        return message

    def get_message(self, key: str) -> MaildirMessage:
        return self.get_message_metadata(key)

    def _dump_message(self, message: Any, target: Any, mangle_from_: bool = False) -> None:
        # Python copies a message's attributes with it.
        if isinstance(message, MaildirMessage) and "file" in vars(message):
            target.write(vars(message)["file"].read_bytes())
        else:
            super()._dump_message(message, target, mangle_from_)


class _Folders(DefaultLayout[_Mailbox]):
    def _get_path(self, parts: Sequence[str]) -> str:
        path = super()._get_path(parts)
        # pymap takes the folder "." for "..", which has everybody's mail in it, and DELETE "" for the inbox.
        if "\0" in path or (parts and path.rpartition("/")[2] in (".", "..")):
            raise MailboxNotFound("/".join(parts))
        return path


class _Owner(IdentityInterface):
    def __init__(self, name: str, folder: Path, settings: Config) -> None:
        self._name = name
        self._folder = folder
        self._settings = settings

    @property
    def name(self) -> str:
        return self._name

    @property
    def roles(self) -> frozenset[str]:
        return frozenset()

    @asynccontextmanager
    async def new_session(self) -> AsyncIterator[Session]:
        layout = _Folders(str(self._folder), _Mailbox)
        maildir = _Mailbox(str(self._folder), create=False)
        yield Session(self._name, self._settings, MailboxSet(maildir, layout), FilterSet(layout.path))

    async def new_token(self, *, expiration: datetime | None = None) -> str | None:
        return None

    async def get(self) -> UserMetadata:
        return UserMetadata(self._settings, self._name)

    async def set(self, metadata: UserMetadata) -> int | None:
        raise NotAllowedError

    async def delete(self) -> None:
        raise NotAllowedError
