"""Whether Postfix changes mail before filterd judges it, or after filterd has signed it. Reads Postfix's tables."""

from collections.abc import Iterator

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
_TAKE_OUT = "Take the line out of"


def signatures(config: Config, place: Ours) -> Iterator[Finding]:
    """What breaks signatures."""
    if place.milter is None:
        return
    yield from _before(config)
    yield from _added(config)
    yield from _after(config)
    yield from _smuggling(config)


def _before(config: Config) -> Iterator[Finding]:
    for name in _TABLES:
        for line in changing_lines(config.value(name)):
            # No signature covers Received: every server adds one.
            if line.fields and set(line.fields) <= {"received"}:
                continue
            yield _line(
                Severity.WARNING,
                "header-checks",
                f"{name} changes mail before filterd sees it",
                "Signatures that cover it fail: honest mail is judged as forged. A rule with remove_header does the "
                "same after judging.",
                line,
            )
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
    for line in changing_lines(config.value("milter_header_checks")):
        if line.matches(_ADDED):
            what = "milter_header_checks changes what filterd adds"
            happens = "Signatures, or the results that filters and readers go by, do not arrive."
            yield _line(Severity.ERROR, "milter-header-checks", what, happens, line)


def _after(config: Config) -> Iterator[Finding]:
    clients: list[Service | None] = [None, *(each for each in config.services if each.command in ("smtp", "lmtp"))]
    seen: set[object] = set()
    for service in clients:
        for name in (f"smtp_{table}" for table in _TABLES):
            for line in changing_lines(config.value(name, service)):
                harmless = "body" not in name and line.fields and not set(line.fields) & _SIGNED
                if harmless or (name, line) in seen:
                    continue
                seen.add((name, line))
                what = f"{name} changes mail after filterd has signed it"
                happens = "Your signatures fail at the receivers, and with them DMARC."
                yield _line(Severity.ERROR, "smtp-header-checks", what, happens, line)
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


def _line(severity: Severity, name: str, what: str, happens: str, line: ChangingLine) -> Finding:
    file, _, _ = line.place.rpartition(":")
    return Finding(severity, name, what, happens, f"{_TAKE_OUT} {file}", (line.text.removeprefix(f"{file}:"),))


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
