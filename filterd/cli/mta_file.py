"""The bundled MTA's file: its form, and how it becomes the MTA's settings.

It is read as policies are: what is wrong is told all at once, each fault at its place. Files that it names are looked
for in its own folder.
"""

import ssl
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ValidationError

from filterd.backend.policy_files import read_document
from filterd.cli.mta_routes import RelayEntry, read_relay
from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, Listener, Milter, MtaConfig, PolicyService, Service, Users
from filterd.mta.users import HashedUsers, UserFileError, read_users
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.field_types import HostName, Network
from filterd.policy.nodes import Document
from filterd.policy.quantities import Flag, Seconds, Size, Whole
from filterd.policy.schema_errors import schema_errors
from filterd.policy.section import Section
from filterd.wire.access_policy import AccessPolicyError, Answer, read_answer

DEFAULT_LISTENERS = (Listener("127.0.0.1", 2525),)


def read_listener(text: str) -> tuple[str, int]:
    """`127.0.0.1:2525` or `[::1]:2525`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) != (bare != host) or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not HOST:PORT, as in 127.0.0.1:2525 or [::1]:2525")
    if int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT: ports go up to 65535")
    return bare, int(port)


def _listener(value: Any) -> Any:
    return read_listener(value) if isinstance(value, str) else value


def _socket(value: Any) -> Any:
    return str(Endpoint.parse(value)) if isinstance(value, str) else value


def _answer(value: Any) -> Any:
    if isinstance(value, Answer):
        return value
    try:
        return read_answer(f"action={value}\n\n".encode())
    except AccessPolicyError:
        raise ValueError(
            "an answer reads as in an access table: DUNNO, or a code and a text (451 4.3.5 Later)"
        ) from None


def _version(value: Any) -> Any:
    if str(value) not in ("2", "3", "4", "6"):
        raise ValueError("the versions of the milter protocol are 2, 3, 4 and 6")
    return int(value)


def _at_least_one(value: int) -> int:
    if value < 1:
        raise ValueError("here stands 1 at least")
    return value


def _short(key: str) -> BeforeValidator:
    """A section with one key that must be there may be written as that key's value alone."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


_Socket = Annotated[str, BeforeValidator(_socket)]
_Count = Annotated[Whole, AfterValidator(_at_least_one)]


class ListenEntry(Section):
    at: Annotated[tuple[str, int], BeforeValidator(_listener)]
    service: Service = Service.SMTP


class TlsEntry(Section):
    certificate: str
    key: str


class MilterEntry(Section):
    socket: _Socket
    default_action: DefaultAction | None = None
    version: Annotated[int, BeforeValidator(_version)] = 6
    connect_timeout: Seconds | None = None
    command_timeout: Seconds | None = None
    content_timeout: Seconds | None = None


class PolicyServiceEntry(Section):
    socket: _Socket
    timeout: Seconds | None = None
    default_action: Annotated[Answer, BeforeValidator(_answer)] = PolicyService("").default_action


class LimitsEntry(Section):
    message_size: Size = 50 << 20
    recipients: _Count = 1000
    errors: _Count = 20
    connections: _Count = 100
    connections_per_client: _Count = 50
    auth_failures: _Count = 10
    timeout: Seconds = 300.0


class RetryEntry(Section):
    first: Seconds = 300.0
    most: Seconds = 4000.0
    expire: Seconds = 5 * 86400.0


class MtaFile(Section):
    """The whole file."""

    hostname: HostName | None = None
    listen: tuple[Annotated[ListenEntry, _short("at")], ...] = ()
    maildir: str = "mail"
    queue: str | None = None
    tls: TlsEntry | None = None
    users: str | None = None
    auth_without_tls: Flag = False
    domains: tuple[HostName, ...] = ()
    networks: tuple[Network, ...] = ()
    milters: tuple[Annotated[MilterEntry, _short("socket")], ...] = ()
    milter_default_action: DefaultAction = DefaultAction.TEMPFAIL
    policy_services: tuple[Annotated[PolicyServiceEntry, _short("socket")], ...] = ()
    limits: LimitsEntry = LimitsEntry()
    retry: RetryEntry = RetryEntry()
    relay: RelayEntry = RelayEntry()
    xclient: Flag = False


