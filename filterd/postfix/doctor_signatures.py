"""Whether Postfix changes mail before filterd judges it, or after filterd has signed it. Reads Postfix's tables."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from filterd.dkim.sign import DEFAULT_FIELDS
from filterd.postfix.checks_table import ChangingLine, changing_lines
from filterd.postfix.config import Config, Service
from filterd.postfix.finding import RUN, Finding, Severity, setting
from filterd.postfix.plan import Ours

_SIGNED = {*DEFAULT_FIELDS.sealed, *DEFAULT_FIELDS.present}
_TABLES = ("header_checks", "mime_header_checks", "nested_header_checks", "body_checks")
_ADDED = (
    "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org",
    "Authentication-Results: mx.example.org; spf=pass",
    "ARC-Seal: i=1; a=rsa-sha256",
    "X-Filterd-Quarantine: rule",
    "X-Filterd-Tag: rule",
)


def signatures(config: Config, place: Ours) -> Iterator[Finding]:
    """What breaks signatures."""
    if place.milter is None:
        return
    yield from _before(config)
    yield from _added(config)
    yield from _after(config)
    yield from _smuggling(config)


def _before(config: Config) -> Iterator[Finding]:
    seen: set[ChangingLine] = set()
    for name in _TABLES:
        # No signature covers Received: every server adds one.
        lines = [line for line in changing_lines(config.value(name)) if line.fields != ("received",)]
        yield from _lines(
            Severity.WARNING,
            "header-checks",
            f"{name} changes mail before filterd sees it",
            "Signatures that cover it fail: honest mail is judged as forged. A rule with remove_header does the same "
            "after judging.",
            [line for line in lines if line not in seen],
        )
        seen.update(lines)
    domain = config.value("remote_header_rewrite_domain")
    if domain:
        yield Finding(
            Severity.WARNING,
            "remote-rewrite",
            f"Postfix completes addresses in strangers' mail (remote_header_rewrite_domain = {domain})",
            "It does so before filterd sees them: signatures over From and To fail.",
            RUN,
            (setting(config, None, "remote_header_rewrite_domain", ""),),
        )


def _added(config: Config) -> Iterator[Finding]:
    lines = [line for line in changing_lines(config.value("milter_header_checks")) if line.matches(_ADDED)]
    what = "milter_header_checks changes what filterd adds"
    happens = "Signatures, or the results that filters and readers go by, do not arrive."
    yield from _lines(Severity.ERROR, "milter-header-checks", what, happens, lines)


def _after(config: Config) -> Iterator[Finding]:
    clients: list[Service | None] = [None, *(each for each in config.services if each.command in ("smtp", "lmtp"))]
    seen: set[object] = set()
    for service in clients:
        for name in (f"smtp_{table}" for table in _TABLES):
            lines = [
                line
                for line in changing_lines(config.value(name, service))
                if "body" in name or not line.fields or set(line.fields) & _SIGNED
            ]
            what = f"{name} changes mail after filterd has signed it"
            happens = "Your signatures fail at the receivers, and with them DMARC."
            new = [line for line in lines if line not in seen]
            yield from _lines(Severity.ERROR, "smtp-header-checks", what, happens, new)
            seen.update(lines)
        maps = config.value("smtp_generic_maps", service)
        if maps and maps not in seen:
            seen.add(maps)
            yield Finding(
                Severity.WARNING,
                "generic-maps",
                f"Postfix rewrites addresses after filterd has signed them (smtp_generic_maps = {maps})",
                "From is among them: signatures of that mail fail at the receivers. canonical_maps does it before.",
                RUN,
                (
                    setting(config, service, "smtp_generic_maps", ""),
                    setting(config, None, "sender_canonical_maps", maps),
                ),
            )


def _lines(severity: Severity, name: str, what: str, happens: str, lines: Sequence[ChangingLine]) -> Iterator[Finding]:
    for file, some in groupby(lines, lambda line: line.file):
        yield Finding(severity, name, what, happens, f"Take out of {file}", tuple(line.text for line in some))


def _smuggling(config: Config) -> Iterator[Finding]:
    if config.values.get("smtpd_forbid_bare_newline") == "no":
        yield Finding(
            Severity.WARNING,
            "smuggling",
            "Postfix takes line ends that are none (smtpd_forbid_bare_newline = no)",
            "By SMTP smuggling a stranger sends mail in the name of the users of a server that both trust: SPF and "
            "DMARC pass.",
            RUN,
            (setting(config, None, "smtpd_forbid_bare_newline", "normalize"),),
        )
