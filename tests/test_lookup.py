"""Answers and the table that gives them."""

from filterd.lookup import Answer, Outcome, ZoneResolver

TXT = Answer("a.example.org", "TXT", Outcome.FOUND, (b"one", b"two"))
MX = Answer("a.example.org", "MX", Outcome.FOUND, ("10 mail.example.org",))
TABLE = {(answer.name, answer.rdtype): answer for answer in (TXT, MX)}


def test_values_by_their_kind() -> None:
    assert (TXT.texts, TXT.names) == ((b"one", b"two"), ())
    assert (MX.texts, MX.names) == ((), ("10 mail.example.org",))


def test_a_table_answers_in_any_spelling() -> None:
    resolver = ZoneResolver(TABLE)
    for name in ("a.example.org", "A.Example.ORG", "a.example.org."):
        assert resolver.lookup(name, "TXT") == TXT
    resolver.prefetch("a.example.org", "TXT")


def test_what_the_table_does_not_have() -> None:
    resolver = ZoneResolver(TABLE)
    assert resolver.lookup("a.example.org", "A") == Answer("a.example.org", "A", Outcome.NODATA)
    assert resolver.lookup("Example.org", "TXT") == Answer("example.org", "TXT", Outcome.NODATA)
    assert resolver.lookup("b.example.org", "TXT") == Answer("b.example.org", "TXT", Outcome.NXDOMAIN)
    assert resolver.lookup("b.a.example.org", "TXT") == Answer("b.a.example.org", "TXT", Outcome.NXDOMAIN)
