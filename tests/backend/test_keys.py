"""Key files: start with a good one, change one thing; what is written is private, whole and new."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from dkim_mail import ed25519_pair, rsa_pair

from filterd.backend.keys import (
    MAX_SIZE,
    KeyFileError,
    load_key,
    new_key,
    owner_for,
    parse_key,
    read_key,
    write_key,
)
from filterd.dkim.key_record import KeyType
from filterd.dkim.signature import Algorithm

PEM = rsa_pair().pem


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "example.org.r2026.pem"
    write_key(path, PEM)
    return path


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(KeyFileError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("pem", "algorithm", "bits"),
    [
        (PEM, Algorithm.RSA_SHA256, 2048),
        (ed25519_pair().pem, Algorithm.ED25519_SHA256, 256),
        (PEM.replace(b"\n", b"\r\n"), Algorithm.RSA_SHA256, 2048),
        (b"# a comment\n\n" + PEM, Algorithm.RSA_SHA256, 2048),
    ],
)
def test_a_key(key: Path, pem: bytes, algorithm: Algorithm, bits: int) -> None:
    key.write_bytes(pem)

    loaded = load_key(key)

    assert (loaded.algorithm, loaded.bits) == (algorithm, bits)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_the_owner_may_write_and_the_group_may_read(key: Path, mode: int) -> None:
    key.chmod(mode)

    assert load_key(key).bits == 2048


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o660, 0o620, 0o644, 0o666])
def test_nobody_else_may_anything(key: Path, mode: int) -> None:
    key.chmod(mode)

    said = error_of(lambda: load_key(key))

    assert said == f"{key}: is open to more than its owner (mode {mode:04o}); chmod 0600 is right, or 0640"
    assert read_key(key) == PEM


def test_a_symbolic_link_is_as_good_as_its_target(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(key)

    assert load_key(link).bits == 2048

    key.chmod(0o644)

    assert "open to more than its owner" in error_of(lambda: load_key(link))


def pem_of(key: object, encryption: object = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no unencrypted private key in PEM"),
        (b"\x00" * 100, "no unencrypted private key in PEM"),
        (PEM[:-60], "no unencrypted private key in PEM"),
        (rsa_pair().record, "no unencrypted private key in PEM"),
        (pem_of(generate_private_key(65537, 2048), BestAvailableEncryption(b"x")), "no unencrypted private key in PEM"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "RSA or Ed25519 keys only"),
        (rsa_pair(1024).pem, "the RSA key has 1024 bits; 2048 to 4096 are allowed"),
        (PEM + b"\n" * MAX_SIZE, "larger than 64 KiB"),
    ],
)
def test_what_is_no_key_to_sign_with(key: Path, content: bytes, says: str) -> None:
    key.write_bytes(content)

    said = error_of(lambda: load_key(key))

    assert said.startswith(f"{key}: ")
    assert says in said


def test_a_text_is_judged_as_a_file_is(key: Path) -> None:
    assert parse_key(PEM, key).bits == 2048
    assert error_of(lambda: parse_key(b"x", key)) == f"{key}: the file is no unencrypted private key in PEM"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)

    assert (
        error_of(lambda: load_key(tmp_path / "none")) == f"{tmp_path}/none: cannot be read: No such file or directory"
    )
    assert error_of(lambda: load_key(tmp_path)) == f"{tmp_path}: is no regular file"
    assert error_of(lambda: load_key(fifo)) == f"{fifo}: is no regular file"
    assert error_of(lambda: load_key(Path("a\0b"))) == "'a\\x00b': is no file name"


@pytest.mark.parametrize(
    ("kind", "bits", "algorithm", "length"),
    [
        (KeyType.RSA, 2048, Algorithm.RSA_SHA256, 2048),
        (KeyType.RSA, 3072, Algorithm.RSA_SHA256, 3072),
        (KeyType.ED25519, 2048, Algorithm.ED25519_SHA256, 256),
    ],
)
def test_a_new_key(tmp_path: Path, kind: KeyType, bits: int, algorithm: Algorithm, length: int) -> None:
    path = tmp_path / "new.pem"
    write_key(path, new_key(kind, bits))

    loaded = load_key(path)

    assert (loaded.algorithm, loaded.bits) == (algorithm, length)
    assert new_key(kind) != new_key(kind)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_written_key_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_key(tmp_path / "key.pem", PEM)
    finally:
        os.umask(before)

    status = (tmp_path / "key.pem").stat()

    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_uid, status.st_gid) == (os.geteuid(), tmp_path.stat().st_gid)


def test_nothing_is_overwritten(key: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.pem"
    link.symlink_to(tmp_path / "elsewhere")

    assert error_of(lambda: write_key(key, b"other")) == f"{key}: exists already, and is not overwritten"
    assert "exists already" in error_of(lambda: write_key(link, b"other"))
    assert key.read_bytes() == PEM
    assert not (tmp_path / "elsewhere").exists()


def test_a_failure_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "key.pem"

    assert error_of(lambda: write_key(path, PEM)) == f"{path}: cannot be written: No space left on device"
    assert not path.exists()


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "none" / "key.pem"

    assert error_of(lambda: write_key(path, PEM)) == f"{path}: cannot be written: No such file or directory"
    assert error_of(lambda: owner_for(tmp_path / "none", None)) == f"{tmp_path}/none: No such file or directory"


def test_whose_a_new_key_is(tmp_path: Path) -> None:
    """Root works for the daemon's user, whose folder it is; others can only work for themselves."""
    root = pwd.getpwuid(0)
    status = tmp_path.stat()

    assert owner_for(tmp_path, None) == ((status.st_uid, status.st_gid) if os.geteuid() == 0 else None)
    assert owner_for(tmp_path, "root") == (0, root.pw_gid)
    assert owner_for(tmp_path, "root:daemon") == (0, grp.getgrnam("daemon").gr_gid)


@pytest.mark.parametrize("name", ["no such user", "root:no such group", ""])
def test_an_owner_that_does_not_exist(tmp_path: Path, name: str) -> None:
    assert error_of(lambda: owner_for(tmp_path, name)) == f"{name}: there is no such user or group here"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_is_given_to_its_owner(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)
    path = tmp_path / "key.pem"
    write_key(path, PEM, owner_for(tmp_path, None))

    status = path.stat()

    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (nobody.pw_uid, nobody.pw_gid, 0o600)
