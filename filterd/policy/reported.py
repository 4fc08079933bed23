"""What another server's results say of a method, as one word of that method.

Whether that server is to be believed is the caller's to know.
"""

from collections.abc import Iterable

from filterd.authres.result import MethodResult, Property
from filterd.dkim.verify import DkimCode
from filterd.mail.message import Author
from filterd.mail.transaction import ReversePath

# Which of several signatures speaks for the mail: the best word wins, in this order.
_DKIM_ORDER = tuple(DkimCode(code) for code in ("pass", "policy", "temperror", "fail", "neutral", "permerror"))


def reported(results: Iterable[MethodResult], method: str, words: Iterable[str], sender: ReversePath | None) -> str:
    """The word of a method; empty where there is none, none that is known, or not one."""
    null = sender is not None and sender.null
    codes = {each.code for each in results if each.method == method and (null or not _of_helo(each))}
    known = codes.intersection(words)
    if method == "dkim":
        return dkim_word({DkimCode(code) for code in known}) if known else ""
    return known.pop() if len(codes) == len(known) == 1 else ""


def of_author(result: MethodResult, author: Author | None) -> bool:
    """Whether it is about this very author: who passes mail on, as a service for many does, may change its From."""
    domain = author.domain if author is not None else None
    return domain is not None and any(
        Property(each.ptype, each.name, each.value.lower()) == Property("header", "from", domain.name)
        for each in result.properties
    )


def dkim_word(codes: set[DkimCode]) -> str:
    """The word of several signatures."""
    return next((code.value for code in _DKIM_ORDER if code in codes), DkimCode.NONE.value)


def _of_helo(result: MethodResult) -> bool:
    """Whether it is SPF of the HELO name, which says nothing about a sender that is not null (CVE-2019-20790)."""
    return result.method == "spf" and {each.name for each in result.properties if each.ptype == "smtp"} == {"helo"}
