"""filterd.mail.address: one reading of an address, or none."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from filterd.mail.address import AddressError, AddressLiteral, Mailbox, parse_mailbox_list, parse_path
from filterd.mail.domain import Domain

GOOD = Domain("good.example")
EVIL = Domain("evil.example")


def mailbox(text: str) -> Mailbox:
    local, _, domain = text.rpartition("@")
    return Mailbox(local, Domain(domain))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("ceo@good.example", ["ceo@good.example"]),
        (" <ceo@good.example> ", ["ceo@good.example"]),
        ("< ceo@good.example >", ["ceo@good.example"]),
        ("Carla <CEO@Good.Example>", ["CEO@good.example"]),
        ("John Q. Public <john@good.example>", ["john@good.example"]),
        (".NET team <net@good.example>", ["net@good.example"]),
        ('"Public, John" <john@good.example>', ["john@good.example"]),
        ('"David \\"Dave\\" Smith" <dave@good.example>', ["dave@good.example"]),
        ('"" <a@good.example>', ["a@good.example"]),
        ("a@good.example (John Public)", ["a@good.example"]),
        ("(a (nested \\) one)) a@good.example", ["a@good.example"]),
        ("Joe (his name) Public <a@good.example>", ["a@good.example"]),
        ("=?utf-8?q?J=C3=B6rg?= <a@good.example>", ["a@good.example"]),
        ("Jörg <jörg@bücher.example>", ["jörg@xn--bcher-kva.example"]),
        ("prvs=12ab=a@good.example", ["prvs=12ab=a@good.example"]),
        ("a@good.example,b@good.example", ["a@good.example", "b@good.example"]),
        ("A <a@good.example>, b@evil.example", ["a@good.example", "b@evil.example"]),
        ("Board: A <a@good.example>, b@evil.example;", ["a@good.example", "b@evil.example"]),
        ("Board: a@good.example;, c@evil.example", ["a@good.example", "c@evil.example"]),
        ("a@good.example <a@good.example>", ["a@good.example"]),
        ("Ann a@good.example <ann@good.example>", ["ann@good.example"]),
        ("[JIRA] Ann <jira@good.example>", ["jira@good.example"]),
        ("undisclosed recipients:;", []),
        ("Nobody: ; ", []),
        ("Carla\r\n <ceo@good.example>", ["ceo@good.example"]),
        ("Carla\n\t<ceo@good.example>", ["ceo@good.example"]),
    ],
)
def test_reads_mailbox_list(value: str, expected: list[str]) -> None:
    """RFC 5322 3.4, RFC 6532, RFC 6854."""
    assert tuple(mailbox(each) for each in expected) == parse_mailbox_list(value.encode())


def test_reads_quoted_local_part() -> None:
    expected = (Mailbox('John "the" Doe', GOOD),)

    assert expected == parse_mailbox_list(rb'"John \"the\" Doe"@good.example')


@pytest.mark.parametrize("literal", ["192.0.2.1", "IPv6:2001:db8::1"])
def test_reads_address_literal(literal: str) -> None:
    expected = (Mailbox("a", AddressLiteral(literal)),)

    assert expected == parse_mailbox_list(f"<a@[{literal}]>".encode())


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ",",
        "a@good.example,",
        ",a@good.example",
        "a@good.example,,b@good.example",
        "ceo",
        "Carla",
        "<>",
        "<ceo>",
        "ceo@",
        "@good.example",
        "<ceo@good.example",
        "ceo@good.example>",
        "<ceo@good.example> trailing",
        "<ceo@good.example>>",
        "<<ceo@good.example>>",
        "ceo@good.example;",
        "Board: a@good.example",
        "a@good.example: b@good.example;",
        "a@good.example b@good.example",
        "[a@good.example] <b@evil.example>",
        "[JIRA] a@good.example",
        ": a@good.example;",
        "A: B: a@good.example;;",
        "Board: a@good.example; b@good.example",
        "a..b@good.example",
        ".a@good.example",
        "a.@good.example",
        "a@good..example",
        "a@good.example.",
        "a@-good.example",
        "a@[192.0.2.256]",
        "a@[good.example]",
        "a@[IPv6:fe80::1%eth0]",
        "a@[x400:c=us]",
        'a."b".c@good.example',
        '"a"b@good.example',
        '"a@good.example',
        "(a@good.example",
        "a@good.example (",
        "a@good.example )",
        "a@good.example (\\)",
        "\\a@good.example",
        "Carla\r<ceo@good.example>",
        "Carla\n<ceo@good.example>",
        "Carla\0 <ceo@good.example>",
        "ceo@good.example\0",
        "Carla\x1b <ceo@good.example>",
        "Carla\x7f <ceo@good.example>",
        "Carla\x85 <ceo@good.example>",
        '"Carla\0" <ceo@good.example>',
        '"Carla\rHi" <ceo@good.example>',
        '"Carla\nHi" <ceo@good.example>',
        "ceo@good.example (\0)",
        "<ceo@good.example (comment)>",
        "<(comment) ceo@good.example>",
    ],
)
def test_refuses_malformed(value: str) -> None:
    with pytest.raises(AddressError):
        parse_mailbox_list(value.encode())


def test_other_charsets_do_no_harm_in_a_display_name() -> None:
    """Old programs write them; the author is clear all the same."""
    assert (mailbox("a@good.example"),) == parse_mailbox_list(b"J\xf6rg <a@good.example>")


@pytest.mark.parametrize("value", [b"J <\xf6@good.example>", b"J <a@g\xf6od.example>", b"\xf6@good.example"])
def test_refuses_bytes_that_are_not_utf8_in_an_address(value: bytes) -> None:
    with pytest.raises(AddressError):
        parse_mailbox_list(value)


@pytest.mark.parametrize(
    "value",
    [
        # Two readings of where the address ends (Chen, Paxson, Jiang: Composition Kills, USENIX Security 2020).
        "<x@evil.example> ceo@good.example",
        "ceo@good.example <x@evil.example>",
        "ceo@good.example<x@evil.example>",
        "<ceo@good.example><x@evil.example>",
        "<@good.example,@any.example:x@evil.example>",
        "<@x@evil.example:ceo@good.example>",
        "<ceo@good.example>\\,<x@evil.example>",
        "<ceo@good.example\\,x@evil.example>",
        "=?utf-8?b?PGNlb0Bnb29kLmV4YW1wbGU+?=, <x@evil.example>",
        '"ceo@good.example", <x@evil.example>',
        "x@evil.example\0@good.example",
        "ceo@good.example\0,x@evil.example",
        "ceo@good.example, <x@evil.example",
        # Comments: a program that looks for brackets first does not see them as such.
        "x@evil.example (<ceo@good.example>)",
        "x@evil.example (ceo@good.example)",
        "<x@evil.example(>, <ceo@good.example)>",
        "(<ceo@good.example>) <x@evil.example>",
        "ceo@good.example(comment).evil.example",
        "ceo(x)@evil.example",
        "ceo@(good.example)evil.example",
        "ceo @evil.example",
        "ceo@ evil.example",
        "ceo@good.example .evil.example",
        'x@evil.example ("(") , ceo@good.example, (")")',
        # Quoted pairs and quoted local parts.
        '"a\\" <ceo@good.example>, \\"" <x@evil.example>',
        '"<ceo@good.example>"@evil.example',
        '"ceo@good.example"@evil.example',
        '"ceo@good.example> "@evil.example',
        # Encoded words in an address: decoded by some programs (Mailsploit).
        "=?utf-8?b?Y2VvQGdvb2QuZXhhbXBsZQ==?==?utf-8?q?=00?=@evil.example",
        "<=?utf-8?Q?ceo=40good.example?=@evil.example>",
        "ceo@=?utf-8?q?good.example?=",
        # What is not seen, or turns the line round.
        "\u202eelpmaxe.doog@oec\u202c@evil.example",
        "<ceo\u202e@evil.example>",
        "<ceo\u200b@evil.example>",
    ],
)
def test_never_gives_one_author_where_programs_differ(value: str) -> None:
    """Malformed, or several: never the attacker's domain alone, by which DMARC would pass."""
    try:
        mailboxes = parse_mailbox_list(value.encode())
    except AddressError:
        return

    assert len(mailboxes) != 1


