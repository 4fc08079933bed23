"""A list file: what one line says, and whether something is in the list, as fast for a million lines as for ten.

A line is a network or an address (192.0.2.0/24), a domain (example.org), all domains below one (*.example.org or
.example.org), a mail address (anna@example.org) or all of a domain (@example.org). Empty lines and what stands behind
a # are nothing. Opens no files.
"""

import re
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from filterd.mail.domain import Domain, DomainError

#: More lines are refused.
MAX_LINES = 5_000_000

# What needs no closer look; all else is read by the modules for it.
_PLAIN_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,20}[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IPV4 = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:/(\d{1,2}))?")
_NETWORK = re.compile(r"[0-9.]+(?:/[0-9.]+)?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:/\d+)?")


class ListFileError(ValueError):
    """A line of a list file is none; `line` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


class ListFile:
    """The entries of one list file. Read-only once made."""

    def __init__(self, text: str) -> None:
        """Raises ListFileError."""
        #: Domains, and mail addresses; those of a whole domain begin with the at-sign.
        self._names: set[str] = set()
        self._below: set[str] = set()
        # By bits of the address family, then by length of the prefix, the longest first: networks' first bits.
        self._networks: dict[int, dict[int, set[int]]] = {32: {}, 128: {}}
        lines = text.splitlines()
        if len(lines) > MAX_LINES:
            raise ListFileError(MAX_LINES + 1, f"a list has at most {MAX_LINES} lines")
        for number, line in enumerate(lines, 1):
            entry = line.partition("#")[0].strip()
            if entry:
                try:
                    self._add(entry)
                except ValueError as error:
                    raise ListFileError(number, str(error)) from None

    def __len__(self) -> int:
        networks = sum(len(found) for by in self._networks.values() for found in by.values())
        return len(self._names) + len(self._below) + networks

    def has(self, text: str) -> bool:
        """Whether an address, a domain or a mail address is in the list. Text that is none of them is in no list."""
        if not text or len(text) > 1024:
            return False
        if "@" in text:
            address = text.lower()
            return address in self._names or address[address.rindex("@") :] in self._names
        if ":" in text or _IPV4.fullmatch(text):
            return self._has_address(text)
        name = text.lower().removesuffix(".")
        if name in self._names:
            return True
        while self._below and "." in name:
            name = name.partition(".")[2]
            if name in self._below:
                return True
        return False

    def _has_address(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        bits = 32 if isinstance(address, IPv4Address) else 128
        number = int(address)
        return any(number >> (bits - length) in found for length, found in self._networks[bits].items())

    def _add(self, entry: str) -> None:
        if _PLAIN_DOMAIN.fullmatch(entry):
            self._names.add(entry)
        elif found := _IPV4.fullmatch(entry):
            self._add_ipv4(entry, found)
        elif _NETWORK.fullmatch(entry):
            network = ip_network(entry)
            self._add_network(network.max_prefixlen, network.prefixlen, int(network.network_address))
        elif "@" in entry:
            local, _, domain = entry.rpartition("@")
            if any(char.isspace() for char in local):
                raise ValueError("a mail address has no spaces")
            self._names.add(f"{local.lower()}@{_domain(domain)}")
        elif entry[:2] == "*." or entry[:1] == ".":
            self._below.add(_domain(entry.removeprefix("*").removeprefix(".")))
        else:
            self._names.add(_domain(entry))

    def _add_ipv4(self, entry: str, found: re.Match[str]) -> None:
        a, b, c, d = int(found[1]), int(found[2]), int(found[3]), int(found[4])
        length = int(found[5]) if found[5] else 32
        number = a << 24 | b << 16 | c << 8 | d
        if max(a, b, c, d) > 255 or length > 32 or number & ((1 << (32 - length)) - 1):
            ip_network(entry)  # it knows what to say
        self._add_network(32, length, number)

    def _add_network(self, bits: int, length: int, number: int) -> None:
        self._networks[bits].setdefault(length, set()).add(number >> (bits - length))


class FileDigests:
    """Files that are read for a policy, and what tells them from others. `read` raises ValueError."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self._found: dict[str, str] = {}

    def read(self, file: str) -> bytes:
        """Raises ValueError."""
        octets = self._read(file)
        self._found[file] = sha256(octets).hexdigest()
        return octets

    def digests(self) -> list[str]:
        """In the order of the files' names."""
        return [digest for _, digest in sorted(self._found.items())]


class Lists:
    """The list files of a policy, each read once. `read` raises ValueError."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._files = FileDigests(read)
        self._found: dict[str, ListFile] = {}

    def find(self, file: str) -> ListFile:
        """Raises ListFileError, and ValueError where it cannot be read."""
        if file not in self._found:
            octets = self._files.read(file)
            try:
                self._found[file] = ListFile(octets.decode())
            except UnicodeDecodeError:
                raise ValueError(f"{file} is not UTF-8 text") from None
        return self._found[file]

    def digests(self) -> list[str]:
        """What tells these lists from others."""
        return self._files.digests()


def _domain(text: str) -> str:
    try:
        return Domain.parse(text).name
    except DomainError as error:
        raise ValueError(f"{error}; a line is an address, a network, a domain or a mail address") from None
