"""What OpenDKIM signs, in the terms of a policy's `sign` section: opendkim.conf(5), SigningTable and KeyTable.

OpenDKIM finds keys by the author's address, and a key says as which domain it signs. A policy finds them by the
author's domain, and signs as that domain, or by *.example.org as example.org for all below it. What cannot be said so
is told. Whether keys are any good is not looked at here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from filterd.backend.opendkim_authors import (
    EVERYBODY,
    Authors,
    UnlikeError,
    authors_named,
    authors_of_key,
    authors_of_pattern,
)
from filterd.backend.opendkim_config import DataSet, Form, OpenDkimConfig, OpenDkimError, Place, Row, printable
from filterd.mail.domain import Domain, DomainError
from filterd.policy.schema import KeyEntry

#: What else changes how OpenDKIM signs, and what a policy has for it.
_OTHERWISE = {
    "bodylengthdb": "filterd never signs a part of a body only (l=)",
    "canonicalization": "filterd signs relaxed/relaxed, which survives more",
    "changerootdirectory": "the paths here are those inside of that folder",
    "dontsignmailto": "filterd signs whoever the recipients are",
    "exemptdomains": "filterd signs for all domains that `sign` names",
    "externalignorelist": "whose mail is ours is said by networks.trusted and mail_from_us",
    "internalhosts": "whose mail is ours is said by networks.trusted and mail_from_us",
    "macrolist": "whose mail is ours is said by networks.trusted and mail_from_us",
    "mta": "whose mail is ours is said by networks.trusted and mail_from_us",
    "omitheaders": "filterd has its own list of fields to sign",
    "oversignheaders": "filterd seals From and eight other fields against additions, always",
    "resignmailto": "filterd signs no mail of strangers",
    "senderheaders": "the author in From decides, alone",
    "sendermacro": "the author in From decides, alone",
    "setuppolicyscript": "what the Lua script decides is not taken over",
    "screenpolicyscript": "what the Lua script decides is not taken over",
    "signaturealgorithm": "the key decides: rsa-sha256 or ed25519-sha256",
    "signheaders": "filterd has its own list of fields to sign",
}
_AUTHORS_DOMAIN = "%"
#: What a policy's `sign` entry allows: signatures by one entry, and the least seconds that they hold.
MAX_KEYS = 4
MIN_EXPIRES = 3600


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that is otherwise in filterd. `unsigned`: mail that OpenDKIM signs would not be signed so."""

    place: Place
    text: str
    unsigned: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {printable(self.text)}"


@dataclass(frozen=True, slots=True)
class OpenDkimKey:
    """A private key: a file, or the text that stands in the KeyTable itself, PEM or base64 of DER."""

    selector: str
    file: Path | None
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class OpenDkimSigning:
    """The keys of each domain pattern ("example.org", "*.example.org"), `expires` in seconds, and what to know."""

    keys: dict[str, tuple[OpenDkimKey, ...]]
    expires: int | None
    remarks: tuple[Remark, ...]


@dataclass(frozen=True, slots=True)
class _KeyRow:
    """A key as OpenDKIM has it: it signs as `domain`, which for None is the author's."""

    domain: Domain | None
    selector: str
    value: str
    place: Place


@dataclass(frozen=True, slots=True)
class _Rule:
    """These authors' mail is signed with the key of this name; "%" is the author's domain."""

    authors: Authors
    key: str | _KeyRow
    place: Place


def read_signing(config: OpenDkimConfig) -> OpenDkimSigning:
    """Raises OpenDkimError where the configuration makes no sense, or nothing of it signs."""
    return _Reading(config).signing()


