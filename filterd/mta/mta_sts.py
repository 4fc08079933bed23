"""MTA-STS (RFC 8461): what a domain says of the TLS of its servers, as a folder has it.

Fetches nothing: who fetches policies puts the text of each into a file that is named as its domain. How old it may be,
the policy says, from the time of the file on.
"""

import logging
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_log = logging.getLogger("filterd.mta")
_MAX_POLICY = 1 << 16
_MAX_AGE = 31557600  # seconds; RFC 8461 3.2
_LINE = re.compile(r"[ \t]*([A-Za-z0-9][A-Za-z0-9_.-]{0,31})[ \t]*:[ \t]*(.*?)[ \t]*\r?")


class Mode(StrEnum):
    """What becomes of mail where a server does not do as the policy says."""

    ENFORCE = "enforce"  #: it is not handed over
    TESTING = "testing"  #: it is handed over all the same
    NONE = "none"  #: there is no policy any more


class StsError(ValueError):
    """This is no policy."""


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy. `mx` are names, or `*.` and a name for whatever single label is there; `max_age` is seconds."""

    mode: Mode
    mx: tuple[str, ...]
    max_age: int

    def allows(self, name: str) -> bool:
        """Whether a server of this name may take the domain's mail (RFC 8461 4.1)."""
        parent = name.partition(".")[2]
        return any(each == name or (each[:2] == "*." and each[2:] == parent) for each in self.mx)


def parse_policy(text: bytes) -> StsPolicy:
    """Read a policy. Raises StsError."""
    found: dict[str, str] = {}
    mx = []
    for line in text.decode("ascii", "replace").split("\n"):
        field = _LINE.fullmatch(line)
        if field is None:
            continue
        if field[1] == "mx":
            mx.append(field[2].lower().removesuffix("."))
        else:
            # RFC 8461 3.2: of two the first counts.
            found.setdefault(field[1], field[2])
    age = found.get("max_age", "")
    if found.get("version") != "STSv1" or not re.fullmatch(r"[0-9]{1,10}", age):
        raise StsError("version or max_age is missing")
    try:
        mode = Mode(found.get("mode", ""))
    except ValueError:
        raise StsError("there is no such mode") from None
    if not mx and mode is not Mode.NONE:
        raise StsError("no mx is named")
    return StsPolicy(mode, tuple(mx), min(int(age), _MAX_AGE))


def cached_policy(folder: Path, domain: str, now: float) -> StsPolicy | None:
    """The policy of a domain that is in force at `now`, seconds since 1970; None where there is none."""
    file = folder / domain
    try:
        with file.open("rb") as opened:
            policy = parse_policy(opened.read(_MAX_POLICY))
        age = now - file.stat().st_mtime
    except FileNotFoundError:
        return None
    except (OSError, StsError) as error:
        _log.warning("MTA-STS: %s: %s", file, error)
        return None
    return policy if policy.mode is not Mode.NONE and age <= policy.max_age else None
