"""The JSON Schema is one, follows the sections, and lets an editor accept what filterd accepts."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import yaml
from command_line import filterd
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from filterd.policy.json_schema import MODELINE, json_schema
from filterd.policy.load import load
from filterd.policy.schema import PolicyFile

POLICIES = Path(__file__).parents[2] / "policies"
SHIPPED = sorted(POLICIES.glob("*.yaml"))


class CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core schema (10.3.2), as yaml-language-server reads: `yes` and `1:30` are texts, `012` is 12."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)
CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))


def complaints(text: str) -> list[str]:
    validator = Draft202012Validator(json_schema())
    return [error.json_path for error in validator.iter_errors(yaml.load(text, CoreLoader))]


def test_it_is_a_json_schema() -> None:
    Draft202012Validator.check_schema(json_schema())


def test_what_is_shipped_is_what_the_command_prints() -> None:
    printed = filterd("schema").stdout

    assert (POLICIES / "schema.json").read_text() == printed, "run: filterd schema > policies/schema.json"
    assert json.loads(printed) == json_schema()


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_shipped_policies_follow_it_and_tell_the_editor(file: Path) -> None:
    text = file.read_text()

    assert text.splitlines()[0] == MODELINE
    assert complaints(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "version: '1'",
        "dns: { timeout: 5s, deadline: 1.5s }",
        "dns: { servers: [192.0.2.53, '192.0.2.53:5353', '[2001:db8::53]:53'] }",
        "decisions: { file: /x, max_age: 7d, max_size: 512MiB, personal: true }",
        "decisions: { file: /x, max_age: 1h30m, max_size: 10MB }",
        "server: { milter: ['inet:8891@127.0.0.1'], workers: 4, user: }",
        "server: { milter: [/run/x], workers: auto, socket: { mode: '0660' } }",
        "networks: { trusted: [192.0.2.1, 2001:db8::/32] }",
        "mail_from_us: false",
        "rules: [{ name: all, when: true, then: tag }]",
        "rules: [{ name: all, when: from_us, then: [{ score: 2.5 }, reject], at: data }]",
        "identity: { authserv_id: }",
    ],
)
def test_what_filterd_accepts_an_editor_accepts(text: str) -> None:
    whole = text if "version" in text else f"version: 1\n{text}\n"

    load(whole, "p")
    assert complaints(whole) == []


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("dns: { timeout: 5 }", "$.dns.timeout"),
        ("dns: { timeout: 1:30 }", "$.dns.timeout"),
        ("dns: { timeouts: 5s }", "$.dns"),
        ("arc: { seal: yes }", "$.arc.seal"),
        ("server: { workers: 0 }", "$.server.workers"),
        ("server: { milter: ['tcp:1@x'] }", "$.server.milter[0]"),
        ("rules: [{ name: a, when: true }]", "$.rules[0]"),
        ("rules: {}", "$.rules"),
        ("ruls: []", "$"),
    ],
)
def test_what_is_wrong_an_editor_marks(text: str, path: str) -> None:
    assert complaints(f"version: 1\n{text}\n") == [path]


def sections(model: type[BaseModel] = PolicyFile) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        pending = [field.annotation]
        while pending:
            each = pending.pop()
            if isinstance(each, type) and issubclass(each, BaseModel):
                found |= sections(each)
            pending += get_args(each)
    return found


@pytest.mark.parametrize("section", sorted(sections(), key=lambda each: each.__name__), ids=lambda each: each.__name__)
def test_every_number_has_a_form_of_its_own(section: type[BaseModel]) -> None:
    """Raw int, float and bool would read `012`, `1_000` and `yes` in pydantic's way; quantities.py has their types."""
    bare = [
        name
        for name, field in section.model_fields.items()
        if field.annotation in (int, float, bool)
        and not any("Validator" in type(each).__name__ for each in field.metadata)
    ]

    assert bare == []
