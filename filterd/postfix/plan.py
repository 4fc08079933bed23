"""What has to change in a Postfix, so that it asks filterd or no longer does. Pure.

filterd's milter is one parameter of main.cf, `filterd_milter`, which the lists of milters name: so it is written once,
with its timeouts, and `postconf` can put it into a line of master.cf, which takes no white space. It is the first
milter: it judges mail as the client sent it, before another changes what the sender signed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from filterd.mail.endpoint import Endpoint
from filterd.policy.schema import Server
from filterd.postfix.config import Config, Service, items, milters, policy_services, same

PARAMETER = "filterd_milter"
_REFERENCE = f"${PARAMETER}"
_LISTS = ("smtpd_milters", "non_smtpd_milters")
_RESTRICTIONS = "smtpd_recipient_restrictions"
_ENDS = ("permit", "reject", "defer", "defer_if_permit", "defer_if_reject")
# What Postfix must grant at least, in seconds: `dns.deadline` is at most 24, spamd.timeout 120.
_TIMES = {"command_timeout": 30, "content_timeout": 300}


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
    return [*_milter(config, place.milter), *_policy_service(config, place.policy_service)]


def _milter(config: Config, address: str | None) -> Iterator[Change]:
    if address is None:
        return
    queue = config.value("queue_directory")
    sites: list[tuple[Service | None, str]] = [(None, name) for name in _LISTS]
    sites += [(each, "smtpd_milters") for each in config.listening() if each.overrides.get("smtpd_milters")]
    changes = []
    for service, name in sites:
        found = milters(config.value(name, service))
        if not any(same(each.address, address, queue) for each in found):
            written = (config.written if service is None else service.overrides).get(name)
            if service is None and "$smtpd_milters" in (written or ""):
                continue  # it follows the other
            # In master.cf no white space may stand; in main.cf both part the items.
            between = ", " if service is None else ","
            after = between.join([_REFERENCE, *([written] if written else [])])
            changes.append(Change(service.id if service else "", name, written, after))
    wanted = _entry(config, address)
    if config.written.get(PARAMETER) != wanted and (changes or PARAMETER in config.written):
        yield Change("", PARAMETER, config.written.get(PARAMETER), wanted)
    yield from changes


def _entry(config: Config, address: str) -> str:
    """filterd among the milters: what the others are promised stays, and filterd gets what it needs."""
    settings = []
    # Without filterd mail waits at the sender's: accept would let it pass unjudged, reject lose it.
    if config.value("milter_default_action") not in ("tempfail", "shutdown"):
        settings.append("default_action=tempfail")
    settings += [
        f"{name}={least}s"
        for name, least in _TIMES.items()
        if seconds(config.value(f"milter_{name}"), least) < least
    ]  # fmt: skip
    return f"{{ {', '.join([address, *settings])} }}" if settings else address


def seconds(value: str, otherwise: float) -> float:
    """A time of Postfix's."""
    number, unit = (value[:-1], value[-1:]) if value[-1:].isalpha() else (value, "s")
    factor = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}.get(unit)
    return int(number) * factor if number.isdigit() and factor else otherwise


def _policy_service(config: Config, address: str | None) -> Iterator[Change]:
    if address is None:
        return
    queue = config.value("queue_directory")
    sites: list[Service | None] = [None, *(each for each in config.listening() if _RESTRICTIONS in each.overrides)]
    for service in sites:
        if any(same(each, address, queue) for each in policy_services(config.value(_RESTRICTIONS, service))):
            continue
        written = (config.written if service is None else service.overrides).get(_RESTRICTIONS)
        found = items(written or "")
        found[_where(found) : _where(found)] = ["check_policy_service", address]
        after = _restrictions(found, ", ") if service is None else ",".join(found)
        yield Change(service.id if service else "", _RESTRICTIONS, written, after)


def _where(found: list[str]) -> int:
    """Behind all that refuses: what Postfix refuses itself costs no question, and is no recipient that counts.

    Behind a last word nothing is asked. Where that refuses, whoever is let in is let in before it, and so asked before.
    """
    if not found or found[-1] not in _ENDS:
        return len(found)
    if found[-1].startswith("permit"):
        return len(found) - 1
    behind = found.index("reject_unauth_destination") + 1 if "reject_unauth_destination" in found else 0
    permits = (index for index, word in enumerate(found) if index >= behind and word.startswith("permit"))
    return next(permits, len(found) - 1)


def _restrictions(found: list[str], between: str) -> str:
    """A list of restrictions, with `check_… ARGUMENT` together."""
    text = ""
    for index, item in enumerate(found):
        follows = index and found[index - 1].startswith("check_")
        text += ("" if not index else " " if follows else between) + item
    return text


def detach(config: Config, place: Ours) -> list[Change]:
    """What takes filterd out again, whoever put it in and whatever was changed since."""
    changes = []
    queue = config.value("queue_directory")
    for service in (None, *config.listening()):
        written = config.written if service is None else service.overrides
        for name in (*_LISTS, *(f"smtpd_{each}_restrictions" for each in ("recipient", "data", "end_of_data"))):
            before = written.get(name)
            if before is None:
                continue
            found = items(before)
            kept = [item for index, item in enumerate(found) if not _names(found, index, place, queue)]
            if kept != found:
                between = ", " if service is None else ","
                after = _restrictions(kept, between) if name.endswith("restrictions") else between.join(kept)
                # Nothing is what main.cf has where nothing is set; in master.cf it says: none here.
                gone = service is None and not kept
                changes.append(Change(service.id if service else "", name, before, None if gone else after))
    if PARAMETER in config.written:
        changes.append(Change("", PARAMETER, config.written[PARAMETER], None))
    return changes


def _names(found: list[str], index: int, place: Ours, queue: str) -> bool:
    """Whether an item is filterd, or the word that asks it."""
    item = found[index]
    if item == "check_policy_service" and index + 1 < len(found):
        index += 1
    if index and found[index - 1] == "check_policy_service":
        return place.policy_service is not None and same(milters(found[index])[0].address, place.policy_service, queue)
    return item == _REFERENCE or (
        place.milter is not None and any(same(each.address, place.milter, queue) for each in milters(item))
    )
