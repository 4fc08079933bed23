"""What is right in a policy, and hardly meant: rules that never fire, orders that surprise, scores nobody reads."""

from collections.abc import Iterator

from filterd.mail.transaction import Stage
from filterd.policy.envelope import SIZE, needs_content
from filterd.policy.facts import FACTS, SCORE
from filterd.policy.nodes import Path
from filterd.policy.rules import Action, Mode, Policy, Rule


def warnings(policy: Policy) -> Iterator[tuple[Path, str]]:
    """Each with the place that it is about."""
    places = {entry.name: number for number, entry in enumerate(policy.settings.rules)}
    asked = [rule for stage in Stage for rule in policy.rules[stage]]
    for number, rule in enumerate(asked):
        if rule.name not in places:
            continue
        problem = (
            _unseen(policy, rule)
            or _unrelayed(policy, rule)
            or _never(rule, asked[:number])
            or _early(rule, asked[number + 1 :], places)
        )
        if problem:
            yield ("rules", places[rule.name], "when"), problem
    yield from _scores(policy, asked, places)
    yield from _keyless(policy)
    yield from _forgetful(policy)


def _unseen(policy: Policy, rule: Rule) -> str | None:
    if policy.server.milter or not needs_content(rule):
        return None
    return f"{rule.name} never fires: it asks for content, which only a milter sees, and `server.milter` is empty"


def _unrelayed(policy: Policy, rule: Rule) -> str | None:
    """A rule that decides may have to be early; one that adds up loses nothing by being asked later."""
    asks = any(FACTS[name].check is not None for name in rule.condition.facts if name in FACTS)
    if not policy.settings.networks.relays or rule.action is not None or rule.stage >= Stage.END_OF_HEADERS or not asks:
        return None
    return (
        f"{rule.name} leaves out what `networks.relays` bring, whose client is known from the header alone; "
        "at: end_of_headers has it, too"
    )


def _forgetful(policy: Policy) -> Iterator[tuple[Path, str]]:
    """A retry comes to any worker."""
    if policy.greylist is not None and policy.server.state is None and policy.server.workers != 1:
        problem = (
            "without `server.state` each worker remembers for itself, and a retry that comes to another waits anew"
        )
        yield ("greylist",), problem


def _keyless(policy: Policy) -> Iterator[tuple[Path, str]]:
    """Limits whose key never arrives."""
    if policy.server.milter:
        return
    places = {entry.name: number for number, entry in enumerate(policy.settings.limits)}
    late = {
        each.rule.name: name
        for limits in policy.limits.values()
        for each in limits
        for name in each.facts
        if FACTS[name].stage > Stage.DATA and name != SIZE
    }
    for limit, name in late.items():
        problem = (
            f"{limit} never counts: {name} is of the content, which only a milter sees, and `server.milter` is empty"
        )
        yield ("limits", places[limit], "key"), problem


def _never(rule: Rule, before: list[Rule]) -> str | None:
    """Why a rule never fires, or does what another could do with it."""
    if _text(rule) == "false":
        return f"{rule.name} never fires: its condition is false"
    for other in before:
        same = _text(other) == _text(rule)
        if _ends(other, rule) and (same or _text(other) == "true"):
            why = "asks the same" if same else "always fires"
            return f"{rule.name} never fires: {other.name}, which is asked before it, {why} and decides"
        if same and other.stage is rule.stage and other.mode is rule.mode:
            return f"{rule.name} asks the same as {other.name}: one rule can do both, then: [a, b]"
    return None


def _ends(other: Rule, rule: Rule) -> bool:
    """Whether nothing is left for the rule where the other, asked before it, fires."""
    # At RCPT one recipient is decided, and the mail goes on with the others.
    whole = other.stage is not Stage.RCPT or rule.stage is Stage.RCPT
    return other.action is not None and other.mode is Mode.ENFORCE and whole


def _early(rule: Rule, after: list[Rule], places: dict[str, int]) -> str | None:
    """Why a rule is asked before one that stands above it, where that lets mail in."""
    if rule.action is not Action.ACCEPT or rule.mode is not Mode.ENFORCE or rule.stage is Stage.RCPT:
        return None
    for other in after:
        above = places.get(other.name, len(places)) < places[rule.name]
        if above and other.stage > rule.stage and other.action in (Action.REJECT, Action.DEFER, Action.DISCARD):
            return (
                f"{rule.name} accepts at {rule.stage.word}, before {other.name}, which stands above it, is asked at "
                f"{other.stage.word}; at: {other.stage.word} keeps the order"
            )
    return None


def _scores(policy: Policy, asked: list[Rule], places: dict[str, int]) -> Iterator[tuple[Path, str]]:
    limits = policy.settings.score
    given = any(each is not None for each in (limits.tag, limits.quarantine, limits.reject))
    read = given or any(SCORE in (*rule.condition.facts, *rule.shown_facts) for rule in asked)
    scoring = [rule for rule in asked if rule.score is not None and rule.name in places]
    if scoring and not read:
        path: Path = ("rules", places[scoring[0].name], "then")
        yield path, "scores are added up, and nothing reads the sum: the section `score` says what it comes to"


def _text(rule: Rule) -> str:
    return " ".join(rule.condition.text.split())
