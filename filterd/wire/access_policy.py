"""The policy delegation protocol of Postfix (SMTPD_POLICY_README), both sides, without input or output.

A request is lines of name=value and an empty line; the answer is `action=` with a word of access(5), and an empty line.
Knows how they are written, what each attribute is, and nothing of what is decided by them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

#: Octets of one line, octets and lines of one request. Postfix sends some 35 attributes, few above 255 octets.
MAX_LINE = 8192
MAX_REQUEST = 65_536
MAX_ATTRIBUTES = 256

_KIND = "smtpd_access_policy"
_END = b"\n\n"
_NUMBER = re.compile(r"[0-9]{1,18}")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CODE = re.compile(r"[45][0-9]{2}")


class AccessPolicyError(Exception):
    """The peer broke the protocol, or something cannot be put into it. The connection is of no further use."""


class ProtocolState(StrEnum):
    """Where in SMTP the question is asked."""

    CONNECT = "CONNECT"
    XCLIENT = "XCLIENT"  #: CONNECT again, for another client: not in the README, but in Postfix
    EHLO = "EHLO"
    HELO = "HELO"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"  #: BDAT, too
    END_OF_MESSAGE = "END-OF-MESSAGE"
    VRFY = "VRFY"
    ETRN = "ETRN"


@dataclass(frozen=True, slots=True)
class Request:
    """One question: the attributes, named as on the wire, in the order of the versions of Postfix that brought them.

    What is not available is empty, or 0. Octets that are not UTF-8 are surrogate escapes. `size` is in octets: what
    MAIL announced, and at END-OF-MESSAGE what came. `recipient_count` is 0 before DATA; `recipient` is empty where
    there are several. The requests of one mail have one `instance`, which is empty up to MAIL. `ccert_*` are in xtext
    (RFC 3461 4).
    """

    # 2.1
    protocol_state: ProtocolState
    protocol_name: str = ""
    helo_name: str = ""
    queue_id: str = ""
    sender: str = ""
    recipient: str = ""
    recipient_count: int = 0
    client_address: str = ""
    client_name: str = ""
    reverse_client_name: str = ""
    instance: str = ""
    # 2.2
    sasl_method: str = ""
    sasl_username: str = ""
    sasl_sender: str = ""
    size: int = 0
    ccert_subject: str = ""
    ccert_issuer: str = ""
    ccert_fingerprint: str = ""
    # 2.3
    encryption_protocol: str = ""
    encryption_cipher: str = ""
    encryption_keysize: int = 0
    etrn_domain: str = ""
    # 2.5
    stress: str = ""
    # 2.9
    ccert_pubkey_fingerprint: str = ""
    # 3.0
    client_port: int = 0
    # 3.1
    policy_context: str = ""
    # 3.2
    server_address: str = ""
    server_port: int = 0
    # 3.8
    compatibility_level: str = ""
    mail_version: str = ""
    # 3.12
    tls_sni: str = ""


class Action(StrEnum):
    """The words of access(5) that need no table. A refusal with a code of its own is that code instead."""

    OK = "OK"
    DUNNO = "DUNNO"
    REJECT = "REJECT"
    DEFER = "DEFER"
    DEFER_IF_PERMIT = "DEFER_IF_PERMIT"
    DEFER_IF_REJECT = "DEFER_IF_REJECT"
    HOLD = "HOLD"
    DISCARD = "DISCARD"
    PREPEND = "PREPEND"
    WARN = "WARN"
    INFO = "INFO"


@dataclass(frozen=True, slots=True)
class Answer:
    """What is to be done: a word or an SMTP code from 400 to 599, and text, which a code must have."""

    action: Action | int
    text: str = ""


_STATES = {state.value: state for state in ProtocolState}
_NUMBERS = frozenset({"recipient_count", "size", "encryption_keysize", "client_port", "server_port"})
_NAMES = frozenset(each.name for each in fields(Request)) - {"protocol_state"}


class RequestReader:
    """Requests from octets, however they are cut."""

    def __init__(self) -> None:
        self._pending = bytearray()

    @property
    def empty(self) -> bool:
        """Whether no request has begun."""
        return not self._pending

    def feed(self, octets: bytes) -> Iterator[Request]:
        """The requests that are complete with these octets; to be used up before more is fed.

        Raises AccessPolicyError, after those that came whole before.
        """
        pending = self._pending
        # The end may have begun in what is known.
        looked, start = max(0, len(pending) - 1), 0
        pending += octets
        try:
            while (end := _end(pending, start, looked)) >= 0:
                if end - start > MAX_REQUEST:
                    raise AccessPolicyError(f"a request is longer than {MAX_REQUEST} octets")
                request = pending[start:end]
                start = looked = end + len(_END)
                yield _request(bytes(request))
        finally:
            del pending[:start]
        if len(pending) > MAX_REQUEST:
            raise AccessPolicyError(f"a request is longer than {MAX_REQUEST} octets")


def _end(pending: bytearray, start: int, looked: int) -> int:
    if pending.startswith(b"\n", start):
        raise AccessPolicyError("a request has no attribute")
    return pending.find(_END, looked)


def _request(octets: bytes) -> Request:
    if b"\0" in octets:
        raise AccessPolicyError("a request has NUL in it")
    lines = octets.split(b"\n", MAX_ATTRIBUTES)
    if len(lines) > MAX_ATTRIBUTES:
        raise AccessPolicyError(f"a request has more than {MAX_ATTRIBUTES} attributes")
    if len(octets) > MAX_LINE and max(map(len, lines)) > MAX_LINE:
        raise AccessPolicyError(f"a line is longer than {MAX_LINE} octets")
    values: dict[str, str] = {}
    for line in octets.decode("utf-8", "surrogateescape").split("\n"):
        name, equals, value = line.partition("=")
        if not (name and equals):
            raise AccessPolicyError("a line is no name=value")
        # Of several by one name, the README leaves the choice to us: the last.
        values[name] = value
    if values.get("request") != _KIND:
        raise AccessPolicyError(f"a request is not request={_KIND}")
    state = _STATES.get(values.get("protocol_state", ""))
    if state is None:
        raise AccessPolicyError("a request has no protocol_state that is known")
    known: dict[str, Any] = {name: value for name, value in values.items() if name in _NAMES}
    for name in _NUMBERS & known.keys():
        known[name] = _number(known[name])
    return Request(state, **known)


def _number(text: str) -> int:
    # "unknown" is the port of a client that XCLIENT did not give one.
    return int(text) if _NUMBER.fullmatch(text) else 0


def encode_request(request: Request) -> bytes:
    """Write a request. Raises AccessPolicyError for a value that cannot be written."""
    lines = [f"request={_KIND}", *(f"{each.name}={getattr(request, each.name)}" for each in fields(request))]
    if any("\n" in line or "\0" in line for line in lines):
        raise AccessPolicyError("an attribute's value cannot have a line end or NUL in it")
    return ("\n".join(lines) + "\n\n").encode("utf-8", "surrogateescape")


def encode_answer(answer: Answer) -> bytes:
    """Write an answer: whatever remote text it has, it is one line of UTF-8."""
    action = answer.action if isinstance(answer.action, int) else answer.action.value
    text = _UNSAFE.sub("?", answer.text).strip()
    return f"action={action} {text}".rstrip().encode() + _END


def read_answer(octets: bytes) -> Answer:
    """Read what a policy service said, with the empty line.

    Raises AccessPolicyError for all but one answer with one of `Action`, or a code and a text.
    """
    text = octets.decode("utf-8", "replace")
    if not text.endswith("\n\n") or not text.startswith("action=") or "\0" in text:
        raise AccessPolicyError("an answer reads action=, a line end, and an empty line")
    line = text.removeprefix("action=").removesuffix("\n\n")
    if "\n" in line:
        raise AccessPolicyError("an answer has one line")
    word, _, rest = line.replace("\t", " ").partition(" ")
    rest = rest.strip()
    if _CODE.fullmatch(word) and rest:
        return Answer(int(word), rest)
    try:
        return Answer(Action(word.upper()), rest)
    except ValueError:
        raise AccessPolicyError("an answer has no action that is known") from None
