"""Policy text becomes a Policy that can be run, or all that is wrong with it. Opens no files."""

import difflib
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from filterd.dkim.sign import SigningKey
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.mail.domain import Domain
from filterd.mail.reply import Reply, ReplyError
from filterd.mail.transaction import Stage
from filterd.policy.conditions import Condition, ConditionError, compile_condition
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.facts import FACTS, Check
from filterd.policy.nodes import Document, Path
from filterd.policy.rules import REPLY_FIELD, Action, Mode, Policy, Rule
from filterd.policy.schema import PolicyFile, RuleEntry
from filterd.policy.signers import Sealer, SelectedKey, Signer, Signers

# Authentication-Results name these, whatever the rules read.
_REPORTED = frozenset({Check.SPF, Check.DKIM, Check.ARC, Check.DMARC})
_NEVER = compile_condition("false")


ReadKey = Callable[[str], SigningKey]
ReadSuffixes = Callable[[], PublicSuffixes]


def _no_keys(file: str) -> SigningKey:
    raise ValueError("keys are not read here")


def _no_suffixes() -> PublicSuffixes:
    raise ValueError("the public suffix list is not read here")


def load(text: str, file: str, read_key: ReadKey = _no_keys, read_suffixes: ReadSuffixes = _no_suffixes) -> Policy:
    """Compile a policy. `file` is what errors call it; `read_key` finds a key by its name in the policy, and
    `read_suffixes` the public suffix list where it is asked for; both raise ValueError. Raises PolicyErrors with every
    fault."""
    document = Document(text, file)
    try:
        settings = PolicyFile.model_validate(document.data)
    except ValidationError as error:
        wrong = error.errors()
        # pydantic counts only good items: a list whose one item is wrong is not too short besides.
        wrong = [each for each in wrong if each["type"] != "too_short" or not _has_within(wrong, each["loc"])]
        raise PolicyErrors([_schema_error(document, each) for each in wrong]) from None
    faults: list[PolicyError] = []
    mail_from_us = _condition(document, ("mail_from_us",), settings.mail_from_us, faults)
    for name in mail_from_us.facts:
        if FACTS[name].check or FACTS[name].stage > Stage.MAIL or name == "from_us":
            problem = f"whose mail it is must be known at MAIL, {name} is not known then"
            faults.append(document.error(("mail_from_us",), problem))
    signers = _signers(document, settings, read_key, faults)
    sealer = _sealer(document, settings, signers, faults)
    suffixes = _suffixes(document, settings, read_suffixes, faults)
    rules = [_own_rule(settings)] if settings.dmarc.on_multiple_authors != "skip" else []
    rules += [_rule(document, index, entry, faults) for index, entry in enumerate(settings.rules)]
    if faults:
        raise PolicyErrors(faults)
    staged = {stage: tuple(rule for rule in rules if rule.stage is stage) for stage in Stage}
    facts = {
        stage: tuple(sorted({name for rule in staged[stage] for name in (*rule.condition.facts, *rule.reply_facts)}))
        for stage in Stage
    }
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    named = {check for names in facts.values() for name in names if (check := FACTS[name].check)}
    trusted_sealers = frozenset(map(Domain.parse, settings.arc.trusted_sealers))
    checks = _REPORTED | named
    return Policy(settings, mail_from_us, signers, staged, checks, facts, digest, suffixes, sealer, trusted_sealers)


def _signers(document: Document, settings: PolicyFile, read_key: ReadKey, faults: list[PolicyError]) -> Signers:
    signers: list[Signer] = []
    seen: dict[str, int] = {}
    for index, entry in enumerate(settings.sign):
        for number, pattern in enumerate(entry.domains):
            if seen.setdefault(pattern, index) != index:
                first = document.line(("sign", seen[pattern]))
                problem = f"{pattern} is signed for by the entry in line {first} already"
                faults.append(document.error(("sign", index, "domains", number), problem))
        keys: list[SelectedKey] = []
        for number, each in enumerate(entry.keys):
            try:
                keys.append(SelectedKey(each.selector, read_key(each.file)))
            except ValueError as error:
                faults.append(document.error(("sign", index, "keys", number, "file"), str(error)))
        signers.append(Signer(entry, tuple(keys)))
    return Signers(tuple(signers))


