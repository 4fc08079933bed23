"""The keys of the sections `limits` and `greylist`."""

from typing import Annotated, Any, Literal

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from filterd.policy.quantities import Seconds, Whole, WrittenRate
from filterd.policy.section import Section


class _OneOrList:
    """A list, of which a single item may stand alone."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda value: [value] if isinstance(value, str) else value, handler(source)
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        listed = handler(core)
        return {"anyOf": [listed["items"], listed]}


class FoldEntry(Section):
    """How many leading bits of an address tell networks apart."""

    ipv4: Annotated[Whole, Field(ge=8, le=32)] = 24
    ipv6: Annotated[Whole, Field(ge=16, le=128)] = 64


class LimitEntry(Section):
    """One limit: how much mail one key may bring in any span of time."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="What logs and replies call it.")
    when: str = Field("true", description="The condition, in CEL over the facts: which mail it counts.")
    exempt: str | None = Field(None, description="A condition: which of that mail it does not count.")
    key: Annotated[tuple[str, ...], Field(min_length=1, max_length=4), _OneOrList()] = Field(
        description="The fact, or facts, whose every value is counted on its own. Where one is empty, nothing is "
        "counted. client.ip counts networks; see fold.",
    )
    rate: Annotated[tuple[WrittenRate, ...], Field(min_length=1, max_length=8), _OneOrList()] = Field(
        description="How much, such as 200 recipients per 1h, or a list. Counted are messages, recipients, bytes (KB, "
        "MB, GB), failures (different recipients that were refused) or networks (different ones that mail came from).",
    )
    burst: Whole | None = Field(
        None,
        ge=1,
        description="How much of the first rate may come at once: it keeps to the same pace in shorter time.",
    )
    then: Literal["defer", "reject", "quarantine", "hold", "observe"] = Field(
        "defer", description="What becomes of mail above the limit."
    )
    reply: str | None = Field(
        None,
        description="The SMTP reply of defer and reject; {limit.name}, {limit.remaining}, {limit.retry_after} "
        "(seconds) and {fact} are filled in.",
    )
    overrides: str | None = Field(
        None,
        description="A file with a line for each key that has rates of its own, boss@example.org: 5000 per 1d, or "
        "none: newsletter@example.org: unlimited.",
    )
    fold: FoldEntry = FoldEntry()
    mode: Literal["enforce", "observe"] = Field(
        "enforce", description="observe counts and logs, and carries out nothing."
    )
    on_error: Literal["skip", "accept", "defer", "reject"] = Field(
        "skip",
        description="What becomes of mail that cannot be counted, as the state store is away; skip and accept let it "
        "pass.",
    )


class GreylistSection(Section):
    """Which strangers' mail has to come again, as honest servers do and most spammers do not (RFC 6647)."""

    when: str = Field(
        'spf.result != "pass"',
        description="The condition, in CEL over the facts that are known at RCPT: which mail may have to wait. Mail "
        "from us never does, nor what our relays bring.",
    )
    exempt: str | None = Field(None, description="A condition: which of that mail does not wait.")
    delay: Seconds = Field(300.0, ge=1, le=86_400, description="How long after its first try a mail is let through.")
    retry_window: Seconds = Field(
        2 * 86_400.0, ge=60, le=30 * 86_400, description="Until when it has to come again; then it is new again."
    )
    expire: Seconds = Field(
        35 * 86_400.0,
        ge=3600,
        le=366 * 86_400,
        description="How long is known who was let through, from the last mail.",
    )
    allow_after: Whole = Field(
        5,
        ge=0,
        le=1000,
        description="After so many mails from a network, or a domain that SPF has verified, nothing from there waits; "
        "0 is never. Who has once proven by DKIM or DMARC who wrote does not wait again at all.",
    )
    fold: FoldEntry = FoldEntry()
    reply: str = Field(
        "450 4.7.1 new here: try again in {greylist.retry_after} s",
        description="The SMTP reply; {greylist.retry_after} (seconds) and {fact} are filled in.",
    )
    mode: Literal["enforce", "observe"] = Field("enforce", description="observe asks and logs, and lets all through.")
    on_error: Literal["skip", "accept", "defer"] = Field(
        "accept", description="What becomes of mail while the state store is away; skip and accept let it pass."
    )

    @model_validator(mode="after")
    def _there_is_time_to_come_again(self) -> "GreylistSection":
        if self.retry_window <= self.delay:
            raise ValueError("retry_window is longer than delay, or nobody could come again in time")
        return self