@pytest.mark.parametrize(
    "value",
    [
        '"ceo@good.example" <x@evil.example>',
        '"Carla <ceo@good.example>" <x@evil.example>',
        "=?utf-8?b?PGNlb0Bnb29kLmV4YW1wbGU+?= <x@evil.example>",
        "ceo＠good.example <x@evil.example>",
        '"ceo@good.example": x@evil.example;',
    ],
)
def test_display_name_is_no_address(value: str) -> None:
    """Display names may say anything; the address is the one in angle brackets (RFC 9989 11.4)."""
    assert (Mailbox("x", EVIL),) == parse_mailbox_list(value.encode())


def test_full_width_domain_is_read_as_mail_programs_read_it() -> None:
    assert (Mailbox("ceo", GOOD),) == parse_mailbox_list("ceo@ｇｏｏｄ．ｅｘａｍｐｌｅ".encode())


def test_bounds() -> None:
    most = ",".join(["a@b.example"] * 1_000).encode()
    assert len(parse_mailbox_list(most)) == 1_000
    for value in (
        most + b",a@b.example",
        b"a@b.example" + b" " * 16_384,
        b"(" * 33 + b")" * 33 + b"a@b.example",
        b"()" * 5_000 + b"a@b.example",
        b"a:;," * 1_300 + b"a@b.example",
    ):
        with pytest.raises(AddressError):
            parse_mailbox_list(value)


