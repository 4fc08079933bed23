"""The mails that all filters are given, the key that signed them, and the zone that proves it."""

import random
from dataclasses import dataclass
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from filterd.dkim.sign import SigningKey

DOMAIN, SELECTOR, CLIENT = "example.org", "sel", "192.0.2.1"
_HEADER = b"""\
Received: from a.example.org (a.example.org [192.0.2.5])
	by b.example.org (Postfix) with ESMTPS id 4XYZ1
	for <bob@example.net>; Mon, 23 Nov 2026 18:00:00 +0000
Received: from c.example.org (c.example.org [192.0.2.6])
	by a.example.org (Postfix) with ESMTPSA id 4XYZ2
	for <bob@example.net>; Mon, 23 Nov 2026 17:59:58 +0000
From: Alice <alice@example.org>
To: Bob <bob@example.net>
Subject: what became of the figures of October
Date: Mon, 23 Nov 2026 18:00:00 +0000
Message-ID: <20261123180000.1@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
Reply-To: alice@example.org
User-Agent: Mutt/2.2.9
"""
_SIGNED = [b"from", b"to", b"subject", b"date", b"reply-to", b"mime-version", b"content-type", b"message-id"]
_WORDS = b"lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor".split()


@dataclass(frozen=True, slots=True)
class Kind:
    """A mail: the octets of its body, how often and in which form it is signed, and how many fields more it has."""

    size: int
    signatures: int = 1
    form: str = "relaxed"
    fields: int = 0

    def __str__(self) -> str:
        size = f"{self.size // 1_000_000} MB" if self.size >= 1_000_000 else f"{self.size // 1000} kB"
        many = f", {self.signatures} signatures" if self.signatures > 1 else ""
        return size + many + (", simple" if self.form == "simple" else "")


class Mails:
    """Makes mails in a folder, with a key of its own."""

    def __init__(self, folder: Path, rounds: int = 0, strangers: int = 0) -> None:
        """`rounds` times so many `strangers` send mail once: see `by_strangers`."""
        self._folder = folder
        self._strangers = [f"d{each}.r{number}" for number in range(rounds) for each in range(strangers)]
        key = generate_private_key(65537, 2048)
        self.key = folder / "key.pem"
        # OpenDKIM and dkimpy read PKCS#1.
        self.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
        self.key.chmod(0o600)

    def zone(self) -> str:
        """What DNS has of the authors' domains, as a master file without its SOA record."""
        return self._records("@") + "".join(self._records(each) for each in self._strangers)

    def _records(self, name: str) -> str:
        record = SigningKey.load(self.key.read_bytes(), min_rsa_bits=2048).public_record()
        strings = " ".join(f'"{record[start : start + 200]}"' for start in range(0, len(record), 200))
        below = "" if name == "@" else f".{name}"
        return (
            f'{name} TXT "v=spf1 include:_spf{below}.{DOMAIN}. -all"\n_spf{below} TXT "v=spf1 ip4:192.0.2.0/24 -all"\n'
            f'_dmarc{below} TXT "v=DMARC1; p=reject"\nmx{below} A {CLIENT}\n'
            f"{SELECTOR}._domainkey{below} TXT {strings}\n"
        )

    def unsigned(self, kind: Kind) -> Path:
        """As it comes from our own users."""
        return self._file(f"unsigned-{kind.size}-{kind.fields}", _mail(kind.size, kind.fields))

    def signed(self, kind: Kind) -> Path:
        """As it comes from a stranger."""
        name = f"signed-{kind.size}-{kind.signatures}-{kind.form}-{kind.fields}"
        return self._file(name, self._with_signatures(_mail(kind.size, kind.fields), kind, DOMAIN))

    def by_strangers(self, number: int) -> tuple[list[Path], str]:
        """5 kB mails of a round, each by an author of a domain of its own, and their sender, as loadgen takes it."""
        names = [each for each in self._strangers if each.endswith(f".r{number}")]
        files = []
        for each in names:
            domain = f"{each}.{DOMAIN}"
            mail = _mail(5_000).replace(b"alice@" + DOMAIN.encode(), b"alice@" + domain.encode())
            files.append(self._file(each, self._with_signatures(mail, Kind(5_000), domain)))
        return files, f"alice@d%.r{number}.{DOMAIN}"

    def _with_signatures(self, mail: bytes, kind: Kind, domain: str) -> bytes:
        form = kind.form.encode()
        fields = b""
        for _ in range(kind.signatures):
            fields += dkim.sign(
                mail, SELECTOR.encode(), domain.encode(), self.key.read_bytes(),
                canonicalize=(form, form), include_headers=_SIGNED,
            )  # fmt: skip
        return fields + mail

    def _file(self, name: str, mail: bytes) -> Path:
        file = self._folder / f"{name}.eml"
        file.write_bytes(mail)
        return file


def _mail(size: int, fields: int = 0) -> bytes:
    words = random.Random(size)  # noqa: S311 # the same mail each time
    lines, made = [], 0
    while made < size:
        line = b" ".join(words.choice(_WORDS) for _ in range(11))
        lines.append(line)
        made += len(line) + 2
    more = b"".join(b"X-Field-%d: of no meaning to anybody, but there\n" % each for each in range(fields))
    return (_HEADER + more + b"\n").replace(b"\n", b"\r\n") + b"\r\n".join(lines) + b"\r\n"
