"""The JSON Schema (2020-12) of policy files, made from the sections: for editors, which then complete and complain.

It accepts whatever `load` accepts, as an editor reads it: YAML 1.2, where `5m` is a text, `1` a number and `true` a
boolean. What a condition may say, and what one section says about another, only `load` knows.
"""

from collections.abc import Callable
from typing import Any

from filterd.limits.rate import duration_text, size_text
from filterd.policy.quantities import DURATION_PATTERN, SIZE_PATTERN
from filterd.policy.schema import PolicyFile

#: What the editor is told in a policy's first line.
MODELINE = "# yaml-language-server: $schema=schema.json"

# A default is written as in the file.
_WRITE: dict[str, Callable[[Any], str]] = {
    DURATION_PATTERN: duration_text,
    SIZE_PATTERN: size_text,
    "^0?[0-7]{3}$": "{:04o}".format,
}
_NO_KEYWORDS = ("gt", "ge", "lt", "le")


def json_schema() -> dict[str, Any]:
    """The schema, as `json.dumps` takes it."""
    schema = PolicyFile.model_json_schema(by_alias=True)
    for each in (schema, *schema["$defs"].values()):
        each["properties"] = {name: _plain(field) for name, field in each.get("properties", {}).items()}
        each.pop("title", None)
    # `1` is a number for YAML 1.2.
    schema["properties"]["version"] = {"enum": [1, "1"], "description": "Of the policy's language: 1."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "filterd's policy",
        **schema,
    }


def _plain(schema: Any) -> Any:
    """Without pydantic's titles and own words; texts may be numbers where YAML takes them for such."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _plain(value) for key, value in schema.items() if key not in ("title", *_NO_KEYWORDS, "default")}
    default = schema.get("default")
    write = _WRITE.get(_pattern(schema))
    if default is not None and write is not None:
        plain["default"] = write(default)
    elif default is not None and not (plain.get("type") == "string" and isinstance(default, float)):
        plain["default"] = default
    if plain.get("type") == "string" and not {"enum", "const", "examples"} & set(plain):
        plain["type"] = ["string", "number"]
    return plain


def _pattern(schema: dict[str, Any]) -> str:
    """The pattern of a field, also of one that may be left empty."""
    return next((each["pattern"] for each in (schema, *schema.get("anyOf", ())) if "pattern" in each), "")
