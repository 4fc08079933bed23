"""The log: one event, one line, one write to standard error.

Workers share the descriptor, so a line is written whole. Remote text cannot end a line, move a terminal's cursor or
reverse its writing. Nothing hands secrets to the log; the password in a URL, which an error text may quote, is taken
out all the same.
"""

import json
import mmap
import os
import re
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from filterd.daemon.told import Told
from filterd.dnsbl import ListCode
from filterd.mail.reason import Reason
from filterd.policy.transcript import Transcript

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")
_BARE = re.compile(r"[^\s\"=\\]+")
# One hostile value must not push all others out of a line that a collector cuts.
_MAX_TEXT = 4000


# systemd's word for each level (sd-daemon(3)), and where it stands among the others.
_PRIORITIES = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>"}
_RANKS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# How long, in seconds, a signal makes the log tell everything.
_DEBUGGING = 60.0
# What is warned of once an hour, and what is away; whichever worker notices first tells.
_hours, _away = Told(), Told()

# What every line of this process says besides.
_context: dict[str, object] = {}
# What ranks below is not told; until when, on time.monotonic(), all is told, which the workers read as well.
_least = _RANKS["info"]
_until = memoryview(mmap.mmap(-1, 8)).cast("d")


class LogFormat(StrEnum):
    """How a line is written."""

    LOGFMT = "logfmt"
    JSON = "json"


_form = LogFormat.LOGFMT
# Whether systemd's word for the level stands before a line.
_for_journal = False


class LogLevel(StrEnum):
    """What is told: these, and all that matters more."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(form: LogFormat, level: LogLevel = LogLevel.INFO) -> None:
    """Set up the log: once, before the first fork."""
    global _least, _form, _for_journal
    _least = _RANKS[level]
    _until[0] = 0.0
    _form = form
    _for_journal = _is_journal()


def always(**facts: object) -> None:
    """From now on, say these in every line of this process: at its end, where the line itself does not say them."""
    _context.update(facts)


def toggle_debugging() -> None:
    """Tell everything for a minute, or no longer; in all processes."""
    _until[0] = 0.0 if _debugging() else time.monotonic() + _DEBUGGING
    _tell("warning", "the log tells everything for a minute" if _debugging() else "the log tells no more than before")


def _debugging() -> bool:
    return time.monotonic() < _until[0] or _least <= _RANKS["debug"]


def _told_at(level: str) -> bool:
    return _RANKS[level] >= _least or _debugging()


def debug(event: str, **facts: object) -> None:
    """What only who looks for a fault wants to know."""
    if _debugging():
        _tell("debug", event, facts)


def info(event: str, **facts: object) -> None:
    """Something happened that the operator expects."""
    if _told_at("info"):
        _tell("info", event, facts)


def warning(event: str, **facts: object) -> None:
    """Something that the operator should look at, and that filterd gets along with."""
    if _told_at("warning"):
        _tell("warning", event, facts)


def error(event: str, **facts: object) -> None:
    """Something that needs the operator."""
    _tell("error", event, facts)


def fault(where: str, exception: BaseException, **facts: object) -> None:
    """A fault of filterd's own, with its traceback (no values of variables, which may be anybody's)."""
    trace = "".join(traceback.format_exception(exception))
    error("fault", where=where, error=f"{type(exception).__name__}: {exception}", traceback=trace[-_MAX_TEXT:], **facts)


def decision(line: Mapping[str, object]) -> None:
    """One mail in one line."""
    if _told_at("info"):
        _tell("info", "judged", line)


def judged(transcript: Transcript) -> None:
    """How one mail was judged; and once an hour, not once a mail, what the operator should look at."""
    decision(transcript.log_line())
    if _debugging():
        _tell_why(transcript)
    for each in transcript.lists():
        if each.code is ListCode.REFUSED:
            _hourly("this DNS list does not serve us, or is none any more", each.listing.zone.name)
    if transcript.from_us:
        # One of our own that sends too much may be somebody else by now.
        for name, key, told in transcript.limits():
            _hourly("over the limit", f"{name} {key}", told=told)
    for rule in transcript.not_evaluated():
        _hourly("the condition of this rule fails, and counts as false", rule)


def _tell_why(transcript: Transcript) -> None:
    """What a line has no room for; nothing of the mail's content."""
    mail = transcript.transaction.queue_id or "-"
    for judgement in transcript.judgements:
        for step in judgement.verdict.steps:
            debug("rule", queue_id=mail, stage=judgement.stage.name.lower(), rule=step.rule, outcome=step.outcome)
    for answer in transcript.answers:
        debug("dns", queue_id=mail, name=answer.name, type=answer.rdtype, outcome=answer.outcome, reason=answer.reason)
    debug("times", queue_id=mail, **{part: round(took, 2) for part, took in transcript.times.items()})


def unpublished(key: str, reason: Reason | None) -> None:
    """Receivers cannot verify with this key: once an hour, not once a mail."""
    _hourly("this signing key is not published as it is", key, reason=str(reason))


def decisions_dropped(why: str, count: int) -> None:
    """The store of decisions does not take what it should; mail goes on without it."""
    warning("decisions are not kept", why=why, dropped=count)


def away(part: str, event: str, **facts: object) -> None:
    """A part of the world does not answer: told once, until it is `back`."""
    if _away.begins(_of_generation(part)):
        warning(event, **facts)


def back(part: str, event: str, **facts: object) -> None:
    """It answers again."""
    if _away.ends(_of_generation(part)):
        info(event, **facts)


def _of_generation(part: str) -> str:
    # Another policy may mean another server by it.
    return f"{_context.get('generation')} {part}"


def _hourly(event: str, about: str, **facts: str) -> None:
    if _hours.hourly(f"{event} {about}"):
        warning(event, about=about, **facts)


def _tell(level: str, event: str, facts: Mapping[str, object] = MappingProxyType({})) -> None:
    """Write a line, with one system call wherever the kernel takes it at once."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00")
    line: dict[str, object] = {"time": f"{now}Z", "level": level, "event": event, **facts, **(_context | dict(facts))}
    line = {key: value if isinstance(value, int | float) else _text(str(value)) for key, value in line.items()}
    text = json.dumps(line) if _form is LogFormat.JSON else _logfmt(line)
    left = f"{_PRIORITIES[level] if _for_journal else ''}{text}\n".encode()
    while left:
        try:
            left = left[os.write(2, left) :]
        except OSError:
            return  # whoever reads the log has gone; mail goes on


def _is_journal() -> bool:
    """Whether it is systemd's journal that reads the log (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        read = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{read.st_dev}:{read.st_ino}"


def _logfmt(line: Mapping[str, object]) -> str:
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in line.items())


# Most words of most lines are those of the line before.
@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=256)
def _text(value: str) -> str:
    if len(value) > _MAX_TEXT:
        value = value[:_MAX_TEXT] + "..."
    if "://" in value:
        value = _PASSWORD.sub(r"\1***@", value)
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
