"""What greylisting asks about one mail, recipient by recipient, and tells of its end."""

from filterd.dkim.verify import DkimCode
from filterd.dmarc.evaluate import DmarcCode
from filterd.engine.runtime import Runtime
from filterd.limits.greylist import Attempt
from filterd.limits.state import StoreError
from filterd.mail.transaction import Stage
from filterd.policy.facts import Facts
from filterd.policy.greylist import greylisted
from filterd.policy.results import Results
from filterd.policy.verdict import Disposition, Verdict

_TAKEN = (Disposition.CONTINUE, Disposition.ACCEPT)


class Greylisting:
    """The greylisting of one mail.

    `shared`: whoever judges it here hears nothing of its end, as the policy service does. The milter, if there is one,
    asks the same again, is answered the same, and tells of the end; if there is none, what went on counts as delivered.
    """

    def __init__(self, runtime: Runtime, *, shared: bool = False) -> None:
        self._greylist = runtime.policy.greylist
        self._store = runtime.store
        self._clock = runtime.clock
        self._shared = shared
        self._tells = not (shared and runtime.policy.server.milter)
        self._attempts: list[Attempt] = []

    def judge(self, stage: Stage, facts: Facts, results: Results, verdict: Verdict) -> Verdict:
        """The stage's verdict, with what greylisting says where nothing is decided."""
        if self._greylist is None:
            return verdict
        verdict, attempt = greylisted(
            self._greylist, stage, facts, results, verdict, lambda asked: self._store.attempt(asked, self._now())
        )
        if attempt is not None:
            self._attempts.append(attempt)
        return verdict

    def finished(self, verdict: Verdict, results: Results) -> None:
        """The mail's end: whose mail was taken is remembered; what goes to Junk makes nobody known."""
        attempts, self._attempts = self._attempts, []
        if not attempts or not self._tells or verdict.disposition not in _TAKEN:
            return
        dmarc = results.dmarc is not None and results.dmarc.code is DmarcCode.PASS
        proven = dmarc or any(each.code is DkimCode.PASS for each in results.dkim or ())
        try:
            self._store.delivered(attempts, self._now(), proven=proven)
        except StoreError:
            return  # the next mail waits once more

    def given_up(self) -> None:
        """The mail ended without a word; only who hears of no end takes it for delivered."""
        if self._shared:
            self.finished(Verdict(), Results())

    def _now(self) -> int:
        return int(self._clock.now() * 1000)
