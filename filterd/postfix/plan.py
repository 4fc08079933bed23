"""What has to change in a Postfix, so that it asks filterd or no longer does. Pure.

filterd's milter is one parameter of main.cf, `filterd_milter`, which the lists of milters name: so it is written once,
with its timeouts, and `postconf` can put it into a line of master.cf, which takes no white space. It is the first
milter: it judges mail as the client sent it, before another changes what the sender signed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from filterd.mail.endpoint import Endpoint
from filterd.policy.schema import Server
from filterd.postfix.config import RESTRICTIONS, Config, Service, items, milters, policy_services, same
from filterd.postfix.neighbours import neighbour

PARAMETER = "filterd_milter"
#: How the lists of milters name it.
REFERENCE = f"${PARAMETER}"
MILTER_LISTS = ("smtpd_milters", "non_smtpd_milters")
#: Default actions that let mail wait: accept would let it pass unjudged, reject lose it.
PATIENT = ("tempfail", "shutdown")
#: What Postfix must grant at least, in seconds: `dns.deadline` is at most 24, `spamd.timeout` 120.
TIMES = {"command_timeout": 30, "content_timeout": 300}
#: The macros that filterd reads: the login; what became of a recipient; the queue id.
MACROS = {
    "milter_helo_macros": ("{tls_version}",),
    "milter_mail_macros": ("{auth_authen}",),
    "milter_rcpt_macros": ("{rcpt_mailer}", "{rcpt_host}"),
    "milter_end_of_data_macros": ("i",),
}
_RECIPIENTS = "smtpd_recipient_restrictions"
#: What keeps Postfix from relaying for strangers.
UNAUTHORIZED = ("reject_unauth_destination", "defer_unauth_destination")
#: Words behind which nothing is asked.
ENDS = ("permit", "reject", "defer", "defer_if_permit", "defer_if_reject")
_REFERS = re.compile(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))")


@dataclass(frozen=True, slots=True)
class Change:
    """One setting of main.cf, or of a service (`submission/inet`) in master.cf; None is: not set."""

    service: str
    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Ours:
    """Where Postfix finds filterd, as Postfix writes it. None where filterd does not listen for it."""

    milter: str | None
    policy_service: str | None


def ours(server: Server, config: Config) -> Ours:
    """Where Postfix finds the daemon."""
    first = [each[0] if each else None for each in (server.milter, server.policy_service)]
    return Ours(*(None if each is None else _address(each, config.value("queue_directory")) for each in first))


def _address(text: str, queue: str) -> str:
    endpoint = Endpoint.parse(text)
    if endpoint.path is not None:
        # A relative path is the same inside and outside of the chroot.
        return f"unix:{endpoint.path.removeprefix(f'{queue}/')}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104 - it is read
    return f"inet:[{host}]:{endpoint.port}" if ":" in host else f"inet:{host}:{endpoint.port}"


def shut_out(server: Server, config: Config) -> list[tuple[str, str]]:
    """What Postfix's chroot keeps from it: each as what it is, and the line of the policy that mends it."""
    queue = config.value("queue_directory")
    held = [each.name for each in config.services if each.chroot and each.command in ("smtpd", "cleanup")]
    found = []
    for key, addresses in (("milter", server.milter), ("policy_service", server.policy_service)):
        path = Endpoint.parse(addresses[0]).path if addresses and held else None
        if path is not None and not path.startswith(f"{queue}/"):
            what = f"{path} is outside of {queue}, where Postfix's {held[0]} is locked up (chroot in master.cf)"
            name = path.rpartition("/")[2]
            found.append((what, f'server: {{ {key}: ["unix:{queue}/filterd/{name}"] }}'))
    return found


def attach(config: Config, place: Ours) -> list[Change]:
    """What has to change; nothing where filterd is attached already."""
    changes: list[Change] = []
    if place.milter is not None:
        lists = [*_milter_lists(config, place.milter), *_given_back(config, place.milter)]
        changes = [*_entry(config, place.milter, lists), *lists, *_macros(config)]
    if place.policy_service is not None:
        changes += _policy_service(config, place.policy_service)
    return changes


