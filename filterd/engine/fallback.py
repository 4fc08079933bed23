"""What becomes of a mail when something that should have judged it could not: as the policy declares."""

from filterd.dmarc.evaluate import DmarcCode
from filterd.dnsbl import ListCode
from filterd.mail.reason import Reason
from filterd.mail.reply import Reply
from filterd.policy.reputation import list_results
from filterd.policy.results import Results
from filterd.policy.schema import PolicyFile
from filterd.policy.verdict import Disposition, Verdict
from filterd.spam import SpamCode

#: The rule of verdicts that stand for a fault of our own.
ON_ERROR = "server.on_error"
_OWN_FAULT = {
    "defer": Verdict(Disposition.DEFER, Reply(451, "4.3.0", "cannot judge this mail now, try again later"), ON_ERROR),
    "reject": Verdict(Disposition.REJECT, Reply(554, "5.3.0", "cannot judge this mail"), ON_ERROR),
    "accept": Verdict(Disposition.ACCEPT, None, ON_ERROR),
}
_DNS_FAULT = {
    "defer": Verdict(
        Disposition.DEFER, Reply(451, "4.4.3", "a DNS answer is missing, try again later"), "dns.on_error"
    ),
    "reject": Verdict(Disposition.REJECT, Reply(550, "5.4.3", "a DNS answer is missing"), "dns.on_error"),
    "accept": Verdict(Disposition.ACCEPT, None, "dns.on_error"),
}


def own_fault(settings: PolicyFile) -> Verdict:
    """filterd itself failed."""
    return _OWN_FAULT[settings.server.on_error]


def not_judged(settings: PolicyFile, results: Results) -> Verdict | None:
    """Something could not be found out, and no rule decided. None where all was, or the policy says skip."""
    if results.dmarc is not None and results.dmarc.code is DmarcCode.TEMPERROR:
        if results.dmarc.reason is Reason.CHECK_FAILED:
            return own_fault(settings)
        if settings.dns.on_error in _DNS_FAULT:
            return _DNS_FAULT[settings.dns.on_error]
    return _no_list(settings, results) or _no_scanner(settings, results)


def _no_list(settings: PolicyFile, results: Results) -> Verdict | None:
    said = list_results(results) if settings.dnsbl else {}
    for entry in settings.dnsbl:
        found = said.get(entry.listing)
        if found is not None and found.code in (ListCode.TEMPERROR, ListCode.REFUSED) and entry.on_error != "skip":
            return _fault(entry.on_error, "dnsbl.on_error", "4.3", f"the list {entry.zone} cannot be asked")
    return None


def _no_scanner(settings: PolicyFile, results: Results) -> Verdict | None:
    if settings.spamd is None or results.spam is None or results.spam.code is not SpamCode.TEMPERROR:
        return None
    on_error = settings.spamd.on_error
    return None if on_error == "skip" else _fault(on_error, "spamd.on_error", "3.0", "the content cannot be judged")


def _fault(on_error: str, rule: str, status: str, text: str) -> Verdict:
    """`status` is an enhanced status code without its class."""
    if on_error == "defer":
        return Verdict(Disposition.DEFER, Reply(451, f"4.{status}", f"{text} now, try again later"), rule)
    if on_error == "reject":
        return Verdict(Disposition.REJECT, Reply(550, f"5.{status}", text), rule)
    return Verdict(Disposition.ACCEPT, None, rule)


def not_signed(reason: Reason | None) -> Verdict:
    """Mail that should be signed leaves signed, or later."""
    rule = "sign.failed" if reason is Reason.SIGN_FAILED else "sign.on_unpublished"
    reply = Reply(451, "4.7.5", "this mail cannot be signed now, try again later")
    return Verdict(Disposition.DEFER, reply, rule)


#: Rules took the last recipient away: said aloud, as the MTA would lose such a mail without a word.
NO_RECIPIENT = Verdict(Disposition.DISCARD, None, "recipients.none-left")

#: The header section is larger than is judged: trying again would not help (RFC 3463 X.3.4).
HEADER_TOO_LARGE = Verdict(
    Disposition.REJECT, Reply(552, "5.3.4", "the header section is too large"), "header.too-large"
)
