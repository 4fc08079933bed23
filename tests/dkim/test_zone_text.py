"""What is written for a zone is read from it, by dnspython's reader of master files."""

import pytest
from dkim_mail import KEY_NAME, ed25519_pair, rsa_pair
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.zone import zone_resolver
from filterd.dkim.zone_text import zone_text


def test_a_short_record() -> None:
    assert zone_text("s._domainkey.example.org", "v=DKIM1; p=", 3600) == (
        's._domainkey.example.org. 3600 IN TXT "v=DKIM1; p="\n'
    )


def test_a_record_of_two_strings() -> None:
    assert zone_text("example.org", "x" * 256, 60) == f'example.org. 60 IN TXT (\n\t"{"x" * 255}"\n\t"x"\n)\n'


@pytest.mark.parametrize(
    "record", [rsa_pair().record, rsa_pair(4096).record, ed25519_pair().record], ids=["rsa 2048", "rsa 4096", "ed25519"]
)
def test_a_zone_with_the_record_has_the_key(record: bytes) -> None:
    answer = zone_resolver(zone_text(KEY_NAME, record.decode(), 3600)).lookup(KEY_NAME, "TXT")

    assert (answer.texts, answer.ttl) == ((record,), 3600)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=600))
def test_any_text_comes_back(record: str) -> None:
    zone = zone_resolver(zone_text(KEY_NAME, record, 3600) + zone_text("other.example", "after", 3600))

    assert zone.lookup(KEY_NAME, "TXT").texts == (record.encode(),)
    assert zone.lookup("other.example", "TXT").texts == (b"after",)
