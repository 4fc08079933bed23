"""How a delivered mail is read: by the grammar, and by programs that know it from examples only."""

import email
import email.policy
import re
import time
from collections.abc import Iterator
from email.utils import getaddresses

from dkim_mail import verify
from spoofing.cast import HOST, zone

from filterd.authres.parse import parse
from filterd.authres.result import MethodResult
from filterd.backend.zone import zone_resolver
from filterd.dkim.verify import DkimCode
from filterd.mail.domain import Domain, DomainError
from filterd.mail.header import Field
from filterd.mail.message import author_of, split

_PASS = re.compile(r"dmarc\s*=\s*pass", re.IGNORECASE)


def end(message: bytes) -> str:
    """What our field says of DMARC, in the words of `Attack.ends`; of our own mail, as whom our signature passes."""
    if not _results(message):
        return _signed(message)
    results = parse(_results(message)[0].value).results
    (found,) = [each for each in results if each.method == "dmarc"]
    if found.code == "pass":
        return f"pass as {_author(found)}"
    if found.code == "fail":
        # It fails as nothing that passed is the author's. What is of interest is why a signature did not pass.
        return " ".join(["fail", *[each.reason for each in results if each.method == "dkim" and each.reason][:1]])
    return f"{found.code} {found.reason}"


def misled(message: bytes) -> Iterator[str]:
    """How this mail would mislead programs, though our field is right."""
    if not _results(message):
        return
    first = _results(message)[0]
    if parse(first.value).authserv_id != HOST:
        yield "the first field is not ours"
    said = end(message)
    if said.startswith("pass as "):
        yield from _other_authors(message, said.removeprefix("pass as "))
        return
    for reader, values in {
        "the first field": [_unfolded(first.value)],
        "all fields that begin as ours": [
            value for each in _results(message) if _begins_as_ours(value := _unfolded(each.value))
        ],
        "Python's email, old": _by_python(message, email.policy.compat32),
        "Python's email, new": _by_python(message, email.policy.default),
    }.items():
        if any(map(_PASS.search, values)):
            yield f"{reader}: dmarc=pass"


def _other_authors(message: bytes, author: str) -> Iterator[str]:
    """Whom other readings of From name as the author."""
    if author_of(split(message)[0]).domain != Domain.parse(author):
        yield "another author was delivered"
    texts = [field.unfolded().decode("utf-8", "replace") for field in split(message)[0].all("From")]
    for _, address in getaddresses(texts):
        try:
            found = Domain.parse(address.rpartition("@")[2])
        except DomainError:
            continue
        if found.name != author:
            yield f"Python's email: {found}"


def _signed(message: bytes) -> str:
    results = verify(message.replace(b"\n", b"\r\n"), zone_resolver(zone()), int(time.time()))
    domains = [str(each.sdid) for each in results if each.code is DkimCode.PASS]
    return f"pass as {' and '.join(domains)}" if domains else "unsigned"


def _author(result: MethodResult) -> str | None:
    return next((each.value for each in result.properties if (each.ptype, each.name) == ("header", "from")), None)


def _results(message: bytes) -> tuple[Field, ...]:
    return split(message)[0].all("Authentication-Results")


def _unfolded(value: bytes) -> str:
    return re.sub(r"\r?\n", "", value.decode("latin-1"))


def _by_python(message: bytes, policy: email.policy.Policy) -> list[str]:
    parsed = email.message_from_bytes(message, policy=policy)  # type: ignore[arg-type]
    values = [str(value) for value in parsed.get_all("Authentication-Results", [])]
    return [value for value in values if _begins_as_ours(value)]


def _begins_as_ours(value: str) -> bool:
    return re.match(rf'[\s"]*{re.escape(HOST)}\b', value, re.IGNORECASE) is not None