class _Reading:
    """The reading of one configuration: collects what is signed with what, and remarks."""

    def __init__(self, config: OpenDkimConfig) -> None:
        self._config = config
        self._remarks: list[Remark] = []
        self._table: dict[str, _KeyRow] = {}
        self._named: dict[Authors, _KeyRow] = {}
        self._keys: dict[str, list[OpenDkimKey]] = {}

    def signing(self) -> OpenDkimSigning:
        table, signing = self._config.dataset("KeyTable"), self._config.dataset("SigningTable")
        several = signing is not None and self._is_true("MultipleSignatures")
        if signing is not None:
            if table is None:
                raise OpenDkimError(signing.place, "SigningTable needs a KeyTable")
            self._table = _key_table(table)
            self._named = {authors: row for name, row in self._table.items() for authors in authors_named(name)}
            rules = self._of_table(signing, several)
        elif table is not None:
            raise OpenDkimError(table.place, "there is no SigningTable that says whose mail these keys sign")
        else:
            rules = self._of_domains()
        for rule in rules:
            self._apply(rule, several)
        expires = self._expires()
        self._differences()
        keys = {pattern: tuple(found) for pattern, found in self._keys.items()}
        return OpenDkimSigning(keys, expires, tuple(self._remarks))

    def _of_table(self, table: DataSet, several: bool) -> list[_Rule]:
        rules = []
        for row in table.rows:
            name, _, identity = (part.strip() for part in row.value.partition(":"))
            if not name:
                raise OpenDkimError(row.place, f"{row.key} has no key's name behind it")
            if identity:
                self._remark(row.place, f"{row.key}: i= is the signing domain, without a user")
            rules += [_Rule(authors, name, row.place) for authors in self._authors(row, table.form)]
        if several:
            self._tell_of_several(rules)
        if table.form is Form.PATTERNS:
            return rules if several else list(self._used(rules, by_wider=True))
        # opendkim.conf(5), SigningTable: the host is looked for first, then names above it, then everybody.
        return sorted(self._used(rules, by_wider=False), key=lambda rule: rule.authors.nearness)

    def _used(self, rules: Iterable[_Rule], by_wider: bool) -> Iterator[_Rule]:
        """The rules that are ever used: not those whose authors an earlier one has, or (`by_wider`) includes."""
        taken: dict[Authors, Place] = {}
        for rule in rules:
            takers = (rule.authors, *(rule.authors.wider if by_wider else ()))
            earlier = next((taken[each] for each in takers if each in taken), None)
            if earlier is None:
                taken[rule.authors] = rule.place
                yield rule
            else:
                self._remark(rule.place, f"is never used: {earlier} takes the mail of {rule.authors} first")

    def _tell_of_several(self, rules: Iterable[_Rule]) -> None:
        places = {rule.authors: rule.place for rule in rules}
        for authors, place in places.items():
            wider = next((places[each] for each in authors.wider if each in places), None)
            if wider is not None:
                self._remark(place, f"mail of {authors} was signed by {wider} too; here the nearest entry alone signs")

    def _of_domains(self) -> list[_Rule]:
        domains = self._config.dataset("Domain")
        if domains is None:
            raise OpenDkimError(
                Place(self._config.path, 1), "nothing is signed: there is neither SigningTable nor Domain"
            )
        settings = self._config.settings
        if "selector" not in settings or "keyfile" not in settings:
            raise OpenDkimError(domains.place, "Domain needs KeyFile and Selector")
        file = settings["keyfile"]
        key = _KeyRow(None, settings["selector"].value, str(self._config.file(file.value)), file.place)
        rules = []
        for row in domains.rows:
            if domains.form is Form.PATTERNS:
                row = replace(row, key=f"*@{row.key}")
            for authors in self._authors(row, domains.form):
                rules.append(_Rule(authors, key, row.place))
                if self._is_true("SubDomains") and not authors.below:
                    # What is below a domain of the list signs as that.
                    below = replace(authors, below=True)
                    rules.append(_Rule(below, replace(key, domain=authors.domain), row.place))
        return rules

    def _authors(self, row: Row, form: Form) -> tuple[Authors, ...]:
        try:
            return (authors_of_pattern if form is Form.PATTERNS else authors_of_key)(row.key)
        except UnlikeError as error:
            self._remark(row.place, f"{row.key}: {error}", unsigned=True)
            return ()

    def _apply(self, rule: _Rule, several: bool) -> None:
        for authors, row in self._resolved(rule):
            try:
                found = list(self._signs(authors, row, rule.place))
            except UnlikeError as error:
                self._remark(rule.place, str(error), unsigned=True)
                continue
            for pattern, key in found:
                known = self._keys.setdefault(pattern, [])
                if key in known or (known and not several):
                    continue
                if len(known) == MAX_KEYS:
                    self._remark(rule.place, f"mail of {pattern} gets {MAX_KEYS} signatures here at most")
                else:
                    known.append(key)

    def _resolved(self, rule: _Rule) -> list[tuple[Authors, _KeyRow]]:
        """The row of the KeyTable; for "%" all that are named after a domain of these authors."""
        if isinstance(rule.key, _KeyRow):
            return [(rule.authors, rule.key)]
        if rule.key != _AUTHORS_DOMAIN:
            if rule.key not in self._table:
                raise OpenDkimError(rule.place, f"the KeyTable has no key that is named {rule.key}")
            return [(rule.authors, self._table[rule.key])]
        if rule.authors.below:
            named = [(each, row) for each, row in self._named.items() if rule.authors in each.wider]
        else:
            named = [(rule.authors, self._named[rule.authors])] if rule.authors in self._named else []
        if not named:
            self._remark(rule.place, f"no key is named after a domain of {rule.authors}", unsigned=True)
        return named

    def _signs(self, authors: Authors, row: _KeyRow, place: Place) -> Iterator[tuple[str, OpenDkimKey]]:
        """The patterns of a `sign` section that mean these authors, with their key."""
        signs_as = row.domain
        if signs_as is None:
            if authors.below or authors.domain is None:
                raise UnlikeError(f"each domain of {authors} signs as itself: name those that are yours")
            signs_as = authors.domain
        if not _is_selector(row.selector):
            raise UnlikeError(f"the selector {row.selector} is none that RFC 6376 3.1 has")
        is_file = row.value.startswith(("/", "./", "../"))
        file = self._config.file(row.value.replace("%", signs_as.name)) if is_file else None
        key = OpenDkimKey(row.selector, file, "" if is_file else row.value, row.place)
        if authors.domain == signs_as:
            yield str(authors), key
        elif authors == EVERYBODY:
            self._remark(place, f"here {signs_as} signs its own mail and that of names below it, not everybody's")
            yield signs_as.name, key
            yield f"*.{signs_as}", key
        elif authors.domain is not None and authors.domain.under(signs_as):
            raise UnlikeError(
                f"signs mail of {authors} as {signs_as}: here only *.{signs_as} does, for all names below it"
            )
        else:
            raise UnlikeError(f"signs mail of {authors} as {signs_as}, which proves nothing about its author (DMARC)")

    def _expires(self) -> int | None:
        setting = self._config.settings.get("signaturettl")
        if setting is None:
            return None
        if not re.fullmatch(r"[0-9]{1,9}", setting.value):
            raise OpenDkimError(setting.place, "SignatureTTL is a number of seconds")
        if 0 < int(setting.value) < MIN_EXPIRES:
            self._remark(setting.place, f"SignatureTTL: signatures hold {MIN_EXPIRES} seconds here at least")
        return max(int(setting.value), MIN_EXPIRES) if int(setting.value) else None

    def _differences(self) -> None:
        for name, setting in self._config.settings.items():
            if name in _OTHERWISE:
                self._remark(setting.place, f"{setting.name}: {_OTHERWISE[name]}")
        mode = self._config.settings.get("mode")
        if mode is not None and "s" not in mode.value.lower():
            self._remark(mode.place, "Mode: OpenDKIM only verifies, as it is set up here")

    def _is_true(self, name: str) -> bool:
        setting = self._config.settings.get(name.lower())
        # opendkim.conf(5): the first character of a Boolean tells.
        return setting is not None and setting.value[0] in "TtYy1"

    def _remark(self, place: Place, text: str, unsigned: bool = False) -> None:
        self._remarks.append(Remark(place, text, unsigned))


def _key_table(table: DataSet) -> dict[str, _KeyRow]:
    keys: dict[str, _KeyRow] = {}
    for row in table.rows:
        if table.form is Form.PATTERNS and "*" in row.key:
            raise OpenDkimError(row.place, "names of keys that are patterns are not understood here; write them out")
        domain, selector, value = (*(part.strip() for part in row.value.split(":", 2)), "", "")[:3]
        if not (domain and selector and value):
            raise OpenDkimError(row.place, "a row of a KeyTable reads NAME DOMAIN:SELECTOR:FILE")
        try:
            signs_as = None if domain == _AUTHORS_DOMAIN else Domain.parse(domain)
        except DomainError as error:
            raise OpenDkimError(row.place, f"{domain}: {error}") from None
        keys.setdefault(row.key, _KeyRow(signs_as, selector, value, row.place))
    return keys


def _is_selector(text: str) -> bool:
    try:
        return bool(KeyEntry(selector=text, file="-"))
    except ValidationError:
        return False
