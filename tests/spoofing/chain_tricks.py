"""ARC: what a forwarder whose seals are believed has said of another mail, or somebody else of this one (RFC 8617).

Sources: "Weak Links in Authentication Chains" A9 to A11, RFC 8617 9.
"""

from arc_mail import sealed_by_hand
from spoofing.cast import ATTACKER, ATTACKER_KEY, LIST, LIST_IP, VICTIM_KEY, Attack, Honest, mail

_KNOWN = "Weak Links A9, A10, A11; RFC 8617 9"
_OF_VICTIM, _OF_ATTACKER = (
    f"{LIST}; dmarc={found}" for found in ("pass header.from=bank.example", "pass header.from=evil.example")
)
_PLAIN, _FORGED = mail(b"From: <service@bank.example>"), mail(b"From: <ceo@bank.example>")


def by_list(message: bytes, instance: int = 1, found: str = _OF_VICTIM, **options: object) -> bytes:
    """The message with a set of the forwarder's."""
    cv = "none" if instance == 1 else "pass"
    return sealed_by_hand(message, instance, cv, found=found, domain=LIST, pair=VICTIM_KEY, **options)  # type: ignore[arg-type]


def by_attacker(message: bytes, instance: int = 1, found: str = _OF_VICTIM, domain: str = ATTACKER) -> bytes:
    """The message with a set of the attacker's."""
    cv = "none" if instance == 1 else "pass"
    return sealed_by_hand(message, instance, cv, found=found, domain=domain, pair=ATTACKER_KEY)


def attacks() -> list[Attack]:
    listed = by_list(_PLAIN)
    own = by_list(mail(b"From: <x@evil.example>"), found=_OF_ATTACKER)
    sets = {
        "sealed by the attacker": by_attacker(_FORGED),
        "sealed by the attacker as the list": by_attacker(_FORGED, domain=LIST),
        "sealed by the attacker as a name below the list": by_attacker(_FORGED, domain=f"x.{LIST}.{ATTACKER}"),
        "sealed by the attacker, above the list": by_attacker(by_list(_FORGED, found=f"{LIST}; dmarc=fail header.from=bank.example"), 2),
        "the list saw the attacker as author, From changed": own.replace(b"<x@evil.example>", b"<ceo@bank.example>"),
        "the list saw the attacker as author, From added": b"X: y\r\nFrom: <ceo@bank.example>\r\n" + own,
        "the list saw it fail": by_list(_FORGED, found=f"{LIST}; dmarc=fail header.from=bank.example"),
        "the list saw nothing": by_list(_FORGED, found=f"{LIST}; none"),
        "the list saw both": by_list(_FORGED, found=f"{LIST}; dmarc=fail header.from=bank.example; {_OF_ATTACKER.partition('; ')[2]}"),
        "the list saw another author": by_list(_FORGED, found=_OF_ATTACKER),
        "the list saw it of another method": by_list(_FORGED, found=f"{LIST}; x-dmarc=pass header.from=bank.example (dmarc=pass)"),
        "the list's results changed": by_list(_FORGED, found=f"{LIST}; dmarc=fail header.from=bank.example").replace(b"dmarc=fail", b"dmarc=pass"),
        "the list's mail changed": listed.replace(b"Please confirm", b"Please pay"),
        "the list's mail with another subject": b"X: y\r\nSubject: pay\r\n" + listed,
        "the list's results twice": b"ARC-Authentication-Results: i=1; " + _OF_VICTIM.encode() + b"\r\n" + by_list(_FORGED, found=f"{LIST}; none"),
        "the list did not sign From": by_list(_PLAIN, in_signature={"h": "to:subject:date"}),
        "the list signed a part of the body": by_list(_PLAIN, in_signature={"l": "0"}),
        "a set in front that is empty": b"ARC-Seal: i=2; cv=pass\r\n" + by_list(_FORGED, found=f"{LIST}; none"),
    }  # fmt: skip
    ends = {"the list saw the attacker as author, From added": "permerror author.several-fields"}
    return [
        Attack(f"chain: {name}", message, known=_KNOWN, twin="chain: a list's mail", ends=ends.get(name, "fail"))
        for name, message in sets.items()
    ]


def honest() -> list[Honest]:
    """DMARC fails for what a list has changed, and what the list saw counts instead."""
    return [
        Honest(f"chain: {name}", message, b"<bounce@lists.example>", b"lists.example", LIST_IP, ends="fail")
        for name, message in {
            "a list's mail": by_list(_PLAIN),
            "a list's mail, with its name": by_list(
                mail(b"List-Id: <l.lists.example>", b"From: Bank <service@bank.example>")
            ),
            "a list behind a list": by_list(by_attacker(_PLAIN), 2),
        }.items()
    ]
