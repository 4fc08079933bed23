"""Whether Postfix asks filterd about all mail, in time, first, and with what it needs to know. Pure."""

from collections.abc import Iterator

from filterd.policy.schema import Server
from filterd.postfix.config import Config, Milter, Service, asked, items, milters, same
from filterd.postfix.finding import RUN, Finding, Severity, asking, attached, setting, sites
from filterd.postfix.neighbours import in_place, neighbour
from filterd.postfix.plan import (
    PARAMETER,
    PATIENT,
    REFERENCE,
    TIMES,
    UNAUTHORIZED,
    Ours,
    misplaced,
    missing_macros,
    seconds,
)

_DEFERS = "451 4.3.5 Server configuration problem"
_WITHOUT = {
    "{auth_authen}": (Severity.ERROR, "your users' mail is taken for strangers': judged as such, and not signed"),
    "{tls_version}": (Severity.WARNING, "filterd takes every client for one that does not encrypt"),
    "{rcpt_mailer}": (Severity.WARNING, "limits in failures cannot count what Postfix refuses"),
    "{rcpt_host}": (Severity.WARNING, "limits in failures count what is refused for a while as refused for good"),
    "i": (Severity.WARNING, "filterd's log and `filterd explain` do not know Postfix's queue ids"),
}


def asked_about_mail(config: Config, place: Ours, server: Server) -> Iterator[Finding]:
    """What is wrong with being asked."""
    if place.milter is not None:
        if not sites(config, place.milter):
            yield Finding(
                Severity.ERROR,
                "not-attached",
                "Postfix does not ask filterd",
                f"No list of milters names {place.milter}: mail is neither judged nor signed.",
                RUN,
                attached(config),
            )
            return
        yield from _everywhere(config, place.milter)
        for service, name, entry in sites(config, place.milter):
            yield from _patience(config, service, name, entry)
        yield from _macros(config)
        yield from _protocol(config, place.milter)
        yield from _order(config, place.milter)
        yield from _header_size(config, server)
    if place.policy_service is not None:
        yield from _policy_service(config, place.policy_service)


def _everywhere(config: Config, address: str) -> Iterator[Finding]:
    entry = REFERENCE if PARAMETER in config.written else address
    for service in config.listening():
        if config.takes_back(service):
            continue
        lost = "Mail that comes in there is neither judged nor signed."
        if not config.asks_milters(service):
            options = items(config.value("receive_override_options", service))
            kept = ",".join(each for each in options if each != "no_milters")
            own = service if "receive_override_options" in service.overrides else None
            line = setting(config, own, "receive_override_options", kept)
            what = f"{service.id} asks no milter: receive_override_options has no_milters"
            yield Finding(Severity.ERROR, "no-milters", what, lost, RUN, (line,))
        elif asking(config, service, address) is None:
            others = service.overrides.get("smtpd_milters", "")
            line = setting(config, service, "smtpd_milters", ", ".join([entry, *items(others)]))
            what = f"{service.id} does not ask filterd: it has smtpd_milters of its own"
            yield Finding(Severity.ERROR, "service-not-attached", what, lost, RUN, (line,))
        if config.value("smtpd_proxy_filter", service) and asking(config, service, address):
            proxy = config.value("smtpd_proxy_filter", service)
            yield Finding(
                Severity.ERROR,
                "proxy-filter",
                f"{service.id} hands the content to smtpd_proxy_filter = {proxy}",
                "Postfix shows milters no content then: DKIM and DMARC are not judged, and nothing is signed. A "
                "content_filter gets mail after the milters have seen it.",
                RUN,
                (
                    setting(config, service, "smtpd_proxy_filter", ""),
                    setting(config, service, "content_filter", f"smtp:{_host_port(proxy)}"),
                ),
            )
    if asking(config, None, address, "non_smtpd_milters") is None:
        follows = "$smtpd_milters" if not config.value("non_smtpd_milters") else None
        value = follows or f"{entry}, {config.written['non_smtpd_milters']}"
        yield Finding(
            Severity.WARNING,
            "non-smtpd",
            "Postfix does not ask filterd about mail of programs on this machine (non_smtpd_milters)",
            "What sendmail(1) is given, by cron, PHP and others, leaves without a signature.",
            RUN,
            (setting(config, None, "non_smtpd_milters", value),),
        )
    if config.value("smtpd_milter_maps"):
        yield Finding(
            Severity.NOTE,
            "milter-maps",
            f"smtpd_milter_maps = {config.value('smtpd_milter_maps')} replaces smtpd_milters for some clients",
            f"Where the table does not name {address}, their mail is neither judged nor signed.",
        )


def _host_port(address: str) -> str:
    host, _, port = address.removeprefix("inet:").rpartition(":")
    return f"[{host.strip('[]') or '127.0.0.1'}]:{port}"


def _patience(config: Config, service: Service | None, name: str, entry: Milter) -> Iterator[Finding]:
    action = entry.settings.get("default_action") or config.value("milter_default_action", service)
    label = f"{service.id}: {name}" if service else name
    if action not in PATIENT:
        severity, happens = {
            "accept": (Severity.ERROR, "While filterd is away, mail passes unjudged, and yours unsigned."),
            "quarantine": (Severity.WARNING, "While filterd is away, mail goes on hold, where nobody looks."),
        }.get(action, (Severity.ERROR, "While filterd is away, mail is refused for good: it is lost."))
        what = f"The default action for filterd is {action} ({label})"
        yield Finding(severity, f"default-{action}", what, happens, RUN, attached(config))
    for key, least in TIMES.items():
        text = entry.settings.get(key) or config.value(f"milter_{key}", service)
        if seconds(text, least) < least:
            what = f"Postfix waits {text} for filterd ({key}, {label})"
            happens = (
                f"DNS and spamd may take longer. Then mail is deferred that filterd would answer within {least} s."
            )
            yield Finding(Severity.WARNING, "timeout", what, happens, RUN, attached(config))


