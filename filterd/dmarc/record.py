"""DMARC policy records: what a domain asks of those who receive mail in its name (RFC 9989 4.7, 4.8; RFC 7489 6.3).

Reads one TXT record. Where records are looked for, and whom they govern, is not asked here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

_MAX_RECORD = 8_192  # octets
_MAX_URIS = 100

# RFC 9989 4.8: what does not begin so is no DMARC record. Only the version itself is case-sensitive.
_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"(?P<uri>[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@$&'()*+=%-]+)(?:![0-9]+[kmgtKMGT]?)?")
_PERCENT = re.compile(r"100|[0-9]{1,2}|0[0-9]{2}")
_FAILURE_OPTIONS = re.compile(r"[01ds](?::[01ds])*")


class Request(StrEnum):
    """What is to become of mail that fails (RFC 9989 4.7, p=)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def one_level_lower(self) -> "Request":
        """What a domain expects that only tests its policy, with t=y."""
        return Request.QUARANTINE if self is Request.REJECT else Request.NONE


class Alignment(StrEnum):
    """How near an authenticated domain must be to the author's (RFC 9989 4.4)."""

    RELAXED = "r"  #: of the same organization
    STRICT = "s"  #: the same


class PublicSuffix(StrEnum):
    """Whether others register names below this one (RFC 9989 4.7, psd=)."""

    YES = "y"
    NO = "n"  #: and this is the organizational domain
    UNKNOWN = "u"  #: the tree walk finds out


@dataclass(frozen=True, slots=True)
class Record:
    """A policy record.

    `p` is None where the record asks for something that cannot be read and wants no reports: then nobody applies DMARC
    (RFC 9989 4.10.1). `sp` and `np` are None where the record has none. `testing` says that the policy is only tried
    out, by t=y or, as RFC 7489 had it, by `pct`, the percentage of mail that it is meant for. `fo`, `rua` and `ruf` say
    which reports go where; the URIs are without the obsolete size.
    """

    p: Request | None = Request.NONE
    sp: Request | None = None
    np: Request | None = None
    psd: PublicSuffix = PublicSuffix.UNKNOWN
    testing: bool = False
    pct: int = 100
    adkim: Alignment = Alignment.RELAXED
    aspf: Alignment = Alignment.RELAXED
    fo: frozenset[str] = frozenset("0")
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()


def parse(text: bytes, *, rfc7489: bool = False) -> Record | None:
    """Read a TXT record, its strings joined; None for what is no DMARC record, or longer than 8,192 octets.

    Unknown tags are passed over, a malformed one counts as not there (RFC 9989 4.8); so does one that is there twice,
    as nobody can tell which is meant. Only p, sp and np are different: see `Record`. By `rfc7489` the record is read as
    that RFC has it: it must have p=, it may have pct=, and np=, psd= and t= are unknown.
    """
    if len(text) > _MAX_RECORD or not _VERSION.match(text):
        return None
    return _record(text, rfc7489)


@lru_cache(maxsize=512)
def _record(text: bytes, rfc7489: bool) -> Record:
    # Cached, as a walk meets its organization's record again and again.
    tags = _tags(text)
    if rfc7489:
        tags = {"p": ""} | {name: value for name, value in tags.items() if name not in ("np", "psd", "t")}
    else:
        tags.pop("pct", None)
    rua = _uris(tags.get("rua", ""))
    # RFC 9989 4.7: without p= the record is read as if it had p=none, so only a wrong word is no request.
    asked = {name: _request(tags.get(name, "none")) for name in ("p", "sp", "np") if name == "p" or name in tags}
    if None in asked.values():
        # RFC 9989 4.10.1
        asked = {"p": Request.NONE if rua else None}
    fo = tags.get("fo", "").lower()
    pct = tags.get("pct", "")
    percentage = int(pct) if _PERCENT.fullmatch(pct) else 100
    return Record(
        **asked,
        psd=PublicSuffix(_word(tags.get("psd"), "y", "n", "u") or "u"),
        # RFC 7489 6.6.4: pct= is the most that the policy may hit, what it spares gets the next lower one. Here that is
        # all of it: nobody draws lots, and the same mail is judged alike every time. RFC 9989 A.6 ended up there too.
        testing=_word(tags.get("t"), "y") is not None or percentage < 100,
        pct=percentage,
        adkim=Alignment(_word(tags.get("adkim"), "s") or "r"),
        aspf=Alignment(_word(tags.get("aspf"), "s") or "r"),
        fo=frozenset(fo.split(":")) if _FAILURE_OPTIONS.fullmatch(fo) else frozenset("0"),
        rua=rua,
        ruf=_uris(tags.get("ruf", "")),
    )


def _tags(text: bytes) -> dict[str, str]:
    _, *rest = text.decode("ascii", "replace").split(";")
    tags: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        name = name.strip(" \t").lower()
        tags[name] = "" if name in tags else value.strip(" \t")
    return tags


def _word(value: str | None, *words: str) -> str | None:
    return value.lower() if value is not None and value.lower() in words else None


def _request(value: str) -> Request | None:
    word = _word(value, *Request)
    return Request(word) if word else None


def _uris(value: str) -> tuple[str, ...]:
    parts = value.split(",", _MAX_URIS)[:_MAX_URIS]
    return tuple(found["uri"] for part in parts if (found := _URI.fullmatch(part.strip(" \t"))))
