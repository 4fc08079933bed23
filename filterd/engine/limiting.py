"""What the limits have counted of one mail: charged stage by stage, and counted or given back at its end."""

from collections.abc import Sequence

from filterd.engine.runtime import Runtime
from filterd.limits.keys import mail_member
from filterd.limits.state import StoreError
from filterd.limits.window import Charge, Ending, Recorded
from filterd.mail.transaction import Stage
from filterd.policy.facts import Facts
from filterd.policy.limits import Asked, MailSoFar, ask, uncounted, weigh
from filterd.policy.results import Results
from filterd.policy.rules import Limit
from filterd.policy.verdict import Disposition, Verdict


class Limiting:
    """The limits of one mail.

    `shared`: whoever judges it here hears nothing of its end, as the policy service does. What it holds is counted,
    unless the milter, who knows the end, has taken it over: both know the mail by the same name.
    """

    def __init__(self, runtime: Runtime, *, shared: bool = False) -> None:
        self._policy = runtime.policy
        self._limits = runtime.policy.limits
        self._store = runtime.store
        self._clock = runtime.clock
        self._shared = shared
        # Of a mail's end only the milter can tell, if there is one.
        self._last = Stage.RCPT if shared and runtime.policy.server.milter else Stage.END_OF_MESSAGE
        self._recipients: dict[str, set[str]] = {}
        self._held: dict[str, Charge] = {}

    def judge(self, stage: Stage, facts: Facts, results: Results, verdict: Verdict) -> Verdict:
        """Charge what the limits count at a stage, unless a rule has refused it; returns the verdict of both."""
        if verdict.disposition.final:
            if stage is Stage.RCPT:
                self.refused(facts, results)
            return verdict
        limits = self._limits[stage] if stage <= self._last else ()
        if not limits:
            return verdict
        asked = self._asked(limits, facts, results)
        charges = [charge for each in asked for charge in each.charges]
        if not charges:
            return weigh(verdict, asked, ())
        try:
            standings = self._store.reserve(charges, self._now())
        except StoreError as error:
            return uncounted(verdict, asked, str(error))
        verdict = weigh(verdict, asked, standings)
        recipient = facts.recipient
        for charge, standing in zip(charges, standings, strict=True):
            if standing.fits and charge.recorded is Recorded.ADMITTED and not verdict.disposition.final:
                self._held[charge.bucket] = charge
                if recipient is not None:
                    self._recipients.setdefault(charge.bucket, set()).add(recipient.address)
        return verdict

    def refused(self, facts: Facts, results: Results) -> None:
        """The recipient was refused: that is counted as a failure, whatever becomes of the mail."""
        asked = self._asked(self._policy.failure_limits, facts, results, failed=True)
        charges = [charge for each in asked for charge in each.charges]
        if charges:
            try:
                self._store.reserve(charges, self._now())
            except StoreError:
                return  # failures are no reason to refuse anything else

    def finished(self, verdict: Verdict) -> None:
        """The mail's end: what was taken counts."""
        taken = verdict.disposition not in (Disposition.REJECT, Disposition.DEFER)
        self._settle(Ending.REFUND if not taken else Ending.LEAVE if self._shared else Ending.COUNT)

    def given_up(self) -> None:
        """The mail ended without a word; who shares it does not know how."""
        self._settle(Ending.LEAVE if self._shared else Ending.REFUND)

    def _settle(self, ending: Ending) -> None:
        charges, self._held = list(self._held.values()), {}
        if not charges:
            return
        try:
            self._store.settle(charges, ending, self._now())
        except StoreError:
            return  # what is held lapses

    def _asked(self, limits: Sequence[Limit], facts: Facts, results: Results, *, failed: bool = False) -> list[Asked]:
        transaction = facts.transaction
        member = mail_member(transaction.client, transaction.sender, transaction.id)

        def total(bucket: str) -> int:
            recipient = {facts.recipient.address} if facts.recipient is not None else set()
            return len(self._recipients.get(bucket, set()) | recipient)

        mail = MailSoFar(member, self._shared, total)
        return [ask(limit, facts, results, mail, failed=failed) for limit in limits]

    def _now(self) -> int:
        return int(self._clock.now() * 1000)
