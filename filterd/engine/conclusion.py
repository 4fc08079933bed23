"""What all stages of a mail come to. Pure: for the policy in force and for one in shadow alike."""

from collections.abc import Iterable, Sequence

from filterd.engine.fallback import not_judged
from filterd.policy.reputation import found_summands
from filterd.policy.results import Results
from filterd.policy.schema import PolicyFile
from filterd.policy.transcript import Judgement
from filterd.policy.verdict import Disposition, Edit, Verdict


def conclusion(
    judgements: Sequence[Judgement], settings: PolicyFile, results: Results, intentions: Iterable[Edit] = ()
) -> Verdict:
    """One verdict of all stages: the first that decided, with the edits of all, and then `intentions`."""
    whole = [each.verdict for each in judgements if each.recipient is None]
    edits: list[Edit] = [edit for verdict in whole for edit in verdict.edits]
    edits += intentions
    decided = decisive(whole) or not_judged(settings, results) or Verdict()
    override = next((each.override for each in whole if each.override), None)
    summands = (
        *found_summands(settings.dnsbl, results),
        *(each for verdict in whole for each in verdict.summands),
    )
    return Verdict(decided.disposition, decided.reply, decided.rule, tuple(edits), (), summands, override)


def decisive(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that decides: a refusal, as limits refuse what a rule let off, or else the first that decided."""
    decided = [each for each in verdicts if each.disposition is not Disposition.CONTINUE]
    return next((each for each in decided if each.disposition.final), next(iter(decided), None))
