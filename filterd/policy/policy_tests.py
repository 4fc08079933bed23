"""The section `tests`: mails that the postmaster makes up, and how they must end.

What a test may say, and its defaults. How its mail is made and judged is `engine.policy_tests`'s to know.
"""

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from filterd.limits.rate import Unit
from filterd.mail.address import AddressError, parse_path
from filterd.policy.errors import PolicyError
from filterd.policy.field_types import HostName
from filterd.policy.quantities import Flag, Number, Seconds, Whole, read_counted
from filterd.policy.section import Section

#: A policy with more tests is refused; so are larger files of a test.
MAX_TESTS = 1000
MAX_FILE = 1024 * 1024

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_RECORD = re.compile(r"v=.*|fails|(?:A|AAAA|CNAME|MX|NS|PTR|TXT) +\S.*", re.DOTALL)
_LATEST = datetime(3000, 1, 1, tzinfo=UTC).timestamp()
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def _address(value: Any) -> Any:
    try:
        return ip_address(str(value))
    except ValueError:
        raise ValueError("here stands an IP address, such as 192.0.2.1 or 2001:db8::1") from None


def _path(value: Any) -> Any:
    text = str(value).strip().removeprefix("<").removesuffix(">")
    try:
        parse_path(text)
    except AddressError as error:
        raise ValueError(f"{error}; write anna@example.org, or <> for the sender of a bounce") from None
    return text


def _moment(value: Any) -> Any:
    if isinstance(value, float):
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("a time reads like 2026-11-23T12:00:00Z") from None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not 0 <= seconds < _LATEST:
        raise ValueError("a mail comes between 1970 and 2999")
    return seconds


def _line(value: Any) -> Any:
    text = str(value).removesuffix("\n")
    if "\n" in text or "\r" in text:
        raise ValueError("a field stands in one line here; write the whole mail as a text if it has to be folded")
    return text


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _record(value: Any) -> Any:
    if not _RECORD.fullmatch(str(value)):
        raise ValueError('a record reads "v=spf1 -all" (a TXT record), "A 192.0.2.1", "MX 10 mx.example.org." or fails')
    return _line(value)


def _field_name(value: Any) -> Any:
    if not _FIELD_NAME.fullmatch(str(value)):
        raise ValueError("here stands the name of a header field, such as List-Id")
    return value


def _symbol(value: Any) -> Any:
    if not re.fullmatch(r"[A-Za-z0-9_]{1,80}", str(value)):
        raise ValueError("here stands the name of a test, such as GTUBE")
    return value