def _macros(config: Config) -> Iterator[Finding]:
    for service, name, missing in missing_macros(config):
        written = (config.written if service is None else service.overrides)[name]
        line = setting(config, service, name, " ".join([written, *missing]).strip())
        severity = max((_WITHOUT[each][0] for each in missing), key=list(Severity).index)
        happens = "; ".join(_WITHOUT[each][1] for each in missing)
        what = f"{name}{f' of {service.id}' if service else ''} lacks {' and '.join(missing)}"
        yield Finding(severity, "macros", what, f"{happens[0].upper()}{happens[1:]}.", RUN, (line,))


def _protocol(config: Config, address: str) -> Iterator[Finding]:
    for service, name, entry in sites(config, address):
        version = entry.settings.get("protocol") or config.value("milter_protocol", service)
        if version != "6":
            what = f"Postfix speaks version {version} of the milter protocol with filterd ({name})"
            happens = "White space in fields is not told then: signatures that cover it fail (RFC 6376 3.4.1)."
            yield Finding(Severity.WARNING, "protocol", what, happens, RUN, attached(config))


def _order(config: Config, address: str) -> Iterator[Finding]:
    for service, name, entry in sites(config, address):
        found = milters(config.value(name, service))
        own = found.index(entry)
        if sum(same(each.address, address, config.value("queue_directory")) for each in found) > 1:
            what, happens = f"filterd is asked twice about one mail ({name})", "It is judged twice, and signed twice."
            yield Finding(Severity.WARNING, "twice", what, happens, RUN, attached(config))
        written = (config.written if service is None else service.overrides).get(name, "")
        for index, each in enumerate(found):
            known = neighbour(each.address)
            if known is None or not known.rewrites or "$smtpd_milters" in items(written):
                continue
            if index < own:
                yield Finding(
                    Severity.WARNING,
                    "after-rewriter",
                    f"{known.name} ({each.address}) is asked before filterd ({name})",
                    "What it changes, filterd judges as if the sender had written it: signatures of honest mail fail, "
                    "and DMARC may refuse it.",
                    RUN,
                    attached(config),
                )
            else:
                yield Finding(
                    Severity.NOTE,
                    "before-rewriter",
                    f"{known.name} ({each.address}) is asked after filterd ({name})",
                    "What it changes in mail of yours breaks the signature that filterd has made. Have it leave your "
                    "own mail as it is.",
                )
    for known, place in in_place(config):
        if not known.rewrites:
            what = f"{known.name} ({place}) is asked, too"
            yield Finding(Severity.NOTE, "neighbour", what, known.text)


def _header_size(config: Config, server: Server) -> Iterator[Finding]:
    size = config.value("header_size_limit")
    if server.engine == "libmilter" and size.isdecimal() and int(size) > 65_000:
        what = f"header_size_limit = {size}, and filterd runs with server.engine: libmilter"
        happens = "A field longer than 65,535 octets ends the connection, and the mail is deferred again and again."
        yield Finding(
            Severity.WARNING, "header-size", what, happens, RUN, (setting(config, None, "header_size_limit", "65000"),)
        )


def _policy_service(config: Config, address: str) -> Iterator[Finding]:
    queue = config.value("queue_directory")
    name = "smtpd_recipient_restrictions"
    places: list[Service | None] = [None, *(each for each in config.listening() if name in each.overrides)]
    found = False
    for service in places:
        label = f"{service.id}: {name}" if service else name
        words = items(config.value(name, service))
        entry = next((each for each in asked(config.value(name, service)) if same(each.address, address, queue)), None)
        if entry is None:
            continue
        found = True
        wrong = misplaced(words, address, queue)
        if wrong in UNAUTHORIZED:
            what = f"filterd's policy service is asked before {wrong} ({label})"
            happens = "Work is done, and limits count, for recipients that Postfix refuses anyway."
            yield Finding(Severity.WARNING, "policy-service-early", what, happens, RUN, attached(config))
        elif wrong:
            what = f"filterd's policy service stands behind `{wrong}` ({label})"
            yield Finding(Severity.ERROR, "policy-service-late", what, "It is never asked.", RUN, attached(config))
        yield from _without_answer(config, service, entry)
    if not found:
        what = "The policy has a policy_service, and smtpd_recipient_restrictions does not ask it"
        happens = "Recipients are judged by the milter alone."
        yield Finding(Severity.NOTE, "policy-service-unasked", what, happens, RUN, attached(config))


def _without_answer(config: Config, service: Service | None, entry: Milter) -> Iterator[Finding]:
    key = "smtpd_policy_service_default_action"
    action = entry.settings.get("default_action") or config.value(key, service)
    word = action.partition(" ")[0].lower()
    if word in ("dunno", "ok", "permit"):
        severity, happens = Severity.WARNING, "While filterd is away, recipients pass that it would refuse."
    elif word == "reject" or word[:1] == "5":
        severity, happens = Severity.ERROR, "While filterd is away, mail is refused for good: it is lost."
    else:
        return
    what = f"Without an answer of filterd's policy service Postfix goes by `{action}`"
    if "default_action" in entry.settings:
        mend = f"{entry.address}: default_action={{{_DEFERS}}}"
        yield Finding(severity, "policy-service-default", what, happens, "Where it is asked, write", (mend,))
    else:
        line = setting(config, None, key, _DEFERS)
        yield Finding(severity, "policy-service-default", what, happens, RUN, (line,))
