"""The file of users: hashes only, and a wrong line is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.mta.users import HashedUsers, UserFileError, hash_password, is_name, read_users

# Fixed: a hash that a postmaster's file holds goes on being good, and each run has the same tests (xdist insists).
_HASH = "$scrypt$ln=14,r=8,p=5$DRsNF+s/EqD9t1UelZgSdQ$Df5KWyk0rgfv/aI/4wtqFfnWtMRFkqzGZdiszeoLaW4"


def test_a_password_goes_with_its_own_name() -> None:
    users = HashedUsers({"alice": _HASH, "bob": hash_password("pässwörd")})

    assert users("alice", "secret")
    assert users("bob", "pässwörd")
    assert not users("alice", "Secret")
    assert not users("bob", "secret")
    assert not users("eve", "secret")
    assert not users("eve", "")


def test_two_hashes_of_one_password_differ() -> None:
    assert hash_password("secret") != hash_password("secret")


def test_a_file() -> None:
    assert read_users(f"# ours\n\nalice@example.org:{_HASH}\nbob:{_HASH}\n") == {
        "alice@example.org": _HASH,
        "bob": _HASH,
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("alice", "NAME:HASH"),
        (f":{_HASH}", "NAME:HASH"),
        (f"a b:{_HASH}", "NAME:HASH"),
        ("alice:secret", "scrypt"),
        (f"alice:{_HASH}x!", "scrypt"),
        ("alice:" + _HASH.replace("ln=14", "ln=19"), "scrypt"),
        ("alice:" + _HASH.replace("r=8", "r=0"), "scrypt"),
        ("alice:" + _HASH.replace("p=5", "p=99"), "scrypt"),
        (f"bob:{_HASH}", "twice"),
    ],
)
def test_a_line_that_is_wrong(line: str, says: str) -> None:
    with pytest.raises(UserFileError, match=says) as caught:
        read_users(f"bob:{_HASH}\n{line}\n")

    assert caught.value.line == 2


@given(st.text(max_size=60) | st.text(st.sampled_from("a:$scrypt=ln14,rp85/\n"), max_size=80))
def test_any_text_is_users_or_an_error(text: str) -> None:
    try:
        users = read_users(text)
    except UserFileError:
        return

    assert all(map(is_name, users))
