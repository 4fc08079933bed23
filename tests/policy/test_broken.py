"""Broken policies: each gives an error that names the right line, as `filterd check` shows it, and none a traceback."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from command_line import filterd

HAND_MADE = Path(__file__).parent / "broken" / "hand-made.txt"
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))


def hand_made() -> Iterator[tuple[str, str, str]]:
    for case in HAND_MADE.read_text().split("=== ")[1:]:
        name, _, rest = case.partition("\n")
        text, _, expected = rest.rpartition("=> ")
        yield name, text, expected.removesuffix("\n")


def check(tmp_path: Path, text: bytes) -> list[str]:
    """What `filterd check` complains of, without the file's name."""
    file = tmp_path / "policy.yaml"
    file.write_bytes(text)
    result = filterd("check", file)

    assert (result.exit_code, result.stdout) == (1, "")
    return [line.removeprefix(f"{file}:") for line in result.stderr.splitlines()]


@pytest.mark.parametrize(("text", "expected"), [pytest.param(*case[1:], id=case[0]) for case in hand_made()])
def test_hand_made(tmp_path: Path, text: str, expected: str) -> None:
    complaints = check(tmp_path, text.encode())

    assert any(each.startswith(expected) for each in complaints), complaints


Place = tuple[list[str], int, int, yaml.ScalarNode]  # lines; the key's line and column from 0; the value


def places(text: str) -> list[Place]:
    """Every key in block style, outside the free mappings, whose value is one scalar in its line."""
    found: list[Place] = []

    def walk(node: yaml.Node) -> None:
        if isinstance(node, yaml.SequenceNode):
            for child in node.value:
                walk(child)
        elif isinstance(node, yaml.MappingNode) and not node.flow_style:
            for key, value in node.value:
                if isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">"):
                    if value.start_mark.line == value.end_mark.line:
                        found.append((text.split("\n"), key.start_mark.line, key.start_mark.column, value))
                elif key.value not in ("senders", "dns", "tests"):
                    walk(value)

    walk(yaml.compose(text))
    return found


def changed(place: Place, edit: Callable[[str, int, int], str]) -> bytes:
    """The text with one line edited: given the line, the column of the key, and that of the value."""
    lines, row, column, value = place
    lines[row] = edit(lines[row], column, value.start_mark.column)
    return "\n".join(lines).encode("utf-8", "surrogateescape")


# What is done to a line, and on which line after it the error is.
MUTATIONS: dict[str, tuple[Callable[[str, int, int], str], int]] = {
    "an unknown key": (lambda line, key, value: f"{line[:key]}zz_{line[key:]}", 0),
    "a key twice": (lambda line, key, value: f"{line}\n{' ' * key}{line[key:]}", 1),
    "a list of lists": (lambda line, key, value: f"{line[:value]}[[x]]", 0),
    "keys": (lambda line, key, value: f"{line[:value]}{{ zz: 1 }}", 0),
    "an anchor": (lambda line, key, value: f"{line[:value]}&x {line[value:]}", 0),
    "an alias": (lambda line, key, value: f"{line[:value]}*x", 0),
    "a tag": (lambda line, key, value: f"{line[:value]}!!str {line[value:]}", 0),
    "a control character": (lambda line, key, value: f"{line[:value]}\x07{line[value:]}", 0),
    "a zero": (lambda line, key, value: f"{line}\0", 0),
    "an octet that is no UTF-8": (lambda line, key, value: f"{line} # \udcff", 0),
    "a tab": (lambda line, key, value: f"\t{line}", 0),
    "half a quote": (lambda line, key, value: f'{line[:value]}"x', 0),
    "half a list": (lambda line, key, value: f"{line[:value]}[x", 0),
    "a huge number": (lambda line, key, value: f"{line[:value]}{'9' * 5000} =", 0),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_one_place_of_a_shipped_policy(tmp_path: Path, file: Path, mutation: str) -> None:
    edit, below = MUTATIONS[mutation]
    text = file.read_text()
    some = places(text)
    for number in range(0, len(some), max(1, len(some) // 5)):
        place = places(text)[number]
        row = place[1] + 1 + below
        complaints = check(tmp_path, changed(place, edit))

        # Only what follows shows that a list does not end.
        named = [each for each in complaints if each.startswith(f"{row}:") or f"that begins in line {row};" in each]
        assert named, (place[0][place[1]], complaints)
