"""DNS answers from a master file (RFC 1035 5), for `--zone`, the tests of a policy, and the demo's name server.

One text may hold records of many domains; what it does not have does not exist. A TTL may be left out. A comment line

    ; fails: example.org

says that nobody answers for that name and the names below it. Knows nothing of the network.
"""

import re
from typing import Any

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tokenizer
import dns.zonefile

from filterd.backend.records import name_of, value_of
from filterd.lookup import Answer, Outcome
from filterd.mail.reason import Reason

_DEFAULT_TTL = 300  # seconds
_MAX_CHAIN = 10  # CNAMEs that are followed
_FAILS = re.compile(r"^;[ \t]*fails:[ \t]*(\S+)[ \t\r]*$", re.MULTILINE)

_Node = dict[dns.rdatatype.RdataType, dns.rrset.RRset]


class ZoneFileError(ValueError):
    """The text is no master file: `line` counts from 1, `text` says what is wrong there."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


def zone_resolver(text: str, origin: str = "") -> "ZoneFile":
    """Read a master file; `origin` completes relative names until the file says $ORIGIN itself.

    $ORIGIN and $TTL are the directives that are understood. Raises ZoneFileError.
    """
    reader = _read(text, origin)
    failing = frozenset(name for found in _FAILS.findall(text) if (name := name_of(found)) is not None)
    return ZoneFile(reader.nodes, failing)


class ZoneFile:
    """A Resolver that has all its answers from one master file."""

    def __init__(self, nodes: dict[dns.name.Name, _Node], failing: frozenset[dns.name.Name]) -> None:
        self._failing = failing
        self._nodes: dict[dns.name.Name, _Node] = {dns.name.root: {}}
        for name, node in nodes.items():
            self._nodes[name] = node
            # A name above an existing one exists too (RFC 8020).
            while name != dns.name.root and (name := name.parent()) not in self._nodes:
                self._nodes[name] = nodes.get(name, {})

    def lookup(self, name: str, rdtype: str) -> Answer:
        asked = name_of(name)
        name = name.lower().removesuffix(".")
        if asked is None:
            return Answer(name, rdtype, Outcome.NXDOMAIN, reason=Reason.DNS_BAD_NAME)
        outcome, chain = self.find(asked, dns.rdatatype.from_text(rdtype))
        if outcome is Outcome.TEMPFAIL:
            return Answer(name, rdtype, outcome, reason=Reason.DNS_SERVFAIL)
        values = tuple(value_of(rdata) for rdata in chain[-1]) if outcome is Outcome.FOUND else ()
        return Answer(name, rdtype, outcome, values, min((rrset.ttl for rrset in chain), default=0))

    def prefetch(self, name: str, rdtype: str) -> None:
        pass

    def find(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> tuple[Outcome, list[dns.rrset.RRset]]:
        """The records that answer a question: CNAMEs first, in their order, and what was asked for last."""
        chain: list[dns.rrset.RRset] = []
        while len(chain) <= _MAX_CHAIN:
            if any(name.is_subdomain(failing) for failing in self._failing):
                return Outcome.TEMPFAIL, []
            node = self._node(name)
            if node is None:
                return Outcome.NXDOMAIN, chain
            found = node.get(rdtype, node.get(dns.rdatatype.CNAME))
            if found is None:
                return Outcome.NODATA, chain
            rrset = dns.rrset.from_rdata_list(name, found.ttl, list(found))
            chain.append(rrset)
            if rrset.rdtype == rdtype:
                return Outcome.FOUND, chain
            name = rrset[0].target.canonicalize()
        return Outcome.TEMPFAIL, []

    def _node(self, name: dns.name.Name) -> _Node | None:
        encloser = name
        while encloser not in self._nodes:
            encloser = encloser.parent()
        if encloser == name:
            return self._nodes[name]
        # The wildcard right below the closest name that exists speaks for this one (RFC 4592 3.3.1).
        return self._nodes.get(dns.name.Name((b"*", *encloser.labels)))


class _Collected(dns.zonefile.RRsetsReaderTransaction):
    """Takes records as they are read. dnspython's own refuses a second SOA, and a file of many domains has some."""

    def __init__(self, origin: dns.name.Name) -> None:
        manager = dns.zonefile.RRSetsReaderManager(origin)
        super().__init__(manager, True, False)  # type: ignore[no-untyped-call]  # dnspython's, without types
        self.nodes: dict[dns.name.Name, _Node] = {}

    def add(self, *args: Any) -> None:
        name, ttl, rdata = args
        name = name.canonicalize()
        node = self.nodes.setdefault(name, {})
        if node and (rdata.rdtype == dns.rdatatype.CNAME or dns.rdatatype.CNAME in node):
            raise ValueError("a CNAME bears no other record of its name (RFC 1034 3.6.2)")
        rrset = node.setdefault(rdata.rdtype, dns.rrset.RRset(name, dns.rdataclass.IN, rdata.rdtype))
        rrset.add(rdata, ttl)


class _Tokenizer(dns.tokenizer.Tokenizer):
    """Knows the line at which the last token began: after a line's end dnspython tells the next one."""

    line = 1

    def get(self, *args: Any, **options: Any) -> dns.tokenizer.Token:
        if self.ungotten_token is None:
            self.line = self.line_number - (self.ungotten_char == "\n")
        return super().get(*args, **options)


def _read(text: str, origin: str) -> _Collected:
    base = name_of(origin) if origin else dns.name.root
    if base is None:
        raise ZoneFileError(1, "the origin is no domain name")
    tokens = _Tokenizer(text, "zone")
    collected = _Collected(base)
    reader = dns.zonefile.Reader(tokens, dns.rdataclass.IN, collected, allow_directives=("$ORIGIN", "$TTL"))
    # The zone is the root, so that no name is outside of it, whatever relative names are completed with.
    reader.zone_origin = dns.name.root
    # A TTL that is left out is the last one stated (RFC 1035 5.1): this one, before there is any.
    reader.last_ttl, reader.last_ttl_known = _DEFAULT_TTL, True
    try:
        reader.read()
    except (dns.exception.DNSException, ValueError) as error:
        found = re.sub(r"^zone:[0-9]+: ", "", str(error))
        unsaid = not found or found == dns.exception.SyntaxError.__doc__
        raise ZoneFileError(tokens.line, "the record cannot be read" if unsaid else found) from None
    return collected
