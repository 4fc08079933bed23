"""The public suffix list as Debian's package `publicsuffix` has it, rule by rule, and the list's own tests."""

import re
import sys
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.debian import unpacked

from filterd.backend.public_suffixes import load_public_suffixes
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.mail.domain import Domain, DomainError

_VECTOR = re.compile(r"checkPublicSuffix\('([^']*)', (?:'([^']*)'|null)\);")


@pytest.fixture(scope="module")
def file() -> Path:
    return unpacked("publicsuffix") / "usr/share/publicsuffix/public_suffix_list.dat"


@pytest.fixture(scope="module")
def suffixes(file: Path) -> PublicSuffixes:
    return load_public_suffixes(file)


@pytest.fixture(scope="module")
def rules(file: Path) -> frozenset[str]:
    lines = (line.split() for line in file.read_text("utf-8").splitlines())
    found = frozenset(words[0] for words in lines if words and not words[0].startswith("//"))
    assert len(found) > 9000
    return found


def _below(count: int, base: str) -> Domain:
    return Domain.parse(".".join([*(f"filterd{number}" for number in range(count, 0, -1)), base]))


def test_every_rule(suffixes: PublicSuffixes, rules: frozenset[str]) -> None:
    """A suffix stands for itself, and so does each name below it; deeper ones stand for that. U-labels are names, too."""
    plain = [rule for rule in rules if rule[0] not in "*!" and f"*.{rule}" not in rules]
    expected = {_below(depth, rule): _below(min(depth, 1), rule) for rule in plain for depth in range(4)}

    assert len(plain) > 9000
    assert expected == {domain: suffixes.organizational_domain(domain) for domain in expected}


def test_every_wildcard(suffixes: PublicSuffixes, rules: frozenset[str]) -> None:
    """Whatever one label stands there is a suffix."""
    wild = [rule.removeprefix("*.") for rule in rules if rule.startswith("*.")]
    expected = {_below(depth, base): _below(min(depth, 2), base) for base in wild for depth in range(1, 5)}

    assert len(wild) > 30
    assert expected == {domain: suffixes.organizational_domain(domain) for domain in expected}


def test_every_exception(suffixes: PublicSuffixes, rules: frozenset[str]) -> None:
    """One name that a wildcard does not make a suffix."""
    excepted = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    expected = {_below(depth, name): Domain.parse(name) for name in excepted for depth in range(3)}

    assert len(excepted) > 5
    assert expected == {domain: suffixes.organizational_domain(domain) for domain in expected}


def test_a_top_level_domain_without_rule_is_a_suffix(suffixes: PublicSuffixes) -> None:
    assert Domain("example") == suffixes.organizational_domain(Domain("example"))
    assert Domain("b.example") == suffixes.organizational_domain(Domain("a.b.example"))


def test_the_lists_own_tests() -> None:
    """The library brings them, for the list that it brings."""
    ours = load_public_suffixes(Path("/nonexistent"))
    text = resources.files("publicsuffixlist").joinpath("test_psl.txt").read_text("utf-8")
    checked = 0
    for line in text.splitlines():
        if not (vector := _VECTOR.fullmatch(line.strip())):
            continue
        try:
            domain = Domain.parse(vector[1])
        except DomainError:
            continue  # ".com" is no domain name
        expected = Domain.parse(vector[2]) if vector[2] else domain

        assert expected == ours.organizational_domain(domain), line
        checked += 1
    assert checked > 60


def _slow(domain: Domain, rules: frozenset[str]) -> Domain:
    """publicsuffix.org/list, "Algorithm", word by word; what bears a wildcard is a suffix, as its tests have it."""
    labels = domain.labels
    above = [".".join(labels[at:]) for at in range(len(labels))]
    depths = [1]
    for name in above:
        depth = name.count(".") + 1
        if f"!{name}" in rules:
            depths = [depth - 1]
            break
        if name in rules or f"*.{name}" in rules:
            depths.append(depth)
        if f"*.{name}" in rules and name != domain.name:
            depths.append(depth + 1)
    return Domain(".".join(labels[-max(depths) - 1 :]))


@given(data=st.data())
def test_as_the_algorithm_says(data: st.DataObject, suffixes: PublicSuffixes, rules: frozenset[str]) -> None:
    ascii_rules = frozenset(rule for rule in rules if rule.isascii())
    special = sorted(rule for rule in ascii_rules if rule[0] in "*!")
    rule = data.draw(st.sampled_from(special) | st.sampled_from(sorted(ascii_rules)))
    base = rule.lstrip("!").removeprefix("*.").split(".")
    labels = data.draw(st.lists(st.sampled_from(["www", "city", "a", "com", "co", *base]), max_size=3))
    domain = Domain(".".join([*labels, *base[data.draw(st.integers(0, len(base) - 1)) :]]))

    assert _slow(domain, ascii_rules) == suffixes.organizational_domain(domain)


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{tmp_path} cannot be read: "):
        load_public_suffixes(tmp_path)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)

    with pytest.raises(ValueError, match=r"pip install 'filterd\[psl\]'"):
        load_public_suffixes()
