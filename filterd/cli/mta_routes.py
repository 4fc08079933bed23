"""The section `relay` of the bundled MTA's file: how mail leaves."""

import ssl
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from filterd.mail.domain import Domain
from filterd.mail.endpoint import Endpoint
from filterd.mta.routes import Relay, Route, Tls, Via
from filterd.policy.errors import PolicyError
from filterd.policy.field_types import NameServer
from filterd.policy.nodes import Document
from filterd.policy.quantities import Seconds, Whole
from filterd.policy.section import Section

_MAX_PASSWORD = 1024


def _pattern(value: Any) -> Any:
    if not isinstance(value, str) or value == "*":
        return value
    dot = value[:1] if value.startswith(".") else ""
    return dot + Domain.parse(value[len(dot) :]).name


def _endpoint(value: Any) -> Any:
    return Endpoint.parse(value) if isinstance(value, str) else value


def _port(value: int) -> int:
    if not 0 < value < 65536:
        raise ValueError("ports go from 1 to 65535")
    return value


class LoginEntry(Section):
    user: str
    password_file: str


class RouteEntry(Section):
    domains: Annotated[tuple[Annotated[str, BeforeValidator(_pattern)], ...], Field(min_length=1)]
    via: Via = Via.MX
    at: Annotated[Endpoint | None, BeforeValidator(_endpoint)] = None
    tls: Tls | None = None
    login: LoginEntry | None = None


class DnsEntry(Section):
    servers: tuple[NameServer, ...] = ()
    timeout: Seconds = 5.0


class RelayEntry(Section):
    routes: tuple[RouteEntry, ...] = ()
    mx_port: Annotated[Whole, AfterValidator(_port)] = 25
    ca_file: str | None = None
    mta_sts: str | None = None
    dns: DnsEntry = DnsEntry()


def read_relay(document: Document, folder: Path, given: RelayEntry, faults: list[PolicyError]) -> Relay:
    """The settings; what is wrong is added to `faults`."""
    routes = []
    for number, entry in enumerate(given.routes):
        try:
            routes.append(_route(folder, entry))
        except ValueError as error:
            faults.append(document.error(("relay", "routes", number), str(error)))
    ca_file = None if given.ca_file is None else folder / given.ca_file
    if ca_file is not None:
        try:
            ssl.create_default_context().load_verify_locations(ca_file)
        except OSError as error:
            faults.append(document.error(("relay", "ca_file"), f"{ca_file}: {error.strerror or error}"))
    return Relay(
        routes=tuple(routes),
        mx_port=given.mx_port,
        ca_file=ca_file,
        sts_folder=None if given.mta_sts is None else folder / given.mta_sts,
        dns_servers=given.dns.servers,
        dns_timeout=given.dns.timeout,
    )


def _route(folder: Path, given: RouteEntry) -> Route:
    if (given.at is None) != (given.via in (Via.MX, Via.MAILDIR)):
        raise ValueError(f"via: {given.via} goes {'with' if given.at is None else 'without'} at:")
    if given.at is not None and given.at.path is not None and given.via is not Via.LMTP:
        raise ValueError(f"via: {given.via} goes to a host: write at: inet:PORT@HOST")
    if given.login is None:
        return Route(given.domains, given.via, given.at, given.tls or Tls.MAY)
    if given.via not in (Via.SMTP, Via.SMTPS):
        raise ValueError("a login goes with via: smtp or smtps")
    file = folder / given.login.password_file
    try:
        password = file.read_text(encoding="utf-8")[:_MAX_PASSWORD].rstrip("\n")
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    # Whoever is handed a password has to be who he says, unless somebody wrote otherwise.
    return Route(given.domains, given.via, given.at, given.tls or Tls.VERIFY, (given.login.user, password))