def _sealer(document: Document, settings: PolicyFile, signers: Signers, faults: list[PolicyError]) -> Sealer | None:
    # A key that could not be read is told of already.
    if not settings.arc.seal or any(fault.path.startswith("sign") for fault in faults):
        return None
    host = settings.identity.authserv_id
    sealer = signers.for_host(Domain.parse(host)) if host else None
    if sealer is None:
        problem = f"no entry of `sign` has an RSA key for {host} or a domain above it"
        problem = problem if host else "a seal names its domain: write identity.authserv_id"
        faults.append(document.error(("arc", "seal"), problem))
    return sealer


def _suffixes(
    document: Document, settings: PolicyFile, read_suffixes: ReadSuffixes, faults: list[PolicyError]
) -> PublicSuffixes | None:
    if settings.dmarc.organizational_domain == "treewalk":
        return None
    try:
        return read_suffixes()
    except ValueError as error:
        faults.append(document.error(("dmarc", "organizational_domain"), str(error)))
        return None


def _own_rule(settings: PolicyFile) -> Rule:
    """RFC 9989 11.5: what has no single author is no way around DMARC."""
    action = Action(settings.dmarc.on_multiple_authors)
    text = "the From field must name exactly one author ({author.problem})"
    reply = {Action.REJECT: Reply(550, "5.7.1", text), Action.DEFER: Reply(450, "4.7.1", text)}.get(action)
    condition = compile_condition('author.problem != "" && !from_us')
    return Rule("dmarc.on_multiple_authors", condition, action, Stage.END_OF_HEADERS, reply)


def _rule(document: Document, index: int, entry: RuleEntry, faults: list[PolicyError]) -> Rule:
    path: Path = ("rules", index)
    condition = _condition(document, (*path, "when"), entry.when, faults)
    reply = _reply(document, (*path, "reply"), entry, faults)
    action, mode, line = Action(entry.then), Mode(entry.mode), document.line((*path, "name"))
    rule = Rule(entry.name, condition, action, Stage.MAIL, reply, mode, line)
    try:
        return replace(rule, stage=_stage(rule, entry.at))
    except ValueError as error:
        faults.append(document.error((*path, "at" if entry.at else "when"), str(error)))
        return rule


def _stage(rule: Rule, at: str | None) -> Stage:
    """The earliest stage at which all that the rule names is known, or the later one that it asks for."""
    known = [name for name in (*rule.condition.facts, *rule.reply_facts) if name in FACTS]
    earliest = max((FACTS[name].stage for name in known), default=Stage.CONNECT)
    recipient = next((name for name in known if name in _OF_ONE_RECIPIENT), None)
    wanted = Stage[at.upper()] if at else None
    if (recipient or wanted is Stage.RCPT) and rule.action in _WHOLE_MESSAGE:
        raise ValueError(f"at RCPT one recipient is judged, and {rule.action} is for the whole mail")
    if recipient and (earliest > Stage.RCPT or (wanted is not None and wanted is not Stage.RCPT)):
        later = next((name for name in known if FACTS[name].stage > Stage.RCPT), f"at: {at}")
        raise ValueError(
            f"{recipient} is judged at RCPT, one recipient at a time; {later} is known later, when a milter can no "
            "longer refuse one recipient alone. Make two rules of it"
        )
    if wanted is not None:
        if wanted < earliest:
            late = max(known, key=lambda name: FACTS[name].stage)
            raise ValueError(f"{late} is not known before {FACTS[late].stage.word}; leave `at` out")
        return wanted
    # Whose mail it is is known at MAIL only: nothing is refused before it unless the rule says so.
    return max(earliest, Stage.MAIL)


