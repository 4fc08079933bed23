"""The policy file's keys, their types, and what they mean by default.

The file's scalars reach these models as the text that was written, so that each field reads its own type and YAML's
surprises (`012`, `1:30`, `on`) have no room.
"""

from ipaddress import ip_network
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from filterd.policy.action_entries import Action, Actions, Number
from filterd.policy.field_types import (
    ConditionText,
    DomainPattern,
    FileMode,
    HostName,
    NameServer,
    Network,
    Secret,
    SenderPattern,
    SocketAddress,
    StateUrl,
    Workers,
)
from filterd.policy.limits_schema import GreylistSection, LimitEntry
from filterd.policy.policy_tests import MAX_TESTS, PolicyTestEntry
from filterd.policy.quantities import Flag, Seconds, Size, Whole
from filterd.policy.reputation import DnsblEntry, SpamdSection
from filterd.policy.section import Section


class SocketAccess(Section):
    """Who may connect to filterd's unix sockets."""

    group: str | None = Field(None, description="The sockets' group; Postfix runs as postfix.")
    mode: FileMode = Field(0o660, description="The sockets' mode, octal.")


class Server(Section):
    """How the daemon runs; a change needs a restart."""

    socket: SocketAccess = SocketAccess()
    policy_service: tuple[SocketAddress, ...] = Field(
        (),
        max_length=8,
        description="Where Postfix's check_policy_service connects; none by default.",
    )
    milter: tuple[SocketAddress, ...] = Field(
        ("unix:/run/filterd/milter.sock",),
        max_length=1,
        description="Where the MTA connects; [] where only the policy service is used.",
    )
    control: SocketAddress | None = Field(
        None,
        description="Where `filterd reload` and `filterd status` reach the daemon, for root and `user` alone: a unix "
        "socket, by default control.sock in the folder of the milter's.",
    )
    http: SocketAddress | None = Field(
        None, description="Where /metrics, /healthz and /readyz are served; by default nowhere."
    )
    workers: Workers = Field(None, description="How many processes judge mail; auto is one a processor, two at least.")
    user: str | None = Field(None, description="Whom to become after binding, when started as root.")
    engine: Literal["libmilter", "native"] = Field(
        "native", description="What speaks the milter protocol: filterd itself, or libmilter, which costs more."
    )
    max_connections: Whole = Field(
        500,
        ge=1,
        le=100_000,
        description="How many connections of the MTA each worker takes; further ones wait. For the native engine.",
    )
    watchdog: Seconds = Field(
        30.0,
        ge=1.0,
        description="A worker that shows no sign of life for so long is killed, and another takes its place.",
    )
    max_memory: Size = Field(
        2**30,
        ge=2**20,
        description="A worker that has grown beyond this ends the mail that it has, and another takes its place.",
    )
    on_error: Literal["defer", "accept", "reject"] = Field(
        "defer", description="What becomes of a mail that filterd itself fails to judge."
    )
    state: StateUrl | None = Field(
        None,
        description="What workers and machines share, such as what limits have counted: sqlite:/PATH for one machine, "
        "redis://HOST:PORT, unix:///SOCKET, redis+sentinel://HOST:PORT,…/SERVICE or redis+cluster://HOST:PORT,… for "
        "several (rediss for TLS). Without it each worker counts alone, in its memory.",
    )
    state_password: Secret | None = Field(None, description="The password of Redis, where the URL has none.")

    @field_validator("policy_service", "milter")
    @classmethod
    def _is_one_listeners(cls, addresses: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        others = info.data.get("policy_service", ())
        double = next((each for each in addresses if addresses.count(each) > 1 or each in others), None)
        if double is not None:
            raise ValueError(f"{double} is used twice; each address is for one listener")
        if info.field_name == "milter" and info.data.get("policy_service") == addresses == ():
            raise ValueError("nobody could connect: write an address here, or under server.policy_service")
        return addresses

    @field_validator("control")
    @classmethod
    def _control_is_local(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith("unix:"):
            raise ValueError("the control socket is a unix socket: unix:/PATH")
        return address


class Identity(Section):
    """Under which name filterd speaks."""

    authserv_id: HostName | None = Field(
        None, description="The name in Authentication-Results (RFC 8601 2.5); by default this host's name."
    )
    trusted_authserv_ids: tuple[HostName, ...] = Field(
        (),
        max_length=20,
        description="The names of other servers of ours: from clients in `networks`, rules read their results as "
        "trusted.*; from all others, such fields are removed as forged. List only servers that do the same.",
    )


class Networks(Section):
    """Who is who."""

    trusted: tuple[Network, ...] = Field(
        (ip_network("127.0.0.0/8"), ip_network("::1")),
        description="Clients whose mail is ours, as if they had logged in.",
    )
    relays: tuple[Network, ...] = Field((), description="Our own MXs and gateways: their mail is inbound, never ours.")


class Dns(Section):
    """Whom to ask, and for how long."""

    servers: tuple[NameServer, ...] = Field((), description="Resolvers; none means those of the system.")
    timeout: Seconds = Field(5.0, gt=0, le=60, description="How long one question may take.")
    # Postfix waits 30 s for a milter (milter_command_timeout); what we answer must come before.
    deadline: Seconds = Field(20.0, gt=0, le=24, description="How long the questions of one stage may take together.")
    on_error: Literal["skip", "defer", "accept", "reject"] = Field(
        "skip",
        description="What becomes of a mail whose DMARC result is temperror and that no rule decided. "
        "skip and accept let it pass, with temperror in its Authentication-Results.",
    )


class Dmarc(Section):
    """How DMARC is judged."""

    organizational_domain: Literal["treewalk", "psl", "compare"] = Field(
        "treewalk",
        description="What tells an organization's domains from strangers': treewalk asks DNS (RFC 9989), psl the "
        "public suffix list (RFC 7489). compare judges by the first, and logs where the second differs.",
    )
    on_multiple_authors: Literal["reject", "defer", "quarantine", "hold", "skip"] = Field(
        "reject",
        description="What becomes of strangers' mail that has not exactly one author in exactly one From field.",
    )


class Arc(Section):
    """What chains of ARC sets are good for (RFC 8617)."""

    seal: Flag = Field(
        False,
        description="Whether strangers' mail is sealed for those to whom it goes on, with the RSA key of the `sign` "
        "entry for the authserv_id's domain, or for one above it.",
    )
    trusted_sealers: tuple[HostName, ...] = Field(
        (), max_length=1000, description="Whose word counts about mail that they passed on: the d= of their seals."
    )


class KeyEntry(Section):
    """A private key to sign with."""

    selector: str = Field(
        # RFC 6376 3.1: labels of a host name, as they become part of one.
        pattern=r"^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?){0,3}$",
        description="The key is published at SELECTOR._domainkey.DOMAIN.",
    )
    file: str = Field(description="A PEM file; a relative path begins at the policy's folder.")


class SignEntry(Section):
    """Which keys sign the mail of which authors."""

    domains: tuple[DomainPattern, ...] = Field(
        min_length=1,
        description="Author domains. *.example.org stands for all below example.org, and signs as example.org.",
    )
    keys: tuple[KeyEntry, ...] = Field(min_length=1, max_length=4, description="Each published key makes a signature.")
    expires: Seconds | None = Field(None, ge=3600, description="How long a signature holds (x=); by default for ever.")
    on_unpublished: Literal["defer", "sign", "skip"] = Field(
        "defer", description="What becomes of mail when none of the keys is published: skip sends it unsigned."
    )


class RuleEntry(Section):
    """One rule."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What logs and replies call it.")
    when: ConditionText = Field(description="The condition, in CEL over the facts.")
    then: Actions = Field(description="What is done: one action, or a list of them, a final one last.")
    reply: str | None = Field(None, description="The SMTP reply of reject and defer; {fact} is filled in.")
    mode: Literal["enforce", "observe"] = Field(
        "enforce", description="observe decides and logs, and carries out nothing."
    )
    at: Literal["connect", "helo", "mail", "rcpt", "data", "end_of_headers", "end_of_message"] | None = Field(
        None, description="A stage later than the earliest possible; connect and helo only by writing so."
    )

    @property
    def actions(self) -> tuple[Action, ...]:
        """What is done, in order."""
        return self.then if isinstance(self.then, tuple) else (self.then,)


class ScoreLimits(Section):
    """What the sum of all `score` actions comes to, where no rule has decided; each from this sum on."""

    tag: Number | None = Field(None, description="The sum from which on the mail is tagged.")
    quarantine: Number | None = Field(None, description="The sum from which on it is quarantined.")
    reject: Number | None = Field(None, description="The sum from which on it is refused.")
    reply: str | None = Field(None, description="The SMTP reply of a refusal; {fact} is filled in.")

    @model_validator(mode="after")
    def _ascend(self) -> "ScoreLimits":
        given = [each for each in (self.tag, self.quarantine, self.reject) if each is not None]
        if given != sorted(set(given)):
            raise ValueError("tag, quarantine and reject ascend: a higher score does not get a milder answer")
        if self.reply is not None and self.reject is None:
            raise ValueError("the reply is that of reject, which is missing")
        return self


class Decisions(Section):
    """The store of decisions, from which `filterd explain` answers why a mail ended as it did."""

    file: str = Field(
        pattern=r"^/.+",
        description="The file that decisions are kept in, such as "
        "/var/lib/filterd/decisions.db; its folder has to be writable for `server.user`.",
    )
    max_age: Seconds = Field(30 * 86400.0, ge=3600, description="How long a decision is kept.")
    max_size: Size = Field(2**30, ge=2**20, description="How large the file may become; then the oldest ones go.")
    keep: Literal["none", "headers", "message"] = Field(
        "none",
        description="What is kept of the mails themselves: needed only to replay rules that read more of the "
        "content than was asked for then. Bodies above 1 MiB are not kept.",
    )
    personal: Flag = Field(
        True, description="Whether addresses, login names and clients' addresses are kept; the manual has the list."
    )

    @model_validator(mode="after")
    def _content_is_personal(self) -> "Decisions":
        if self.keep != "none" and not self.personal:
            raise ValueError(f"keep: {self.keep} keeps personal data; write keep: none, or personal: true")
        return self


Named = LimitEntry | RuleEntry | PolicyTestEntry


class PolicyFile(Section):
    """A whole policy file."""

    version: Literal["1"]
    include: tuple[str, ...] = Field(
        (),
        max_length=100,
        description="Files that belong to the policy: names or patterns (rules.d/*.yaml), relative to its folder. "
        "Their lists go on behind those of this file, their mappings add keys; what is no list is set once.",
    )
    server: Server = Server()
    identity: Identity = Identity()
    networks: Networks = Networks()
    dns: Dns = Dns()
    mail_from_us: ConditionText = Field(
        "client.authenticated || client.trusted", description="Which mail is ours; everything else is inbound."
    )
    sign: tuple[SignEntry, ...] = Field((), max_length=10_000)
    senders: dict[str, tuple[SenderPattern, ...]] | None = Field(
        None,
        description="The addresses and domains that each login may write as: anna@example.org, @example.org or *. "
        "Without this, every login may use every address.",
    )
    dmarc: Dmarc = Dmarc()
    arc: Arc = Arc()
    decisions: Decisions | None = Field(None, description="Where decisions are kept; without it nowhere.")
    dnsbl: tuple[DnsblEntry, ...] = Field((), max_length=50, description="DNS lists that are asked, all at once.")
    spamd: SpamdSection | None = Field(None, description="SpamAssassin's spamd; without it nobody reads the content.")
    score: ScoreLimits = ScoreLimits()
    shadow: str | None = Field(
        None,
        description="A second policy file, which judges the same mail from the same results. That is logged and "
        "counted, and never carried out. A relative path begins at the policy's folder.",
    )
    limits: tuple[LimitEntry, ...] = Field((), max_length=100)
    greylist: GreylistSection | None = Field(None, description="Greylisting; without it nobody has to come again.")
    rules: tuple[RuleEntry, ...] = Field((), max_length=10_000)
    tests: tuple[PolicyTestEntry, ...] = Field(
        (), max_length=MAX_TESTS, description="Mails and how they must end; a policy is used only if all of them do."
    )

    @field_validator("limits", "rules", "tests")
    @classmethod
    def _names_are_unique(cls, entries: tuple[Named, ...], info: ValidationInfo) -> tuple[Named, ...]:
        names = [entry.name for entry in entries]
        double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if double:
            what = str(info.field_name)
            raise ValueError(f"two {what} are named {double}; a name stands for one {what.removesuffix('s')}")
        return entries
