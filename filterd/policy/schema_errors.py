"""pydantic's errors in the words of a postmaster, at their places in the file."""

import difflib
import re
from contextlib import suppress
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from filterd.policy.action_entries import ACTIONS
from filterd.policy.errors import PolicyError
from filterd.policy.nodes import Document, Path
from filterd.policy.schema import PolicyFile, RuleEntry


def schema_errors(document: Document, error: ValidationError, root: type[BaseModel] = PolicyFile) -> list[PolicyError]:
    """All that the schema, whose outermost section is `root`, finds wrong with a document."""
    wrong = error.errors()
    # pydantic counts only good items: a list whose one item is wrong is not too short besides.
    wrong = [each for each in wrong if each["type"] != "too_short" or not _has_within(wrong, each["loc"])]
    return [_schema_error(document, each, root) for each in wrong]


def sound_parts(
    document: Document, error: ValidationError, context: dict[str, Any]
) -> tuple[PolicyFile, list[tuple[int, RuleEntry]]]:
    """The sections and the rules (with their places) that are right, so that what they name can be examined too."""
    wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
    data = document.data if isinstance(document.data, dict) else {}
    sound = {key: value for key, value in data.items() if key not in wrong}
    rules = []
    items = document.keys(("rules",))
    for index, item in enumerate(items if isinstance(items, list) else ()):
        with suppress(ValidationError):
            rules.append((index, RuleEntry.model_validate(item, context=context)))
    with suppress(ValidationError):
        return PolicyFile.model_validate({**sound, "version": "1"}, context=context), rules
    return PolicyFile(version="1"), rules


def _has_within(errors: list[ErrorDetails], location: tuple[int | str, ...]) -> bool:
    return any(each["loc"][: len(location)] == location != each["loc"] for each in errors)


def _schema_error(document: Document, error: ErrorDetails, root: type[BaseModel]) -> PolicyError:
    path = _known_path(document, error)
    match error["type"]:
        case "extra_forbidden":
            key, allowed = str(error["loc"][-1]), _keys_at(root, error["loc"][:-1])
            near = difflib.get_close_matches(key, allowed, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
            problem = f"there is no key {key} here; {hint}"
        case "missing":
            problem = f"the key {error['loc'][-1]} is missing"
        case "literal_error" | "enum":
            expected = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
            problem = _not_possible(str(error.get("input")), expected)
        case "value_error":
            problem = error["msg"].removeprefix("Value error, ")
        case "model_type" | "model_attributes_type":
            problem = "here stand keys with values (key: value)"
        case "union_tag_invalid":
            problem = _not_possible(error["ctx"]["tag"], list(ACTIONS))
        case "union_tag_not_found":
            problem = "an action is a word, or one key with what it needs; several actions stand in a list: [a, b]"
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


def _not_possible(given: str, expected: list[str]) -> str:
    near = difflib.get_close_matches(given, expected, 1, 0.6)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{given!r} is not possible here; {hint}allowed: {', '.join(expected)}"


def _known_path(document: Document, error: ErrorDetails) -> Path:
    """pydantic's location without the parts that stand in no file, such as which kind of action is meant."""
    path: Path = ()
    # pydantic has "[key]" behind a key that is wrong itself.
    location = error["loc"][:-1] if error["loc"][-1:] == ("[key]",) else error["loc"]
    for part in location:
        within = document.keys(path)
        missing = error["type"] == "missing" and part == location[-1]
        if isinstance(part, int) or missing or (isinstance(within, dict) and part in within):
            path = (*path, part)
    return path


def _keys_at(root: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    models: list[type[BaseModel]] = [root]
    for part in location:
        fields = next((each.model_fields for each in models if part in each.model_fields), None)
        if fields is not None:
            models = _models(fields[str(part)].annotation)
    return list(dict.fromkeys(each.alias or name for model in models for name, each in model.model_fields.items()))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
