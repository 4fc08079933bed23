"""Print man/filterd.yaml.5, made from the code: python tools/manual.py > man/filterd.yaml.5

Keys come from the JSON Schema, facts, functions and actions from their tables; only the prose between stands here.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from filterd.policy import transcript_personal
from filterd.policy.action_entries import ACTIONS
from filterd.policy.conditions import FUNCTIONS
from filterd.policy.facts import FACTS
from filterd.policy.json_schema import json_schema

SCHEMA = json_schema()
# What a form is called, by its first example.
KINDS = {
    "500ms": "duration",
    "512KiB": "size",
    "100 per 1h": "rate",
    "192.0.2.0/24": "network",
    "unix:/run/filterd/milter.sock": "socket",
    "192.0.2.53": "address",
    "0660": "mode",
}

HEAD = r""".\" Made by tools/manual.py; do not edit.
.TH FILTERD.YAML 5 "" filterd "filterd manual"
.SH NAME
filterd.yaml \- the policy of filterd
.SH SYNOPSIS
.nf
filterd check \fIPOLICY\fR
filterd run \-p \fIPOLICY\fR
.fi
.SH DESCRIPTION
A policy is one YAML file (or several, see \fBinclude\fR) that says who is who, what is signed, and in rules what
becomes of mail. It is read whole before any of it is used: what is wrong is named by file, line and column, all at
once, and a policy with errors never replaces one without.
.PP
Every value is read from the text that was written, as the type that its key has. What readers of YAML take for
different things
.RB ( yes ,
.BR 012 ,
.BR 1:30 ,
.BR 1e3 )
is refused with what would be right. Anchors, aliases and tags are not used; a key stands once.
"""

FORMS = (
    ("duration", "A number with its unit, or several from the largest to the smallest: 500ms, 5s, 1h30m, 7d, 2w."),
    ("size", "Bytes with their unit: 512KiB (of 1024), 10MB (of 1000 kB), 1GiB."),
    ("rate", "How much in any span of time: 100 per 1h (messages), 200 recipients per 1h, 50MB per 1d."),
    ("network", "An address or a network: 192.0.2.1, 192.0.2.0/24, 2001:db8::/32."),
    ("socket", "unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS; also as Postfix writes it, inet:ADDRESS:PORT."),
    ("yes or no", "true or false."),
    ("number", "Decimal digits, with a sign or a point where need be."),
    ("secret", "A text, or { file: PATH } of a file with one line that others cannot read."),
    ("file", "A relative path begins at the policy's folder."),
    ("condition", "An expression in CEL, see CONDITIONS."),
)

CONDITIONS = """Conditions are written in CEL, the Common Expression Language: comparisons (== != < <= > >=),
&& || !, in, a ? b : c, the texts' methods startsWith, endsWith, contains and size(), and the functions below.
Facts are typed, and a condition is checked when the policy is loaded: a name that does not exist, or a word that a
fact can never be, is an error. A condition that cannot be evaluated on a mail does not hold, and the trace says so."""

STAGES = """A rule runs at the earliest stage at which all facts that it names are known, and not before MAIL unless it
says so by "at". A check (such as spf) is run only where a rule or a header field needs it, and only for mail that is
not from us: a rule that names a fact of a check does not apply to mail from us."""


def escaped(text: str) -> str:
    """Text as roff shows it."""
    plain = text.replace("\\", r"\e").replace("-", r"\-").replace("^", r"\(ha").replace("~", r"\(ti")
    plain = plain.replace("`", r"\(ga").replace("'", r"\(aq")
    return "\n".join(rf"\&{line}" if line[:1] == "." else line for line in plain.split("\n"))


def prose(text: str) -> str:
    """A docstring or description: what stands between backticks is bold."""
    parts = text.split("`")
    return "".join(rf"\fB{escaped(part)}\fR" if index % 2 else escaped(part) for index, part in enumerate(parts))


def item(head: str, text: str, kind: str = "") -> str:
    kind = rf" \fI{escaped(kind)}\fR" if kind else ""
    return f".TP\n\\fB{escaped(head)}\\fR{kind}\n{prose(text)}\n"


def kind_of(field: dict[str, Any]) -> str:
    """What stands behind a key, in a word or two."""
    if "anyOf" in field or "oneOf" in field:
        words = [kind_of(each) for each in field.get("anyOf", field.get("oneOf")) if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(words))
    if "enum" in field:
        return " | ".join(dict.fromkeys(str(each) for each in field["enum"]))
    if "const" in field:
        return str(field["const"])
    if "$ref" in field:
        return "keys"
    match field.get("type"):
        case ["string", "boolean"]:
            return "condition"
        case "array":
            return f"list of {kind_of(field.get('items', {}))}"
        case "boolean":
            return "true | false"
        case "integer":
            return "whole number"
        case "object":
            return "keys"
        case _ if field.get("examples"):
            return KINDS.get(field["examples"][0], f"such as {field['examples'][0]}")
        case "number":
            return "number"
    return "text"


def sections(path: str, definition: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A mapping with keys, and all below it."""
    yield path, definition
    for name, field in definition.get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        for reference, several in references(field):
            target = SCHEMA["$defs"][reference]
            if name != "then":
                yield from sections(f"{below}[]" if several else below, target)


