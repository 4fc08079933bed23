"""The forms of a policy's numbers: durations, sizes, rates, counts, yes or no.

They are read from the text that was written. What YAML 1.1, YAML 1.2 and people read in different ways (012, 1:30, 1e3,
yes) is refused with what would be right. Editors learn the forms as patterns of the JSON Schema.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from filterd.limits.rate import SIZES, TIMES, Rate, Unit

_DIGITS = r"[0-9]{1,9}(?:\.[0-9]{1,3})?"
# Each unit once, from the largest to the smallest.
_DURATION = " ?".join(rf"(?:{_DIGITS} ?{unit})?" for unit in TIMES)
_DURATION_FORM = re.compile(rf"(?=[0-9]){_DURATION}")
_DURATION_PART = re.compile(rf"({_DIGITS}) ?([a-z]+)")

_SIZE = rf"{_DIGITS} ?(?:{'|'.join(SIZES)})"
_SIZE_FORM = re.compile(rf"({_DIGITS}) ?({'|'.join(SIZES)})?")

_COUNTED = r"[0-9]{1,9}(?: (?:message|recipient|failure|network)s?)?"
_EACH = {"second": "1s", "minute": "1m", "hour": "1h", "day": "1d", "week": "1w"}
_EACH |= {unit: f"1{unit}" for unit in ("s", "m", "h", "d", "w")}
_RATE = rf"(?:{_COUNTED}|{_SIZE}) ?(?:per|/) ?(?:{'|'.join(_EACH)}|{_DURATION})"
_RATE_FORM = re.compile(r"(.{1,40}?) ?(?:\bper\b|/) ?([a-z0-9. ]{1,60})")
_COUNTED_FORM = re.compile(r"([0-9]{1,9})(?: (message|recipient|failure|network)s?)?")

# In milliseconds.
_LONGEST = 31 * TIMES["d"]
# Each of them is remembered by its name.
_MOST_DISTINCT = 1000

_NUMBER = r"[+-]?(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,6})?"


def _duration(value: Any) -> Any:
    if isinstance(value, float):
        return value
    text = str(value)
    if not _DURATION_FORM.fullmatch(text):
        hint = f", not {text!r}" if text and not text.isdecimal() else f": {text}s or {text}m, say" if text else ""
        raise ValueError(f'a duration has a unit, as in "500ms", "5s", "1h30m" or "7d"{hint}')
    return float(sum(Decimal(count) * TIMES[unit] for count, unit in _DURATION_PART.findall(text)) / 1000)


def _size(value: Any) -> Any:
    if isinstance(value, int):
        return value
    found = _SIZE_FORM.fullmatch(str(value))
    octets = Decimal(found[1]) * SIZES[found[2]] if found and found[2] else None
    if octets is None or octets != int(octets):
        raise ValueError(f'a size is bytes with their unit, as in "512KiB", "10MB" or "1GiB", not {str(value)!r}')
    return int(octets)


def _rate(value: Any) -> Any:
    return value if isinstance(value, Rate) else read_rate(str(value))


def read_rate(text: str, unit: Unit = Unit.MESSAGES) -> Rate:
    """A rate from its text; where that does not say what is counted, it is `unit`. Raises ValueError."""
    found = _RATE_FORM.fullmatch(text)
    if found is None:
        raise ValueError(
            'a rate is a number, what is counted, and a span: "100 per 1h" (messages), "200 recipients per 1h" or '
            '"50MB per 1d"'
        )
    count, written = read_counted(found[1])
    unit = written or unit
    span = round(_duration(_EACH.get(found[2], found[2])) * 1000)
    if count < 1 or span <= 0:
        raise ValueError("a rate allows 1 at least, and its span is longer than nothing")
    if not TIMES["s"] <= span <= _LONGEST:
        raise ValueError("the span of a rate is from 1s to 31d")
    if unit.distinct and count > _MOST_DISTINCT:
        raise ValueError(f"different {unit} are counted up to {_MOST_DISTINCT}")
    return Rate(count, unit, span)


def read_counted(text: str) -> tuple[int, Unit | None]:
    """How much of what, as a rate has it before its span; None where that is not said. Raises ValueError."""
    counted = _COUNTED_FORM.fullmatch(text)
    if counted:
        return int(counted[1]), Unit(f"{counted[2]}s") if counted[2] else None
    try:
        return _size(text), Unit.BYTES
    except ValueError:
        units = "messages, recipients, failures, networks or bytes (50MB)"
        raise ValueError(f"{text[:40]!r} is no number of {units}") from None


def _plain_number(value: Any) -> str:
    """The text of a number that all read alike."""
    text = str(value)
    if re.fullmatch(_NUMBER, text):
        return text
    if re.fullmatch(r"[+-]?0[0-9]+", text):
        right = str(int(text))
        raise ValueError(f"write {right}: some readers of YAML take {text} for an octal number")
    try:
        # 1e3, .5, 1_000 and the like, of which readers of YAML make numbers or texts.
        right = f"{Decimal(text.replace('_', '')):f}" if len(text) <= 20 else ""
    except ArithmeticError:
        right = ""
    if re.fullmatch(_NUMBER, right):
        raise ValueError(f"write {right}, not {text}")
    raise ValueError(f"here stands a number of at most 12 digits, not {text[:40]!r}")


def _whole(value: Any) -> Any:
    if isinstance(value, int):
        return value
    text = _plain_number(value)
    if "." in text:
        raise ValueError(f"here stands a whole number, not {text}")
    return int(text)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else float(_plain_number(value))


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    text = str(value)
    # What YAML 1.2 reads as bool. 1.1 has yes and on, too, which others read as text.
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    right = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}.get(text.lower())
    raise ValueError(f"write {right}, not {text}" if right else "here stands true or false")


#: The patterns of the texts, for JSON Schema.
DURATION_PATTERN = f"^(?=[0-9]){_DURATION}$"
SIZE_PATTERN = f"^{_SIZE}$"


def _form(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)}, "validation")


Seconds = Annotated[float, BeforeValidator(_duration), _form(DURATION_PATTERN, "500ms", "5s", "10m", "1h30m", "7d")]
Size = Annotated[int, BeforeValidator(_size), _form(SIZE_PATTERN, "512KiB", "10MB", "1GiB")]
WrittenRate = Annotated[
    Rate, BeforeValidator(_rate), _form(f"^{_RATE}$", "100 per 1h", "200 recipients per 1h", "50MB per 1d")
]
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Flag = Annotated[bool, BeforeValidator(_flag)]