_WHOLE_MESSAGE = frozenset({Action.QUARANTINE, Action.HOLD, Action.DISCARD, Action.TAG})
_OF_ONE_RECIPIENT = frozenset({"envelope.recipient", "envelope.recipient_domain"})


def _condition(document: Document, path: Path, text: str, faults: list[PolicyError]) -> Condition:
    try:
        return compile_condition(text)
    except ConditionError as error:
        if document.keys(path) is None:
            faults.append(document.error(path, error.text))
        else:
            faults.append(document.error_within(path, error.line, error.column, error.text))
        return _NEVER


def _reply(document: Document, path: Path, entry: RuleEntry, faults: list[PolicyError]) -> Reply | None:
    """The reply of reject and defer: the rule's own or a plain one. Its text keeps {fact} fields."""
    if entry.then not in ("reject", "defer"):
        if entry.reply is not None:
            faults.append(document.error(path, f"{entry.then} has no reply; reject and defer have one"))
        return None
    refused = entry.then == "reject"
    plain = f"refused by policy ({entry.name})" if refused else f"try again later ({entry.name})"
    try:
        reply = Reply.parse(entry.reply or f"{'550 5.7.1' if refused else '451 4.7.1'} {plain}")
    except ReplyError as error:
        faults.append(document.error(path, str(error)))
        return None
    if reply.temporary == refused:
        code = "5xx" if refused else "4xx"
        faults.append(document.error(path, f"the reply of {entry.then} has a {code} code, not {reply.code}"))
    for name in REPLY_FIELD.findall(reply.text):
        if name not in FACTS:
            near = difflib.get_close_matches(name, FACTS, 1, 0.6)
            hint = f"did you mean {{{near[0]}}}?" if near else "`filterd check --facts` lists what there is"
            faults.append(document.error(path, f"there is no fact {{{name}}}; {hint}"))
    return reply


def _has_within(errors: list[ErrorDetails], location: tuple[int | str, ...]) -> bool:
    return any(each["loc"][: len(location)] == location != each["loc"] for each in errors)


def _schema_error(document: Document, error: ErrorDetails) -> PolicyError:
    path = _known_path(document, error["loc"])
    match error["type"]:
        case "extra_forbidden":
            key, allowed = str(error["loc"][-1]), _keys_at(error["loc"][:-1])
            near = difflib.get_close_matches(key, allowed, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(allowed)}"
            problem = f"there is no key {key} here; {hint}"
        case "missing":
            problem = f"the key {error['loc'][-1]} is missing"
        case "literal_error":
            given = str(error.get("input"))
            expected = re.findall(r"'([^']+)'", str(error.get("ctx", {}).get("expected", "")))
            near = difflib.get_close_matches(given, expected, 1, 0.6)
            hint = f"did you mean {near[0]}? " if near else ""
            problem = f"{given!r} is not possible here; {hint}allowed: {', '.join(expected)}"
        case "value_error":
            problem = error["msg"].removeprefix("Value error, ")
        case "model_type" | "model_attributes_type":
            problem = "here stand keys with values (key: value)"
        case "tuple_type":
            problem = "here stands a list: [a, b], or lines that begin with a dash"
        case "too_short":
            problem = f"here stands a list of at least {error['ctx']['min_length']}"
        case "too_long":
            problem = f"here stands a list of at most {error['ctx']['max_length']}"
        case "bool_parsing":
            problem = "here stands true or false"
        case "string_type":
            problem = "here stands a text"
        case _:
            problem = error["msg"]
    return document.error(path, problem)


def _known_path(document: Document, location: tuple[int | str, ...]) -> Path:
    """pydantic's location without the parts that stand in no file."""
    path: Path = ()
    for part in location:
        if isinstance(part, int) or document.keys((*path, part)) is not None or part == location[-1]:
            path = (*path, part)
    return path


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    model: Any = PolicyFile
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            annotation = model.model_fields[part].annotation
            candidates = [annotation, *getattr(annotation, "__args__", ())]
            model = next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), model)
    return list(model.model_fields)