def references(field: dict[str, Any], several: bool = False) -> Iterator[tuple[str, bool]]:
    if "$ref" in field:
        yield field["$ref"].removeprefix("#/$defs/"), several
    for each in (*field.get("anyOf", ()), *field.get("allOf", ())):
        yield from references(each, several)
    if isinstance(field.get("items"), dict):
        yield from references(field["items"], True)


def keys(definition: dict[str, Any]) -> Iterator[str]:
    for name, field in definition.get("properties", {}).items():
        text = field.get("description", "")
        if not text:
            text = next((SCHEMA["$defs"][each].get("description", "") for each, _ in references(field)), "")
        default = field.get("default")
        if name in definition.get("required", ()):
            text += " Required."
        elif isinstance(default, str | int | float):
            shown = str(default).lower() if isinstance(default, bool) else str(default) or '""'
            text += f" By default `{shown}`."
        elif isinstance(default, list) and default and not isinstance(default[0], dict):
            text += f" By default `{json.dumps(default, ensure_ascii=False)}`."
        yield item(name, text.strip(), "..." if name == "then" else kind_of(field))


def fallible() -> Iterator[str]:
    for path, definition in sections("", SCHEMA):
        for name, field in definition.get("properties", {}).items():
            if name.startswith("on_"):
                default = f" By default `{field['default']}`." if "default" in field else ""
                yield item(f"{path}.{name}", field.get("description", "") + default, kind_of(field))


def facts() -> Iterator[str]:
    for fact in FACTS.values():
        words = f" One of: {', '.join(word or 'empty' for word in fact.words)}." if fact.words else ""
        check = f"; check {fact.check}" if fact.check else ""
        yield item(fact.name, fact.doc + words, f"{fact.type.value}, {fact.stage.word}{check}")


def actions() -> Iterator[str]:
    for name, doc in ACTIONS.items():
        yield item(name, doc.split("\n\n")[0])
        for each in SCHEMA["$defs"].values():
            if next(iter(each.get("properties", {})), None) == name and "$ref" in each["properties"][name]:
                target = SCHEMA["$defs"][each["properties"][name]["$ref"].removeprefix("#/$defs/")]
                yield ".RS\n" + "".join(keys(target)) + ".RE\n"


def functions() -> Iterator[str]:
    for name, doc in FUNCTIONS.items():
        yield item(name, doc[:1].upper() + doc[1:] + ".")


def personal_data() -> str:
    return (transcript_personal.__doc__ or "").split("\n\n")[1].strip()


def page() -> Iterator[str]:
    yield HEAD
    yield ".SH FORMS OF VALUES\n" + "".join(item(*form) for form in FORMS)
    yield ".SH KEYS\n"
    for path, definition in sections("", SCHEMA):
        yield f".SS {escaped(path or 'The whole file')}\n{prose(definition.get('description', '').strip())}\n"
        yield from keys(definition)
    yield f".SH CONDITIONS\n{prose(CONDITIONS)}\n.SS Functions\n"
    yield from functions()
    yield f".SH FACTS\n{prose(STAGES)}\n"
    yield from facts()
    yield ".SH ACTIONS\nBehind \\fBthen\\fR stands one action, or a list of them with a final one last.\n"
    yield from actions()
    yield ".SH WHAT CAN FAIL\nWhat becomes of mail where something could not be had:\n"
    yield from fallible()
    yield f".SH PERSONAL DATA\nWhat \\fBdecisions.personal: false\\fR leaves out. {prose(personal_data())}\n"
    yield ".SH SEE ALSO\n\\fBfilterd check \\-\\-facts\\fR, \\fBfilterd schema\\fR, \\fBpostconf\\fR(5)\n"


def main(write: Iterable[str]) -> None:
    sys.stdout.write("".join(write))


if __name__ == "__main__":
    main(page())