def _milter_lists(config: Config, address: str) -> Iterator[Change]:
    queue = config.value("queue_directory")
    sites: list[tuple[Service | None, str]] = [(None, name) for name in MILTER_LISTS]
    sites += [(each, "smtpd_milters") for each in config.listening() if not config.takes_back(each)]
    for service, name in sites:
        written = _written(config, service).get(name)
        # An empty list in master.cf says that nobody is asked there, and is heeded.
        if service is not None and not written:
            continue
        found = items(written or "")
        # A list that names another one follows it.
        if "$smtpd_milters" in found or well_asked(config, service, name, address):
            continue
        others = [each for each in found if each != REFERENCE and not _is_at(each, address, queue)]
        if found != [REFERENCE, *others]:
            yield _change(service, name, written, [REFERENCE, *others])


def well_asked(config: Config, service: Service | None, name: str, address: str) -> bool:
    """Whether a list has filterd once, at an address that holds in a chroot, with patience, ahead of rewriters."""
    queue, found = config.value("queue_directory"), milters(config.value(name, service))
    at = [index for index, each in enumerate(found) if same(each.address, address, queue)]
    if len(at) != 1:
        return False
    entry, ahead = found[at[0]], [neighbour(each.address) for each in found[: at[0]]]
    rewritten = any(each is not None and each.rewrites for each in ahead)
    return entry.address == address and not _needed(config, service, entry.settings) and not rewritten


def _needed(config: Config, service: Service | None, settings: Mapping[str, str]) -> list[str]:
    """What an entry of filterd's has to say besides, as what Postfix says for all milters will not do."""
    places = [None, *config.listening()] if service is None else [service]

    def holding(name: str) -> list[str]:
        return [settings.get(name) or config.value(f"milter_{name}", each) for each in places]

    needed = [] if set(holding("default_action")) <= set(PATIENT) else ["default_action=tempfail"]
    needed += [] if set(holding("protocol")) == {"6"} else ["protocol=6"]
    return needed + [
        f"{name}={least}s"
        for name, least in TIMES.items()
        if any(seconds(each, least) < least for each in holding(name))
    ]  # fmt: skip


def _given_back(config: Config, address: str) -> Iterator[Change]:
    """What a content filter gives back was judged before, and comes from 127.0.0.1 now, as if it were ours to sign."""
    queue = config.value("queue_directory")
    for service in config.listening():
        if not config.takes_back(service) or not config.asks_milters(service) or "smtpd_milters" in service.overrides:
            continue
        found = items(config.written.get("smtpd_milters", ""))
        others = [each for each in found if each != REFERENCE and not _is_at(each, address, queue)]
        yield _change(service, "smtpd_milters", None, others)


def _entry(config: Config, address: str, lists: Sequence[Change]) -> Iterator[Change]:
    """filterd among the milters: what the others are promised stays, and filterd gets what it needs."""
    before = config.written.get(PARAMETER)
    if before is None and not any(REFERENCE in items(each.after or "") for each in lists):
        named = [config.written.get(name, "") for name in MILTER_LISTS]
        named += [each.overrides.get("smtpd_milters", "") for each in config.listening()]
        if not any(REFERENCE in items(each) for each in named):
            return  # it was attached by hand, by its address
    now = next(iter(milters(before or "")), None)
    if now is not None and now.address == address and not _needed(config, None, now.settings):
        return
    settings = _needed(config, None, {})
    after = f"{{ {', '.join([address, *settings])} }}" if settings else address
    yield Change("", PARAMETER, before, after)


def seconds(value: str, otherwise: float) -> float:
    """A time of Postfix's."""
    number, unit = (value[:-1], value[-1:]) if value[-1:].isalpha() else (value, "s")
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}.get(unit)
    return int(number) * factor if number.isdecimal() and factor else otherwise


def _macros(config: Config) -> Iterator[Change]:
    for service, name, missing in missing_macros(config):
        written = _written(config, service)[name]
        yield _change(service, name, written, [*items(written), *missing], between=" ")


def missing_macros(config: Config) -> Iterator[tuple[Service | None, str, list[str]]]:
    """The lists of macros that somebody has written without one that filterd reads."""
    for service in (None, *config.listening()):
        for name, needed in MACROS.items():
            if name in _written(config, service):
                sent = items(config.value(name, service))
                missing = [each for each in needed if each not in sent and each.strip("{}") not in sent]
                if missing:
                    yield service, name, missing


