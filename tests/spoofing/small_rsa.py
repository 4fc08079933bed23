"""RSA as an attacker does it: with a key that is small enough to be factored, and without any key at all."""

from dataclasses import dataclass
from hashlib import sha1, sha256

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from dkim_mail import rsa_pair

# RFC 8017 9.2, note 1.
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
_SHA1 = bytes.fromhex("3021300906052b0e03021a05000414")


@dataclass(frozen=True)
class Rsa:
    """A key; `private` is the private exponent, 0 where nobody but its owner has it."""

    modulus: int
    private: int

    def sign(self, octets: bytes, by_sha1: bool = False) -> bytes:
        """Sign by RSASSA-PKCS1-v1_5 (RFC 8017 8.2.1)."""
        size = (self.modulus.bit_length() + 7) // 8
        digest = _SHA1 + sha1(octets).digest() if by_sha1 else _SHA256 + sha256(octets).digest()
        padded = b"\0\1" + b"\xff" * (size - 3 - len(digest)) + b"\0" + digest
        return pow(int.from_bytes(padded, "big"), self.private, self.modulus).to_bytes(size, "big")

    def forge(self, octets: bytes) -> bytes:
        """What verifiers took for a signature by a key with the exponent 3 who ignored what follows the hash.

        Daniel Bleichenbacher, 2006 (CVE-2006-4339): a number whose cube begins as the padded hash does.
        """
        size = (self.modulus.bit_length() + 7) // 8
        beginning = b"\0\1" + b"\xff" * 8 + b"\0" + _SHA256 + sha256(octets).digest()
        return _cube_root(int.from_bytes(beginning + b"\xff" * (size - len(beginning)), "big")).to_bytes(size, "big")


def of_pem(pem: bytes) -> Rsa:
    """The numbers of a private key."""
    numbers = load_pem_private_key(pem, None).private_numbers()  # type: ignore[union-attr]
    return Rsa(numbers.public_numbers.n, numbers.d)


def _cube_root(number: int) -> int:
    """The largest number whose cube is no larger."""
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle - 1)
    return low


_P = 0xC2738276C8F8409A58D56ADDDA92EF06D2E89F92C6AA0D0F89CB279B9131848D
_Q = 0xD53802CAF25BED64B0D905BAC948E6D7884CB51D62C8CF5456740A028E3A67E5
#: 512 bits: factored for 75 dollars in 2015 (Valenta and others, "Factoring as a Service").
WEAK = Rsa(_P * _Q, pow(65537, -1, (_P - 1) * (_Q - 1)))
#: The exponent is 3.
CUBE = Rsa(of_pem(rsa_pair(2048).pem).modulus, 0)
