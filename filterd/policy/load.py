"""Policy text becomes a Policy that can be run, or all that is wrong with it. Opens no files."""

import hashlib
from collections.abc import Callable

from pydantic import ValidationError

from filterd.dkim.sign import SigningKey
from filterd.dmarc.org_domain import PublicSuffixes
from filterd.mail.domain import Domain
from filterd.mail.transaction import Stage
from filterd.policy.errors import PolicyError, PolicyErrors
from filterd.policy.facts import FACTS, Check
from filterd.policy.field_types import ReadSecret, no_secrets
from filterd.policy.greylist_load import load_greylist
from filterd.policy.limits_load import counted_units, load_limits
from filterd.policy.list_file import FileDigests, Lists
from filterd.policy.load_rules import broken_rules, load_condition, load_rule, own_rule, score_rules
from filterd.policy.load_tests import ReadFile, load_tests
from filterd.policy.nodes import Document, ReadInclude, no_includes
from filterd.policy.reputation import of_author
from filterd.policy.rules import Policy
from filterd.policy.schema import PolicyFile
from filterd.policy.schema_errors import schema_errors, sound_parts
from filterd.policy.signers import Sealer, SelectedKey, Signer, Signers

# Authentication-Results name these, whatever the rules read.
_REPORTED = frozenset({Check.SPF, Check.DKIM, Check.ARC, Check.DMARC})


ReadKey = Callable[[str], SigningKey]
ReadSuffixes = Callable[[], PublicSuffixes]


def _no_keys(file: str) -> SigningKey:
    raise ValueError("keys are not read here")


def _no_suffixes() -> PublicSuffixes:
    raise ValueError("the public suffix list is not read here")


def _no_files(file: str) -> bytes:
    raise ValueError("files are not read here")


def load(
    text: str,
    file: str,
    read_key: ReadKey = _no_keys,
    read_suffixes: ReadSuffixes = _no_suffixes,
    read_file: ReadFile = _no_files,
    read_include: ReadInclude = no_includes,
    read_secret: ReadSecret = no_secrets,
    read_list: ReadFile = _no_files,
) -> Policy:
    """Compile a policy. `file` is what errors call it; `read_key` finds a key by its name in the policy,
    `read_suffixes` the public suffix list where it is asked for, `read_file` what a test's file has, `read_include` the
    files that it includes, `read_secret` a secret that is kept in a file, `read_list` what a list file has; all
    raise ValueError. Raises PolicyErrors with every fault."""
    document = Document(text, file, read_include)
    context = {"read_secret": read_secret}
    faults = document.errors
    try:
        settings = PolicyFile.model_validate(document.data, context=context)
        entries = list(enumerate(settings.rules))
    except ValidationError as error:
        faults += schema_errors(document, error)
        settings, entries = sound_parts(document, error, context)
    lists = Lists(read_list)
    mail_from_us = load_condition(document, ("mail_from_us",), settings.mail_from_us, faults, lists.find)
    for name in mail_from_us.facts:
        if FACTS[name].check or FACTS[name].stage > Stage.MAIL or name == "from_us":
            problem = f"whose mail it is must be known at MAIL, {name} is not known then"
            faults.append(document.error(("mail_from_us",), problem))
    signers = _signers(document, settings, read_key, faults)
    sealer = _sealer(document, settings, signers, faults)
    suffixes = _suffixes(document, settings, read_suffixes, faults)
    rules = [own_rule(settings)] if settings.dmarc.on_multiple_authors != "skip" else []
    rules += [load_rule(document, index, entry, lists.find, faults) for index, entry in entries]
    rules += score_rules(document, settings.score, faults)
    names = [rule.name for rule in rules] + broken_rules(document, entries, lists.find, faults)
    overrides = FileDigests(read_file)
    limits = load_limits(document, settings.limits, names, lists.find, overrides.read, faults)
    greylist = load_greylist(document, settings.greylist, lists.find, faults)
    if greylist is not None:
        for index, entry in entries:
            if entry.name == greylist.rule.name:
                faults.append(document.error(("rules", index, "name"), "greylist is the name of greylisting"))
        names.append(greylist.rule.name)
    counted = counted_units(document, settings.limits)
    scanned = settings.spamd is not None
    tests = load_tests(document, settings.tests, names, counted, read_file, faults, scanned=scanned)
    if faults:
        raise PolicyErrors(faults)
    staged = {stage: tuple(rule for rule in rules if rule.stage is stage) for stage in Stage}
    charged = {stage: tuple(limit for limit in limits if limit.rule.stage is stage) for stage in Stage}
    named = {
        stage: {name for rule in staged[stage] for name in (*rule.condition.facts, *rule.shown_facts)}
        | {name for limit in charged[stage] for name in limit.facts}
        | set(greylist.facts if greylist is not None and stage in (Stage.RCPT, Stage.DATA) else ())
        for stage in Stage
    }
    facts = {stage: tuple(sorted(names)) for stage, names in named.items()}
    digest = hashlib.sha256("\0".join([*document.texts, *lists.digests(), *overrides.digests()]).encode()).hexdigest()[
        :12
    ]
    read = {check for names in facts.values() for name in names if (check := FACTS[name].check)}
    trusted_sealers = frozenset(map(Domain.parse, settings.arc.trusted_sealers))
    checks = _REPORTED | read | _configured(settings)
    return Policy(
        settings,
        mail_from_us,
        signers,
        staged,
        checks,
        facts,
        digest,
        suffixes,
        sealer,
        trusted_sealers,
        tests,
        limits=charged,
        greylist=greylist,
    )


def _configured(settings: PolicyFile) -> frozenset[Check]:
    """What adds to the score, whatever rules read."""
    wanted = {
        Check.DNSBL: bool(of_author(settings.dnsbl, False)),
        Check.DNSBL_AUTHOR: bool(of_author(settings.dnsbl, True)),
        Check.SPAM: settings.spamd is not None,
    }
    return frozenset(check for check, is_wanted in wanted.items() if is_wanted)


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
    # A key that could not be read, or a name that is none, is told of already.
    if not settings.arc.seal or any(fault.path.startswith(("sign", "identity")) for fault in faults):
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
