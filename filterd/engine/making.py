"""What is made of one mail at its end, from its verdict: our word on it, signatures, an ARC set, and so its changes.

Decides nothing about the mail, but that it must not leave unsigned, or without a change that was asked for.
"""

from collections.abc import Iterable

from filterd.authres.result import AuthenticationResults
from filterd.engine.changes import Change
from filterd.engine.checks import Checks
from filterd.engine.fallback import not_signed
from filterd.engine.finish import Finished, finish, said, strip_only
from filterd.engine.gather import Gather
from filterd.engine.notes import Notes
from filterd.engine.runtime import Runtime
from filterd.engine.sealing import Sealed
from filterd.engine.signing import Outbound, Signed
from filterd.mail.header import Field, Header
from filterd.mail.reason import Reason
from filterd.policy.verdict import Verdict


class NotOfferedError(Exception):
    """The MTA does not offer a change that the mail needs: it is not delivered as if it had been made."""


class Making:
    """The making of one mail's changes. `seen_by` are servers of ours that may have written in it already.

    `signed` and `sealed` say what came of the signatures and the ARC set.
    """

    def __init__(self, runtime: Runtime, checks: Checks, gather: Gather, notes: Notes, seen_by: frozenset[str]) -> None:
        self._runtime, self._checks, self._gather, self._notes = runtime, checks, gather, notes
        self._other_ids = runtime.other_ids - seen_by
        self.signed = Signed()
        self.sealed = Sealed()

    def of(
        self,
        verdict: Verdict,
        header: Header,
        recipients: Iterable[str],
        outbound: Outbound | None,
        lacks: frozenset[type[Change]],
        *,
        whole: bool,
    ) -> Finished:
        """What the verdict intends. `outbound` signs mail from us; `lacks` are changes that the MTA does not offer.

        Without a `whole` header, where a mail is judged again by its record, nothing is signed: only said.
        Raises NotOfferedError.
        """
        # Behind a relay of ours, what was judged is the connection that the relay took.
        transaction = self._checks.origin or self._checks.transaction
        found = said(self._runtime.authserv_id, transaction, self._checks.results, verdict.override)
        finished = finish(
            verdict,
            header,
            recipients,
            found,
            self._other_ids,
            lambda edited: self._sign(edited if whole else None, outbound),
            lambda edited: self._seal(edited, found),
        )
        if self.signed.defer:
            return Finished(not_signed(self.signed.unsigned))
        missing = next((each for each in finished.changes if type(each) in lacks), None) if lacks else None
        if missing is not None:
            raise NotOfferedError(f"the MTA does not let filterd make a change that the policy asks for: {missing}")
        return finished

    def unjudged(self, verdict: Verdict, header: Header, from_us: bool | None) -> Finished:
        """A mail that could not be judged."""
        leaves_unsigned = from_us and not verdict.disposition.final
        self.signed = Signed(unsigned=Reason.CHECK_FAILED if leaves_unsigned else None)
        return strip_only(verdict, header, self._other_ids | {self._runtime.authserv_id})

    def _sign(self, header: Header | None, outbound: Outbound | None) -> tuple[Field, ...]:
        if outbound is None:
            return ()
        now, memory = int(self._runtime.clock.now()), self._runtime.publications
        self.signed = self._notes.timed("sign", lambda: outbound.finish(header, now, memory, self._notes.resolver()))
        if self.signed.fault:
            self._gather.faults.append(self.signed.fault)
        return self.signed.fields

    def _seal(self, header: Header, found: AuthenticationResults) -> tuple[Field, ...]:
        chain = self._checks.results.arc
        if chain is None:
            return ()
        now, memory = self._runtime.clock.now(), self._runtime.publications
        self.sealed = self._notes.timed(
            "seal", lambda: self._gather.seal(header, found, chain, now, memory, self._notes.resolver())
        )
        return self.sealed.fields