def load_queue_folder(path: Path) -> Path:
    """Where the queue of a file of settings is, whether its keys and users can be read or not. Raises PolicyErrors."""
    _, given = _read(path)
    return MtaConfig("", path.parent / given.maildir, queue=_beside(path, given.queue)).queue_folder


def load_mta(path: Path, hostname: str) -> MtaConfig:
    """Read a file of settings; `hostname` is our name where it gives none. Raises PolicyErrors with every fault."""
    document, given = _read(path)
    faults = [*document.errors, *_contradictions(document, given)]
    tls = _tls(document, path.parent, given.tls, faults)
    users = _users(document, path.parent, given.users, faults)
    relay = read_relay(document, path.parent, given.relay, faults)
    if faults:
        raise PolicyErrors(faults)
    limits = given.limits
    return MtaConfig(
        hostname=given.hostname or hostname,
        maildir=path.parent / given.maildir,
        queue=_beside(path, given.queue),
        milters=tuple(Milter(**dict(each)) for each in given.milters),
        users=users,
        listeners=tuple(Listener(*each.at, each.service) for each in given.listen) or DEFAULT_LISTENERS,
        tls=tls,
        auth_without_tls=given.auth_without_tls,
        domains=frozenset(given.domains),
        networks=given.networks,
        default_action=given.milter_default_action,
        xclient=given.xclient,
        message_size_limit=limits.message_size,
        recipient_limit=limits.recipients,
        error_limit=limits.errors,
        connection_limit=limits.connections,
        client_connection_limit=limits.connections_per_client,
        auth_failure_limit=limits.auth_failures,
        smtp_timeout=limits.timeout,
        policy_services=tuple(PolicyService(**dict(each)) for each in given.policy_services),
        retry_first=given.retry.first,
        retry_most=given.retry.most,
        expire=given.retry.expire,
        relay=relay,
    )


def _read(path: Path) -> tuple[Document, MtaFile]:
    document = read_document(path)
    try:
        return document, MtaFile.model_validate(document.data or {})
    except ValidationError as error:
        raise PolicyErrors([*document.errors, *schema_errors(document, error, MtaFile)]) from None


def _beside(path: Path, name: str | None) -> Path | None:
    return None if name is None else path.parent / name


def load_users(path: Path) -> HashedUsers:
    """Who may log in. Raises PolicyErrors."""
    try:
        return HashedUsers(read_users(path.read_text(encoding="utf-8")))
    except UserFileError as error:
        fault = PolicyError(str(path), error.line, 1, "", str(error))
    except OSError as error:
        fault = PolicyError(str(path), 0, 0, "", f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        fault = PolicyError(str(path), 0, 0, "", "is not UTF-8 text")
    raise PolicyErrors([fault])


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server with this certificate (and chain) and key, PEM files. Raises ValueError."""
    for file in (certificate, key):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # A key that wants a password would ask for it at the terminal.
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{certificate} and {key} are no certificate and its key, in PEM: {error}") from None
    return context


def _contradictions(document: Document, given: MtaFile) -> Iterator[PolicyError]:
    for number, each in enumerate(given.listen):
        missing = each.service.lacks(given.tls is not None, given.auth_without_tls)
        if missing is not None:
            yield document.error(("listen", number), missing)
        if each.service in (Service.IMAP, Service.IMAPS) and find_spec("pymap") is None:
            yield document.error(("listen", number), f"{each.service} needs pymap: pip install 'filterd[imap]'")
        if each.service is not Service.SMTP and given.users is None:
            yield document.error(("listen", number), f"{each.service} is for those who log in; write users: FILE")
    if given.networks and not given.domains:
        yield document.error(("networks",), "these may send to others; say which domains are not others (domains:)")


def _tls(document: Document, folder: Path, given: TlsEntry | None, faults: list[PolicyError]) -> ssl.SSLContext | None:
    if given is None:
        return None
    try:
        return tls_context(folder / given.certificate, folder / given.key)
    except ValueError as error:
        faults.append(document.error(("tls",), str(error)))
        return None


def _users(document: Document, folder: Path, name: str | None, faults: list[PolicyError]) -> Users:
    if name is None:
        return {}
    try:
        return load_users(folder / name)
    except PolicyErrors as errors:
        # What cannot be read at all is the fault of the line that names it.
        faults += [
            each if each.line else document.error(("users",), f"{each.file} {each.text}") for each in errors.errors
        ]
        return {}