@given(st.binary(max_size=300))
@example(b"a." * 32_000)
@example(b"(" * 65_000)
@example(b'"' * 65_000)
@example(b'a"' * 30_000)
@example(b"a@" * 30_000)
@example(b"\\" * 65_000)
def test_parser_raises_nothing_else(value: bytes) -> None:
    try:
        parse_mailbox_list(value)
        parse_path(value.decode("utf-8", "surrogateescape"))
    except AddressError:
        pass


@given(st.text(alphabet=' ab"\\<>()@,:;.[]=?\u00e9\u202e\t\r\n\0', max_size=40))
def test_parser_raises_nothing_else_near_the_grammar(text: str) -> None:
    try:
        mailboxes = parse_mailbox_list(text.encode())
    except AddressError:
        return

    for each in mailboxes:
        assert (each,) == parse_mailbox_list(str(each).encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("<>", None),
        ("<a@good.example>", Mailbox("a", GOOD)),
        ("a@good.example", Mailbox("a", GOOD)),
        ("<@hop.example,@hop2.example:a@good.example>", Mailbox("a", GOOD)),
        ('<"a b"@good.example>', Mailbox("a b", GOOD)),
        ('<"a\\"\\\\b"@good.example>', Mailbox('a"\\b', GOOD)),
        ('<"ceo@evil.example"@good.example>', Mailbox("ceo@evil.example", GOOD)),
        ("<a@[192.0.2.1]>", Mailbox("a", AddressLiteral("192.0.2.1"))),
        ("<jörg@bücher.example>", Mailbox("jörg", Domain("xn--bcher-kva.example"))),
        # Postfix's policy protocol has the local part unquoted: the last at-sign counts.
        ("a b@good.example", Mailbox("a b", GOOD)),
        ("ceo@evil.example@good.example", Mailbox("ceo@evil.example", GOOD)),
        ("a..b@good.example", Mailbox("a..b", GOOD)),
    ],
)
def test_reads_path(text: str, expected: Mailbox | None) -> None:
    """RFC 5321 4.1.2, 4.1.1.3."""
    assert expected == parse_path(text)


@pytest.mark.parametrize(
    "text",
    [
        "postmaster",
        "<postmaster>",
        "@good.example",
        "a@",
        "<a b@good.example>",
        "<a@good.example",
        "< a@good.example>",
        "<a@good.example> SIZE=1",
        "<@hop.example:>",
        "<a@[192.0.2]>",
        "<a@good.example\r\nRCPT TO:<b@good.example>>",
        "a\nb@good.example",
        "a\0@good.example",
        "\udcf6@good.example",
        "a" * 1_100 + "@good.example",
    ],
)
def test_refuses_what_is_no_path(text: str) -> None:
    with pytest.raises(AddressError):
        parse_path(text)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_writes_what_it_reads(local: str) -> None:
    """The local part is quoted where the grammar needs it, and comes back the same."""
    box = Mailbox(local, GOOD)
    try:
        again = parse_path(f"<{box}>")
    except AddressError:
        assert not local.isprintable()
    else:
        assert box == again
