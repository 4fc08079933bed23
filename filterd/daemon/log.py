"""The log: one event, one line, one write to standard error.

Workers share the descriptor, so a line is written whole. Remote text cannot end a line, move a terminal's cursor or
reverse its writing. Nothing hands secrets to the log; the password in a URL, which an error text may quote, is taken
out all the same.
"""

import os
import re
import traceback
from collections.abc import Mapping, MutableMapping
from enum import StrEnum
from typing import Any

import structlog

_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+@")
_BARE = re.compile(r"[^\s\"=\\]+")
# One hostile value must not push all others out of a line that a collector cuts.
_MAX_TEXT = 4000


class LogFormat(StrEnum):
    """How a line is written."""

    LOGFMT = "logfmt"
    JSON = "json"


def configure(form: LogFormat) -> None:
    """Set up the log: once, before the first fork."""
    render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    if form is LogFormat.LOGFMT:
        render = _logfmt
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            _printable,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )


def info(event: str, **facts: object) -> None:
    """Something happened that the operator expects."""
    structlog.get_logger().info(event, **facts)


def warning(event: str, **facts: object) -> None:
    """Something that the operator should look at, and that filterd gets along with."""
    structlog.get_logger().warning(event, **facts)


def error(event: str, **facts: object) -> None:
    """Something that needs the operator."""
    structlog.get_logger().error(event, **facts)


def fault(where: str, exception: BaseException, **facts: object) -> None:
    """A fault of filterd's own, with its traceback (no values of variables, which may be anybody's)."""
    trace = "".join(traceback.format_exception(exception))
    error("fault", where=where, error=f"{type(exception).__name__}: {exception}", traceback=trace[-_MAX_TEXT:], **facts)


def decision(line: Mapping[str, object]) -> None:
    """How one mail was judged."""
    structlog.get_logger().info("judged", **line)


class _Lines:
    """Writes each line with one system call, wherever the kernel takes it at once."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        left = line.encode() + b"\n"
        while left:
            try:
                left = left[os.write(2, left) :]
            except OSError:
                return  # whoever reads the log has gone; mail goes on

    info = warning = error = msg


def _printable(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: value if isinstance(value, int | float) else _text(str(value)) for key, value in event.items()}


def _logfmt(_: object, __: str, event: MutableMapping[str, Any]) -> str:
    """The line as key=value; structlog's own looks at every character of every key, for a third of a line's cost."""
    first = {key: event.pop(key) for key in ("time", "level", "event")}
    return " ".join(f"{key}={_quoted(value)}" for key, value in (first | dict(event)).items())


def _quoted(value: object) -> str:
    text = str(value)
    if _BARE.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _text(value: str) -> str:
    if len(value) > _MAX_TEXT:
        value = value[:_MAX_TEXT] + "..."
    if "://" in value:
        value = _PASSWORD.sub(r"\1***@", value)
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in value)