def _several_used(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else (value,)


def _used(value: Any) -> Any:
    return value if isinstance(value, Used) else Used(*read_counted(str(value)))


def _spam(value: Any) -> Any:
    if isinstance(value, str) and value != "fails":
        raise ValueError("here stands fails, or what spamd says: { score: 12, symbols: [GTUBE] }")
    return {"fails": True} if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Used:
    """How much a limit has counted already; without `unit`, of the only thing that it counts."""

    count: int
    unit: Unit | None = None


class _OrText:
    """For editors: what has keys may also be a text."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string"}, handler(core)]}


ClientAddress = Annotated[
    IPv4Address | IPv6Address, BeforeValidator(_address), WithJsonSchema({"type": "string"}, mode="validation")
]
_USED: dict[str, Any] = {"type": ["integer", "string"], "examples": [200, "200 recipients", "40MB"]}
UsedUp = Annotated[
    tuple[Annotated[Used, BeforeValidator(_used)], ...],
    BeforeValidator(_several_used),
    WithJsonSchema({"anyOf": [_USED, {"type": "array", "items": _USED}]}, mode="validation"),
]
MailPath = Annotated[str, BeforeValidator(_path)]
Moment = Annotated[float, BeforeValidator(_moment), WithJsonSchema({"type": "string"}, mode="validation")]
OneLine = Annotated[str, BeforeValidator(_line)]
Symbol = Annotated[str, BeforeValidator(_symbol)]
FieldName = Annotated[str, BeforeValidator(_field_name)]
_TEXTS: dict[str, Any] = {"type": ["string", "array"], "items": {"type": "string"}}
# YAML's own reading, which editors go by, has numbers and truth values; here they are texts.
_VALUES = WithJsonSchema({**_TEXTS, "type": ["string", "boolean", "number", "array"]}, mode="validation")
_NAMES_OR_TEXT = WithJsonSchema(
    {"anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": _TEXTS}]}, mode="validation"
)
Values = Annotated[tuple[OneLine, ...], BeforeValidator(_several), _VALUES]
Records = Annotated[tuple[Annotated[str, BeforeValidator(_record)], ...], BeforeValidator(_several)]


class GivenClient(Section):
    """Who brings the mail."""

    ip: ClientAddress = Field(ip_address("203.0.113.1"), description="The client's address.")
    name: str | None = Field(None, description="Its name as the MTA verified it; none if you do not say.")
    helo: str = Field("client.example.com", description="The name that it gives itself.")


class MailParts(Section):
    """A mail by its parts."""

    from_: OneLine | None = Field(None, alias="from", description="The From field; else the envelope sender.")
    to: OneLine | None = Field(None, description="The To field; else the first recipient.")
    subject: OneLine | None = Field(None, description="The Subject field.")
    header: dict[FieldName, Values] = Field(
        {}, description="Further fields, above the others: a name, and its text or a list of texts."
    )
    body: str | None = Field(None, description="The text.")


class GivenMessage(MailParts):
    """The mail: its parts, or the whole of it as it is stored in a file or written here."""

    file: str | None = Field(None, description="A file with the mail; a relative path begins at the policy's folder.")
    text: str | None = Field(None, description="The mail as it stands, header and body.")

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if len(self.model_fields_set) > 1 and self.model_fields_set & {"file", "text"}:
            raise ValueError("the mail is a file, a text or parts: one of them")
        return self


class GivenDns(Section):
    """What DNS says: a master file (RFC 1035), and records by name."""

    file: str | None = Field(None, description="A master file; a relative path begins at the policy's folder.")
    text: str | None = Field(None, description="The text of one.")
    records: dict[HostName, Records] = Field({}, description="Records by name.")


Method = Literal["spf", "dkim", "dmarc"]
Seen = Literal["pass", "fail", "none", "softfail", "neutral", "policy", "temperror", "permerror"]


class GivenSpam(Section):
    """What spamd says of the content."""

    score: Number = Field(0.0, description="Its score.")
    threshold: Number = Field(5.0, description="From which score on it calls a mail spam.")
    symbols: tuple[Symbol, ...] = Field((), max_length=100, description="The names of the tests that the mail met.")
    fails: Flag = Field(False, description="Whether no spamd answers; short: `spam: fails`.")


class GivenGreylist(Section):
    """What greylisting has seen before."""

    tried: Seconds | None = Field(
        None, description="How long ago this mail was tried for the first time; without this it never was."
    )
    delivered: Whole = Field(0, le=1000, description="How many mails of this client were delivered.")


class GivenSealer(Section):
    """Somebody who passed the mail on, and sealed what it saw (ARC)."""

    domain: HostName = Field(description="The sealing domain.")
    saw: dict[Method, Seen] = Field(
        {"spf": "pass", "dkim": "pass", "dmarc": "pass"}, description="Its results; dmarc is of the mail's author then."
    )


def _text_or_file(value: Any) -> Any:
    """A text with white space in it is what it says, another one names a file."""
    if isinstance(value, str):
        return {"text": value} if re.search(r"\s", value) else {"file": value}
    return value


def _dns(value: Any) -> Any:
    if not isinstance(value, dict):
        return _text_or_file(value)
    names = Counter(str(name).lower().removesuffix(".") for name in value)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice:
        raise ValueError(f"{twice} stands here twice; write a list of records")
    return {"records": value}


def _sealer(value: Any) -> Any:
    return {"domain": value} if isinstance(value, str) else value


Verdict = Literal["accept", "quarantine", "hold", "defer", "reject", "discard"]


class Given(Section):
    """What comes. Whatever you leave out is an ordinary stranger's."""

    client: GivenClient = GivenClient()
    user: str | None = Field(None, description="The login name; a stranger has none.")
    sender: MailPath = Field("sender@example.com", description="The envelope sender; <> for a bounce.")
    recipients: tuple[MailPath, ...] = Field(
        ("recipient@example.org",), min_length=1, max_length=100, description="The envelope's recipients."
    )
    message: Annotated[GivenMessage, BeforeValidator(_text_or_file), _OrText()] = Field(
        GivenMessage(), description="The mail: its parts, a file's name, or the whole text."
    )
    signed_by: tuple[HostName, ...] = Field(
        (), max_length=5, description="Domains that sign the mail honestly (DKIM), with keys that DNS has."
    )
    changed: MailParts = Field(MailParts(), description="What a forwarder changes afterwards: fields, or the text.")
    sealed_by: tuple[Annotated[GivenSealer, BeforeValidator(_sealer), _OrText()], ...] = Field(
        (), max_length=5, description="Domains that seal it then (ARC), the oldest first."
    )
    dns: Annotated[GivenDns, BeforeValidator(_dns), _NAMES_OR_TEXT] = Field(
        GivenDns(),
        description="What DNS says, as NAME: RECORD, as a master file's name, or its text. Nothing else exists.",
    )
    spam: Annotated[GivenSpam | None, BeforeValidator(_spam), _OrText()] = Field(
        None, description="What spamd says of the content, or fails; without this it was not asked."
    )
    used: dict[str, UsedUp] = Field(
        {},
        description="How much limits, by their names, have counted before of whom this mail counts for: 200, "
        "200 recipients, or a list. Without this, nothing.",
    )
    greylist: GivenGreylist = Field(
        GivenGreylist(), description="What greylisting has seen of this sender; without this, nothing."
    )
    clock: Moment = Field(_NOON, description="When it comes, as 2026-11-23T12:00:00Z; else noon on 2026-01-01.")


class Expect(Section):
    """How it must end; what is left out may be anything."""

    verdict: Verdict | None = Field(None, description="What becomes of the mail; accept also where no rule decides.")
    rule: str | None = Field(None, description="The rule that decides; none if no rule does.")
    at: Literal["connect", "helo", "mail", "rcpt", "data", "end_of_headers", "end_of_message"] | None = Field(
        None, description="The stage at which that rule decides."
    )
    reply: str | None = Field(None, description="A part of the SMTP reply, such as 550 5.7.1.")
    tags: tuple[str, ...] | None = Field(None, description="The rules that tag the mail: all of them.")
    observed: tuple[str, ...] | None = Field(None, description="The rules in mode observe that would have fired: all.")
    results: dict[str, Values] = Field(
        {}, description="Facts and their values; spf stands for spf.result, and so do dkim, dmarc and arc."
    )
    recipients: dict[MailPath, Verdict] = Field({}, description="What becomes of single recipients: reject, say.")
    adds: dict[FieldName, OneLine] = Field(
        {}, description="Fields that the mail gets, new or rewritten, each with a part of its text."
    )
    removes: tuple[FieldName, ...] = Field((), description="Fields that it loses.")
    sent_by: MailPath | None = Field(None, description="The envelope sender with which it goes on.")
    sent_to: tuple[MailPath, ...] | None = Field(None, description="The recipients to whom it goes on: all of them.")
    signed: tuple[str, ...] | None = Field(None, description="Our signatures, as DOMAIN/SELECTOR: all of them.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("the test expects nothing; write the verdict at least")
        return self


class PolicyTestEntry(Section):
    """One test."""

    name: str = Field(min_length=1, max_length=120, description="What it is about, in a sentence.")
    given: Given = Given()
    expect: Expect


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """A test that can be run. `message` and `zone` are what its files have; None where it names none."""

    name: str
    given: Given
    expect: Expect
    place: PolicyError
    message: bytes | None = None
    zone: bytes | None = None

    def error(self, text: str) -> PolicyError:
        """An error at the test's place in the policy."""
        return replace(self.place, text=text)