def _policy_service(config: Config, address: str) -> Iterator[Change]:
    queue = config.value("queue_directory")
    seen = set()
    for service, name in [(None, _RECIPIENTS), *((each, _RECIPIENTS) for each in config.listening())]:
        if service is not None and (not service.overrides.get(name) or config.takes_back(service)):
            continue
        site = _followed(config, service, name)
        words = items(config.value(name, service))
        asked = any(same(each, address, queue) for each in policy_services(config.value(name, service)))
        if site in seen or (asked and misplaced(words, address, queue) is None):
            continue
        seen.add(site)
        service, name = site
        written = _written(config, service).get(name)
        found = _without(items(written or ""), Ours(None, address), queue)
        found[_where(found) : _where(found)] = ["check_policy_service", address]
        yield _change(service, name, written, found)


def misplaced(words: Sequence[str], address: str, queue: str) -> str | None:
    """What a policy service stands on the wrong side of, in an expanded list of restrictions."""
    for index, word in enumerate(words):
        if index and words[index - 1] == "check_policy_service" and _is_at(word, address, queue):
            ends = (each for each in words[: index - 1] if each in ENDS)
            return next(ends, next((each for each in words[index:] if each in UNAUTHORIZED), None))
    return None


def _followed(config: Config, service: Service | None, name: str) -> tuple[Service | None, str]:
    """Where a list is written that is nothing but the name of another, as Postfix's own master.cf has them."""
    for _ in config.written:
        refers = _REFERS.fullmatch(_written(config, service).get(name, ""))
        other = next(filter(None, refers.groups()), "") if refers else ""
        if other not in config.written:
            break
        service, name = None, other
    return service, name


def _where(found: list[str]) -> int:
    """Behind all that refuses: what Postfix refuses itself costs no question, and is no recipient that counts.

    Behind a last word nothing is asked. Where that refuses, whoever is let in is let in before it, and so asked before.
    """
    if not found or found[-1] not in ENDS:
        return len(found)
    if found[-1] == "permit":
        return len(found) - 1
    behind = max((found.index(each) + 1 for each in UNAUTHORIZED if each in found), default=0)
    permits = (index for index, word in enumerate(found) if index >= behind and word.startswith("permit"))
    return next(permits, len(found) - 1)


def detach(config: Config, place: Ours) -> list[Change]:
    """What takes filterd out again, whoever put it in and whatever was changed since."""
    queue = config.value("queue_directory")
    changes = []
    for service in (None, *config.listening()):
        written = _written(config, service)
        sites = {(service, name) for name in (*MILTER_LISTS, *RESTRICTIONS) if name in written}
        sites |= {_followed(config, *site) for site in sites}
        for where, name in sorted(sites, key=lambda site: (site[0] is not None, site[1])):
            before = _written(config, where)[name]
            found = items(before)
            kept = _without(found, place, queue)
            change = _change(where, name, before, kept)
            # Nothing is what main.cf has where nothing is set; in master.cf it says: none here.
            change = Change("", name, before, None) if where is None and not kept else change
            if kept != found and change not in changes:
                changes.append(change)
    if PARAMETER in config.written:
        changes.append(Change("", PARAMETER, config.written[PARAMETER], None))
    return changes


def _without(found: list[str], place: Ours, queue: str) -> list[str]:
    return [item for index, item in enumerate(found) if not _asks(found, index, place, queue)]


def _asks(found: list[str], index: int, place: Ours, queue: str) -> bool:
    """Whether an item is filterd, or the word that asks it."""
    item = found[index]
    if item == "check_policy_service" and index + 1 < len(found):
        index += 1
    if index and found[index - 1] == "check_policy_service":
        return place.policy_service is not None and _is_at(found[index], place.policy_service, queue)
    return item == REFERENCE or (place.milter is not None and _is_at(item, place.milter, queue))


def _is_at(item: str, address: str, queue: str) -> bool:
    return any(same(each.address, address, queue) for each in milters(item))


def _written(config: Config, service: Service | None) -> dict[str, str]:
    return dict(config.written if service is None else service.overrides)


def _change(
    service: Service | None, name: str, before: str | None, after: Iterable[str], between: str = ", "
) -> Change:
    if service is not None:
        return Change(service.id, name, before, ",".join(map(compact, after)))
    text = between.join(after)
    return Change("", name, before, re.sub(r"\b(check_\w+), ", r"\1 ", text))


def compact(item: str) -> str:
    """`postconf -P` takes no white space; a comma does the same, inside of braces, too."""
    commas = re.sub(r"[\s,]+", ",", re.sub(r"\s*=\s*", "=", item))
    return commas.replace("{,", "{").replace(",}", "}")
