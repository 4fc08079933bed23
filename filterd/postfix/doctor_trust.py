"""Whether filterd takes for ours what is not, or for a stranger's what is ours: proxies, filters, submission. Pure."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from filterd.policy.schema import Networks
from filterd.postfix.config import Config, Service, items
from filterd.postfix.finding import POLICY, RUN, Finding, Severity, asking, setting
from filterd.postfix.plan import Ours

_Network = IPv4Network | IPv6Network
_SUBMISSION = ("submission", "submissions", "smtps", "587", "465")
_SMTP = ("smtp", "25")
_SIGNED = "whose mail filterd takes for yours: strangers' mail would be signed, and not judged."


def trust(config: Config, place: Ours, networks: Networks) -> Iterator[Finding]:
    """Who is taken for somebody else."""
    if place.milter is None:
        return
    yield from _given_back(config, place.milter, networks)
    yield from _proxies(config, networks)
    yield from _networks(config, networks)
    yield from _submission(config)


def _given_back(config: Config, address: str, networks: Networks) -> Iterator[Finding]:
    if not any(ip_address("127.0.0.1") in each for each in networks.trusted):
        return
    for service in config.listening():
        if config.takes_back(service) and asking(config, service, address) is not None:
            what = f"filterd is asked again about what a content filter gives back ({service.id})"
            happens = f"Its client is 127.0.0.1, {_SIGNED}"
            yield Finding(Severity.ERROR, "given-back", what, happens, RUN, (_past_milters(config, service),))
    pickup = next((each for each in config.services if each.command == "pickup"), None)
    if pickup is None or asking(config, pickup, address, "non_smtpd_milters") is None:
        return
    filters = {config.value("content_filter", each).partition(":")[0] for each in (None, *config.listening())}
    for pipe in config.services:
        if pipe.name in filters and pipe.command == "pipe" and any("sendmail" in each for each in pipe.arguments):
            what = f"filterd is asked again about what the content filter {pipe.name} gives to sendmail(1)"
            happens = f"Such mail is this machine's own, {_SIGNED} With the line, other programs' mail is not signed."
            yield Finding(Severity.ERROR, "piped-back", what, happens, RUN, (_past_milters(config, pickup),))


def _past_milters(config: Config, service: Service) -> str:
    options = [*items(config.value("receive_override_options", service)), "no_milters"]
    return setting(config, service, "receive_override_options", ",".join(options))


def _proxies(config: Config, networks: Networks) -> Iterator[Finding]:
    key = "smtpd_upstream_proxy_protocol"
    public = [each for each in config.listening() if each.type == "inet" and not config.takes_back(each)]
    remote = [config.value(key, each) for each in public if not _is_local(config, each)]
    kind = next(filter(None, [config.value("postscreen_upstream_proxy_protocol"), *remote]), "")
    for service in public:
        if config.value(key, service):
            continue
        if kind and not _is_local(config, service):
            what = f"{service.id} does not speak {kind}'s protocol, as others here do ({key})"
            happens = "Behind that proxy, each client has the proxy's address: SPF is judged by it, and if it is in "
            happens += "networks.trusted, all mail is taken for yours and signed."
            yield Finding(
                Severity.WARNING, "proxy-protocol", what, happens, RUN, (setting(config, service, key, kind),)
            )
        elif _is_local(config, service) and not config.value("smtpd_authorized_xclient_hosts", service):
            port = service.name.rpartition(":")[2]
            if not any(ip_address("127.0.0.1") in each for each in networks.trusted):
                continue
            what = f"{service.id} hears this machine alone: is there a proxy before it?"
            happens = f"Then each client is 127.0.0.1, {_SIGNED} (haproxy: the line; nginx: XCLIENT.)"
            severity = Severity.NOTE if port in (*_SMTP, *_SUBMISSION) else Severity.WARNING
            yield Finding(severity, "local-proxy", what, happens, RUN, (setting(config, service, key, "haproxy"),))
    name = "smtpd_authorized_xclient_hosts"
    for site in (None, *(each for each in config.listening() if name in each.overrides)):
        wide = [str(each) for each in _parsed(config.value(name, site)) if _is_wide(each)]
        if wide:
            what = f"All of {', '.join(wide)} may say which client and which login it is ({name})"
            happens = "Whoever claims a login there sends mail that filterd signs."
            line = setting(config, site, name, "127.0.0.1")
            yield Finding(Severity.ERROR, "xclient", what, happens, RUN, (line,))


def _is_local(config: Config, service: Service) -> bool:
    host, _, port = service.name.rpartition(":")
    hosts = [host] if host and port else items(config.value("inet_interfaces", service))
    return all(each.startswith("127.") or each.strip("[]") in ("localhost", "loopback-only", "::1") for each in hosts)


def _is_wide(network: _Network) -> bool:
    return network.prefixlen < (24 if network.version == 4 else 64) and not network.is_loopback


def _networks(config: Config, networks: Networks) -> Iterator[Finding]:
    relayed = _parsed(config.value("mynetworks"))
    for name, found, where, line in (
        ("mynetworks", relayed, RUN, setting(config, None, "mynetworks", "127.0.0.0/8 [::1]/128")),
        ("networks.trusted", networks.trusted, POLICY, 'networks: { trusted: ["127.0.0.0/8", "::1"] }'),
    ):
        if any(each.prefixlen == 0 for each in found):
            what = f"{name} has the whole world"
            happens = "Strangers may relay." if where == RUN else "Strangers' mail is taken for yours, and signed."
            yield Finding(Severity.ERROR, "whole-world", what, happens, where, (line,))
            return
    unsigned = [each for each in relayed if not _covered(each, (*networks.trusted, *networks.relays))]
    if unsigned:
        listed = ", ".join(f'"{_text(each)}"' for each in (*networks.trusted, *unsigned))
        yield Finding(
            Severity.WARNING,
            "not-trusted",
            f"{_names(unsigned)} may relay (mynetworks), and filterd takes it for a stranger",
            "Its mail is judged as strangers' is, and not signed.",
            POLICY,
            (f"networks: {{ trusted: [{listed}] }}",),
        )
    unknown = [each for each in networks.trusted if not _covered(each, relayed)]
    if unknown:
        yield Finding(
            Severity.NOTE,
            "not-relayed",
            f"filterd takes mail of {_names(unknown)} for yours (networks.trusted), Postfix does not (mynetworks)",
            "It is signed, and not judged.",
        )


def _names(networks: Sequence[_Network]) -> str:
    shown = [_text(each) for each in networks[:3]]
    return ", ".join(shown) + (f" and {len(networks) - 3} more" if len(networks) > 3 else "")


def _text(network: _Network) -> str:
    return str(network.network_address if network.num_addresses == 1 else network)


def _covered(network: _Network, by: Sequence[_Network]) -> bool:
    return any(network.version == each.version and network.subnet_of(each) for each in by)  # type: ignore[arg-type]


def _parsed(value: str) -> list[_Network]:
    """What of a list are addresses and networks: not tables, and not what is left out by `!`."""
    found = []
    for item in items(value):
        try:
            found.append(ip_network(item.replace("[", "").replace("]", ""), strict=False))
        except ValueError:
            continue
    return found


def _submission(config: Config) -> Iterator[Finding]:
    for service in config.listening():
        if service.name.rpartition(":")[2] not in _SUBMISSION:
            continue
        if config.value("smtpd_sasl_auth_enable", service) != "yes":
            what = f"Nobody can log in at {service.id} (smtpd_sasl_auth_enable)"
            happens = "By the login filterd knows whom to take for yours: mail of your users is judged as strangers' "
            happens += "is, and not signed. Certificates of clients are no login."
            line = setting(config, service, "smtpd_sasl_auth_enable", "yes")
            yield Finding(Severity.ERROR, "no-login", what, happens, RUN, (line,))
        if "milter_macro_daemon_name" not in service.overrides:
            what = f"Nothing marks what comes in at {service.id} (milter_macro_daemon_name)"
            happens = "filterd goes by the login and notes the mark only; OpenDKIM and others sign by it."
            line = setting(config, service, "milter_macro_daemon_name", "ORIGINATING")
            yield Finding(Severity.NOTE, "unmarked", what, happens, RUN, (line,))
