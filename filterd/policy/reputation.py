"""What a policy says of DNS lists and of spamd, and what their results add to the score."""

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator

from filterd.dnsbl import Codes, DnsList, ListCode, ListResult, Subject
from filterd.mail.domain import Domain
from filterd.mail.endpoint import Endpoint, EndpointError
from filterd.policy.field_types import HostName
from filterd.policy.quantities import Flag, Number, Seconds, Size
from filterd.policy.results import Results
from filterd.policy.section import Section
from filterd.policy.verdict import Summand
from filterd.spam import SpamCode

OnError = Literal["skip", "defer", "accept", "reject"]


def _codes(value: Any) -> Any:
    return value if isinstance(value, Codes) else Codes.parse(str(value))


def _endpoint(value: Any) -> Any:
    if isinstance(value, Endpoint):
        return value
    try:
        return Endpoint.parse(str(value))
    except EndpointError as error:
        raise ValueError(str(error)) from None


def _several(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


_CODE = {"type": "string", "examples": ["127.0.0.2", "127.0.0.4-7"]}
_SERVER = {"type": "string", "examples": ["inet:783@127.0.0.1", "unix:/run/spamd.sock"]}
ReturnCodes = Annotated[Codes, BeforeValidator(_codes), WithJsonSchema(_CODE, "validation")]
Servers = Annotated[
    tuple[Annotated[Endpoint, BeforeValidator(_endpoint)], ...],
    BeforeValidator(_several),
    WithJsonSchema({"anyOf": [_SERVER, {"type": "array", "items": _SERVER}]}, "validation"),
]


class DnsblEntry(Section):
    """A DNS list (RFC 5782) that is asked about strangers' mail."""

    zone: HostName = Field(description="Where it is asked: zen.spamhaus.org, say; read the operator's terms.")
    of: Literal["client", "helo", "sender", "author"] = Field(
        "client",
        description="Of whom: the client's address, the name that it gave itself, the envelope sender's domain or the "
        "author domain.",
    )
    codes: tuple[ReturnCodes, ...] = Field(
        (), max_length=50, description="The answers that count, such as 127.0.0.2 or 127.0.0.4-7; by default all."
    )
    score: Number = Field(0.0, description="What a listing adds to the score; negative for lists of the good.")
    on_error: OnError = Field(
        "skip",
        description="What becomes of a mail that no rule decided while the list does not answer, or refuses to.",
    )

    @cached_property
    def listing(self) -> DnsList:
        """The list to ask."""
        return DnsList(Domain.parse(self.zone), Subject(self.of), self.codes)


class SpamdSection(Section):
    """SpamAssassin's spamd, which is shown the content of mail."""

    address: Servers = Field(
        min_length=1,
        max_length=20,
        description="Where it listens, unix:/PATH or inet:783@ADDRESS; of several, the next is asked if one fails.",
    )
    timeout: Seconds = Field(20.0, gt=0, le=120, description="How long one mail may take, whichever server is asked.")
    max_size: Size = Field(512 * 1024, ge=1024, le=64 * 2**20, description="Larger mail is not scanned.")
    user: Literal["none", "recipient"] = Field(
        "none",
        description="Whose preferences hold: recipient means the only recipient's, as written in the envelope; mail to "
        "several has nobody's.",
    )
    ours: Flag = Field(False, description="Whether mail from us is scanned, too.")
    tls: Flag = Field(False, description="Whether inet: servers are spoken to by TLS.")
    on_error: OnError = Field(
        "skip", description="What becomes of a mail that no rule decided while no spamd can say what it thinks."
    )

    @field_validator("address")
    @classmethod
    def _has_a_port(cls, address: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        if any(each.path is None and each.port == 0 for each in address):
            raise ValueError("a server has a port: inet:783@127.0.0.1")
        return address


def of_author(entries: tuple[DnsblEntry, ...], author: bool) -> tuple[DnsList, ...]:
    """The lists that are asked about the author, or all others; each question once."""
    return tuple(dict.fromkeys(each.listing for each in entries if (each.of == "author") == author))


def list_results(results: Results) -> dict[DnsList, ListResult]:
    """What each list said."""
    return {each.listing: each for each in (*(results.dnsbl or ()), *(results.dnsbl_author or ()))}


def found_summands(entries: tuple[DnsblEntry, ...], results: Results) -> tuple[Summand, ...]:
    """What lists and scanner add to the score."""
    if not entries and results.spam is None:
        return ()
    said = list_results(results)
    summands = [
        Summand(f"dnsbl {each.zone}", each.score)
        for each in entries
        if each.score and (found := said.get(each.listing)) is not None and found.code is ListCode.LISTED
    ]
    spam = results.spam
    if spam is not None and spam.code in (SpamCode.SPAM, SpamCode.HAM):
        summands.append(Summand("spamd", round(spam.score, 3)))
    return tuple(summands)
