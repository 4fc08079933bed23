"""YAML with places: inside every kind of scalar, over several files."""

import re
from collections.abc import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from filterd.policy.errors import PolicyErrors
from filterd.policy.load import load
from filterd.policy.nodes import MAX_FILES, Document
from filterd.policy.places import lines_of


@pytest.mark.parametrize(
    "scalar",
    [
        "one ?two",
        "'one ''quoted'' ?two'",
        '"one \\"\\x41\\u00e9\\U0001F600\\t ?two"',
        "one\n    and ?two\n    three",
        "'one\n\n    it''s ?two'",
        '"one \\\n    and \\\\ ?two\n    three"',
        "|\n    one\n\n    and ?two\n    three",
        "|2-\n      one\n    and ?two",
        ">-\n    one\n    and\n\n    three ?two\n    four",
        ">\n    one\n      deeper ?two\n    three",
        "é é ?two",
    ],
)
def test_a_place_inside_a_scalar_is_its_place_in_the_file(scalar: str) -> None:
    text = f"ü: [x]\nkey: {scalar}\nlast: 1\n"
    document = Document(text, "p")
    value = yaml.safe_load(text)["key"]
    line = value[: value.index("?")].count("\n") + 1
    column = value.index("?") - (value.rfind("\n", 0, value.index("?")) + 1) + 1

    error = document.error_within(("key",), line, column, "")

    assert lines_of(text)[error.line - 1][error.column - 1] == "?"


@given(st.text("ab \n'\"\\:#?é", max_size=40), st.sampled_from(['"', "'", "|", ">", None]), st.integers(10, 40))
def test_every_character_of_what_yaml_writes_is_found_again(value: str, style: str | None, width: int) -> None:
    text = yaml.dump({"key": value + "?"}, default_style=style, width=width, allow_unicode=True)
    document, whole = Document(text, "p"), value + "?"
    at = whole.index("?")
    line, column = whole[:at].count("\n") + 1, at - (whole.rfind("\n", 0, at) + 1) + 1
    keys = [key for key in document._scalars if document.keys(key) == whole]

    error = document.error_within(keys[0], line, column, "")

    assert lines_of(text)[error.line - 1][error.column - 1] == "?"


def files(**texts: str) -> Mapping[str, str]:
    return {f"{name}.yaml": text for name, text in texts.items()}


def document(texts: Mapping[str, str]) -> Document:
    def read(name: str) -> list[tuple[str, str]]:
        if name == "*":
            return sorted((each, text) for each, text in texts.items() if each != "p.yaml")
        if name not in texts:
            raise ValueError(f"{name} cannot be read: No such file or directory")
        return [(name, texts[name])]

    return Document(texts["p.yaml"], "p.yaml", read)


def test_lists_go_on_mappings_grow_and_scalars_stay() -> None:
    found = document(
        files(
            p="version: 1\ninclude: ['*']\nrules: [a]\nnetworks: { trusted: [x] }\n",
            a="version: 1\nrules: [b, c]\nnetworks: { trusted: [y], relays: [z] }\ninclude: [c/deep.yaml]\n",
            b="rules:\n- d\n",
        )
        | {"c/deep.yaml": "rules: [e]\ndns: { timeout: 5s }"}
    )

    # The pattern means c/deep.yaml, too.
    assert [str(each) for each in found.errors] == [
        "a.yaml:4:11: include[1]: c/deep.yaml is part of the policy already"
    ]
    assert found.data == {
        "version": "1",
        "include": ["*", "c/deep.yaml"],
        "rules": ["a", "b", "c", "d", "e"],
        "networks": {"trusted": ["x", "y"], "relays": ["z"]},
        "dns": {"timeout": "5s"},
    }
    assert [str(found.error(("rules", index), "x")) for index in range(5)] == [
        "p.yaml:3:9: rules[0]: x",
        "a.yaml:2:9: rules[1]: x",
        "a.yaml:2:12: rules[2]: x",
        "b.yaml:2:3: rules[3]: x",
        "c/deep.yaml:1:9: rules[4]: x",
    ]
    assert found.texts[0].startswith("version: 1\ninclude")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (files(p="include: [q.yaml]\ndns: {timeout: 5s}", q="\ndns: {timeout: 6s}"),
         "q.yaml:2:16: dns.timeout: dns.timeout is set already, in p.yaml:2; only lists grow"),
        (files(p="include: [q.yaml]\nrules: []", q="rules: {}"), "q.yaml:1:8: rules: rules is set already, in p.yaml:2"),
        (files(p="include: [q.yaml]", q="[]"), "q.yaml:1:1: this is set already, in p.yaml:1"),
        (files(p="include: [none.yaml]"), "p.yaml:1:11: include[0]: none.yaml cannot be read: No such file"),
        (files(p="include: [p.yaml]"), "p.yaml:1:11: include[0]: p.yaml is part of the policy already"),
        (files(p="include: [q.yaml]", q="include: [p.yaml]"), "q.yaml:1:11: include[1]: p.yaml is part of the policy"),
        (files(p="include: [q.yaml]", q="a: 1\nb: ["), "q.yaml:3:1: this is no YAML"),
        (files(p="include: [q.yaml]", q="a: 1\nb: *x"), "q.yaml:2:4: anchors and aliases are not used here"),
        (files(p="include: [q.yaml]", q="a: 1\na: 2"), "q.yaml:2:1: the key a stands here twice; the first is in line 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_put_together_is_named_in_its_own_file(texts: Mapping[str, str], expected: str) -> None:
    assert str(document(texts).errors[0]).startswith(expected), [str(each) for each in document(texts).errors]


def test_there_are_not_too_many_files() -> None:
    many = {f"{number}.yaml": "rules: [x]" for number in range(MAX_FILES + 5)}

    found = document({"p.yaml": "include: ['*']", **many})

    assert [str(each) for each in found.errors] == [
        f"p.yaml:1:11: include[0]: a policy has at most {MAX_FILES} files and 16777216 characters"
    ]


def test_all_that_is_wrong_comes_at_once() -> None:
    text = """\
version: 1
version: 1
dns: { timeout: 5 }
arc: { seal: yes }
mail_from_us: nobody
rules:
- { name: a, when: spf.resul == "pass", then: rejct }
- { name: b, when: spf.result == "fial", then: reject }
- { name: c, when: from_us, then: reject, reply: hello }
tests:
- { name: x, given: {}, expect: { rule: a } }
- { name: y, given: {}, expect: { rule: nothing-there } }
"""
    with pytest.raises(PolicyErrors) as caught:
        load(text, "p")

    assert [re.sub(r": .*", "", str(error)) for error in caught.value.errors] == [
        "p:2:1", "p:3:8", "p:4:8", "p:5:15", "p:7:23", "p:7:41", "p:8:34", "p:9:43", "p:12:35",
    ]  # fmt: skip


def test_what_an_included_file_says_is_part_of_the_digest() -> None:
    def digest(included: str) -> str:
        return load("version: 1\ninclude: [q]", "p", read_include=lambda _: [("q", included)]).digest

    assert digest("rules: []") == digest("rules: []") != digest("rules: [ ]")
