"""A `sign` section that was written is read as it was meant."""

from hypothesis import given
from hypothesis import strategies as st

from filterd.policy.nodes import Document
from filterd.policy.schema import KeyEntry, PolicyFile, SignEntry
from filterd.policy.sign_text import sign_text

NAMES = st.from_regex(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,9}){1,3}", fullmatch=True)
SELECTORS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,9}", fullmatch=True).filter(lambda text: text[-1] != "-")
# Linux takes any character in a file name; a policy is UTF-8.
FILES = st.sampled_from(
    ["/k.pem", "keys/a.pem", "~", "null", "yes", "1:30", "", " a: b #c, [d] {e} 'f' \"g\" \\h"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ENTRIES = st.builds(
    SignEntry,
    domains=st.lists(NAMES, min_size=1, max_size=9, unique=True),
    keys=st.lists(st.builds(KeyEntry, selector=SELECTORS, file=FILES), min_size=1, max_size=4),
    expires=st.none() | st.integers(3600, 10**9 - 1).map(float),
    on_unpublished=st.sampled_from(["defer", "sign", "skip"]),
)


def test_the_usual_section() -> None:
    keys = (KeyEntry(selector="r2026", file="/etc/r.pem"), KeyEntry(selector="2026", file="/etc/e.pem"))
    entry = SignEntry(domains=("example.org", "*.example.org"), keys=keys, expires=604800.0)

    assert sign_text([entry]) == (
        "sign:\n"
        '  - domains: [example.org, "*.example.org"]\n'
        "    keys:\n"
        "      - { selector: r2026, file: /etc/r.pem }\n"
        '      - { selector: "2026", file: /etc/e.pem }\n'
        "    expires: 604800s\n"
    )


def test_many_domains_stand_in_lines() -> None:
    names = tuple(f"d{number}.example.org" for number in range(10))
    entry = SignEntry(domains=names, keys=(KeyEntry(selector="s", file="k"),))

    assert "  - domains:\n      - d0.example.org\n      - d1.example.org\n" in sign_text([entry])


@given(st.lists(ENTRIES, max_size=3))
def test_any_section_comes_back(entries: list[SignEntry]) -> None:
    document = Document('version: "1"\n' + sign_text(entries), "policy.yaml")

    assert PolicyFile.model_validate(document.data).sign == tuple(entries)
