"""pydantic's errors in the words of a postmaster, at their places in the file."""

import difflib
import re
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from filterd.policy.errors import PolicyError
from filterd.policy.nodes import Document, Path
from filterd.policy.schema import PolicyFile


def schema_errors(document: Document, error: ValidationError) -> list[PolicyError]:
    """All that the schema finds wrong with a document."""
    wrong = error.errors()
    # pydantic counts only good items: a list whose one item is wrong is not too short besides.
    wrong = [each for each in wrong if each["type"] != "too_short" or not _has_within(wrong, each["loc"])]
    return [_schema_error(document, each) for each in wrong]


def _has_within(errors: list[ErrorDetails], location: tuple[int | str, ...]) -> bool:
    return any(each["loc"][: len(location)] == location != each["loc"] for each in errors)


def _schema_error(document: Document, error: ErrorDetails) -> PolicyError:
    path = _known_path(document, error["loc"])
    match error["type"]:
        case "extra_forbidden":
            key, allowed = str(error["loc"][-1]), _keys_at(error["loc"][:-1])
            near = difflib.get_close_matches(key, allowed, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
            problem = f"there is no key {key} here; {hint}"
        case "missing":
            problem = f"the key {error['loc'][-1]} is missing"
        case "literal_error":
            given = str(error.get("input"))
            expected = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
            near = difflib.get_close_matches(given, expected, 1, 0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            problem = f"{given!r} is not possible here; {hint}allowed: {', '.join(expected)}"
        case "value_error":
            problem = error["msg"].removeprefix("Value error, ")
        case "model_type" | "model_attributes_type":
            problem = "here stand keys with values (key: value)"
        case "tuple_type":
            problem = "here stands a list: [a, b], or lines that begin with a dash"
        case "too_short":
            problem = f"here stands a list of at least {error['ctx']['min_length']}"
        case "too_long":
            problem = f"here stands a list of at most {error['ctx']['max_length']}"
        case "bool_parsing":
            problem = "here stands true or false"
        case "string_type":
            problem = "here stands a text"
        case _:
            problem = error["msg"]
    return document.error(path, problem)


def _known_path(document: Document, location: tuple[int | str, ...]) -> Path:
    """pydantic's location without the parts that stand in no file."""
    path: Path = ()
    # pydantic has "[key]" behind a key that is wrong itself.
    location = location[:-1] if location[-1:] == ("[key]",) else location
    for part in location:
        if isinstance(part, int) or document.keys((*path, part)) is not None or part == location[-1]:
            path = (*path, part)
    return path


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = PolicyFile
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            candidates = [getattr(each, "__origin__", each) for each in candidates]  # out of Annotated
            model = next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return [field.alias or name for name, field in model.model_fields.items()]
