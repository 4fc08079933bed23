"""The Received-SPF field's value (RFC 7208 9.1): what was checked, for whom, and what came out.

Nothing remote gets into it but through one quoting function.
"""

import re

from filterd.mail.address import Mailbox
from filterd.mail.transaction import IPAddress
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult

_MAX_VALUE = 320  # characters of one value; a line has at most 998 (RFC 5322 2.1.1)
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_UNPRINTABLE = re.compile(r"[^ -~]")
_SPECIAL = re.compile(r'(["\\])')

_COMMENTS = {
    SpfCode.PASS: "{ip} may send for {domain}",
    SpfCode.FAIL: "{ip} may not send for {domain}",
    SpfCode.SOFTFAIL: "{ip} probably may not send for {domain}",
    SpfCode.NEUTRAL: "{domain} does not say whether {ip} may send",
    SpfCode.NONE: "{domain} has no SPF record",
    SpfCode.TEMPERROR: "the check of {domain} failed for now",
    SpfCode.PERMERROR: "the SPF record of {domain} cannot be used",
}


def received_spf(result: SpfResult, receiver: str, ip: IPAddress, sender: Mailbox | None, helo: str) -> str:
    """The value after "Received-SPF: ", folded with line feed and tab.

    `receiver` is the name of the host that checked; `sender` is None for the null path.
    """
    domain = str(result.domain) if result.domain else "the name given"
    comment = _COMMENTS[result.code].format(ip=ip, domain=domain)
    pairs = [("receiver", receiver), ("identity", result.identity.value), ("client-ip", str(ip)), ("helo", helo)]
    if result.identity is SpfIdentity.MAILFROM:
        pairs.append(("envelope-from", str(sender) if sender else f"postmaster@{helo}"))
    if result.mechanism:
        pairs.append(("mechanism", result.mechanism))
    if result.reason:
        pairs.append(("problem", result.reason.value))
    return "\n\t".join((f"{result.code} ({comment})", *(f"{key}={_quoted(value)};" for key, value in pairs)))


def _quoted(value: str) -> str:
    # RFC 7208 9.1: dot-atom / quoted-string.
    if len(value) <= _MAX_VALUE and _DOT_ATOM.fullmatch(value):
        return value
    visible = _UNPRINTABLE.sub("?", value[:_MAX_VALUE])
    return '"' + _SPECIAL.sub(r"\\\1", visible) + '"'
