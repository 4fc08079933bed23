"""Between dnspython's names and records and the values of an Answer; knows nothing of where records come from."""

import dns.exception
import dns.name
import dns.rdata
from dns.rdtypes.mxbase import MXBase
from dns.rdtypes.nsbase import NSBase
from dns.rdtypes.txtbase import TXTBase


def name_of(text: str) -> dns.name.Name | None:
    """The absolute name that a text stands for, in lower case; None for what cannot be asked (RFC 1035 2.3.4).

    Dots separate labels and nothing is an escape: names come from macros and mail, and what stands in them must not
    choose where labels end.
    """
    try:
        labels = text.lower().removesuffix(".").encode("ascii").split(b".")
        return dns.name.Name((*labels, b""))
    except (UnicodeEncodeError, dns.exception.DNSException):
        return None


def text_of(name: dns.name.Name) -> str:
    """A name as text in lower case, without the final dot; odd octets are escaped as in master files (RFC 1035 5.1)."""
    return name.to_text(omit_final_dot=True).lower()


def value_of(rdata: dns.rdata.Rdata) -> bytes | str:
    """A record's data as Answer has it."""
    if isinstance(rdata, TXTBase):
        return b"".join(rdata.strings)
    if isinstance(rdata, MXBase):
        return f"{rdata.preference} {text_of(rdata.exchange)}"
    if isinstance(rdata, NSBase):  # PTR, CNAME and NS
        return text_of(rdata.target)
    return rdata.to_text()
