"""A transcript as a page that answers "why": every result, every rule that fired and that did not."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from filterd.arc.verify import ArcResult, Hop
from filterd.dmarc.evaluate import DmarcResult
from filterd.lookup import Answer
from filterd.mail.domain import Domain
from filterd.mail.transaction import Stage
from filterd.policy.edit_words import edit_words
from filterd.policy.transcript import Judgement, Transcript
from filterd.policy.verdict import Disposition, Step, StepOutcome, score_of
from filterd.spam import SpamCode, SpamResult

#: What became of a mail, in one word.
DECIDED = {
    Disposition.CONTINUE: "accepted",
    Disposition.ACCEPT: "accepted",
    Disposition.QUARANTINE: "quarantined",
    Disposition.HOLD: "held",
    Disposition.DEFER: "deferred",
    Disposition.REJECT: "rejected",
    Disposition.DISCARD: "discarded",
}
_MEANING = {
    Disposition.CONTINUE: ": no rule decided",
    Disposition.QUARANTINE: ": delivered, marked for the Junk folder",
    Disposition.HOLD: ": kept in the MTA's hold queue",
    Disposition.DISCARD: ": taken, and thrown away",
}
# What decides where no rule does.
_NO_RULES = {
    "server.on_error": "filterd itself failed; the line `fault` says how",
    "dns.on_error": "DMARC could not be judged, as DNS did not answer",
    "sign.on_unpublished": "none of the keys that sign for this author is published in DNS",
    "sign.failed": "the signature could not be made",
    "header.too-large": "the header section has more fields or octets than are judged",
}
_WIDTH = 120


def explain(transcript: Transcript, unknown: Sequence[str] = ()) -> str:
    """The page, ending with a line end. `unknown` says why, in a replay, it is not known how the mail would end."""
    return "\n".join(_lines(transcript, unknown)) + "\n"


def _lines(transcript: Transcript, unknown: Sequence[str]) -> Iterator[str]:
    for why in unknown:
        yield f"verdict   cannot tell: {printable_text(why)}"
    if not unknown:
        yield from _verdict(transcript)
    yield ""
    yield from _mail(transcript)
    yield ""
    yield from _results(transcript)
    yield ""
    yield "rules"
    steps = [(judgement, step) for judgement in transcript.judgements for step in judgement.verdict.steps]
    stages = max((len(_stage(judgement)) for judgement, _ in steps), default=0)
    rules = max((len(step.rule) for _, step in steps), default=0)
    for judgement, step in steps:
        yield from _step(judgement, step, (stages, rules))
    if not steps:
        yield "  none was asked"
    if transcript.answers:
        yield ""
        yield "dns"
        for answer in transcript.answers:
            question = f"{answer.rdtype} {answer.name}"
            asking = ",".join(part for part, asked in transcript.sources.items() if question in asked)
            yield f"  {asking:9} {_answer(answer)}"
    yield ""
    times = ", ".join(f"{part} {spent:.1f} ms" for part, spent in transcript.times.items())
    yield f"policy {transcript.policy}; {times}"


def _verdict(transcript: Transcript) -> Iterator[str]:
    verdict = transcript.verdict
    decided = f" by {verdict.rule}" if verdict.rule else ""
    yield f"verdict   {DECIDED[verdict.disposition]}{decided}{_MEANING.get(verdict.disposition, '')}"
    yield from _because(transcript)
    if verdict.reply:
        yield f"reply     {verdict.reply}"
    if verdict.override:
        yield f"override  the failure of DMARC is set aside by the trusted ARC sealer {verdict.override}"
    if transcript.shadow:
        yield f"shadow    {transcript.shadow.word}"
    for rule, recipient in transcript.refused_recipients():
        yield f"refused   <{printable_text(recipient)}> by {rule}"
    for edit in verdict.edits:
        words = edit_words(edit)
        if words:
            yield printable_text(words)
    if verdict.summands:
        parts = ", ".join(f"{each.source} {each.number:+g}" for each in verdict.summands)
        yield f"score     {score_of(verdict.summands):g} = {printable_text(parts)}"
    if transcript.fault:
        yield f"fault     {printable_text(transcript.fault)}"


def _because(transcript: Transcript) -> Iterator[str]:
    """What the rule that decided read, or why something else decided."""
    rule = transcript.verdict.rule
    if rule in _NO_RULES:
        yield f"because   {_NO_RULES[rule]}"
    steps = (step for judgement in transcript.judgements for step in judgement.verdict.steps)
    step = next((step for step in steps if step.rule == rule and step.outcome is StepOutcome.FIRED), None)
    if step and step.facts:
        yield f"because   {_read(step)}"


def _mail(transcript: Transcript) -> Iterator[str]:
    transaction, author = transcript.transaction, transcript.author
    client = transaction.client
    queue_id = f"queue id {printable_text(transaction.queue_id)}, " if transaction.queue_id else ""
    yield f"mail      {_when(transcript.at)}, {queue_id}session {printable_text(transaction.id)}"
    if not transcript.completed:
        last = max((each.stage for each in transcript.judgements), default=Stage.CONNECT)
        yield f"ended     at {last.word}: what would have come then was never seen"
    name = f" ({printable_text(client.name)})" if client.name else ""
    yield f"client    {client.ip or 'local'}{name}, HELO {printable_text(transaction.helo or '-')}"
    for handover in transcript.handovers:
        helo = printable_text(handover.helo)
        yield f"relayed   to a relay of ours by {handover.ip or 'several clients'}, HELO {helo} (Received)"
    if transaction.user:
        yield f"user      {printable_text(transaction.user)}"
    sender = transaction.sender
    yield f"from      <{printable_text(sender.text if sender else '')}>"
    recipients = ", ".join(f"<{printable_text(each.text)}>" for each in transaction.recipients[:5])
    more = len(transaction.recipients) - 5
    yield f"to        {recipients or '-'}{f' and {more} more' if more > 0 else ''}"
    if author:
        yield f"author    {author.domain or author.reason} (From)"
    marks = [each.removeprefix("header ") for each in transcript.sources.get("message.indirect", ())]
    if marks:
        yield f"indirect  {printable_text(', '.join(marks))}"
    if transcript.signed:
        yield f"signed    {', '.join(transcript.signed)}"
    if transcript.unsigned:
        yield f"unsigned  {transcript.unsigned}"
    if transcript.sealed:
        yield f"sealed    {transcript.sealed}"
    if transcript.unsealed:
        yield f"unsealed  {transcript.unsealed}"
    yield f"whose     {'ours: strangers are checked, we are not' if transcript.from_us else 'not ours'}"


def _when(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"at {at} s"


def _results(transcript: Transcript) -> Iterator[str]:
    results = transcript.results
    yield "results"
    if results.helo is not None:
        yield _result("helo", results.helo.kind.value)
    if results.iprev is not None:
        yield _result("iprev", results.iprev.code.value, _domain(results.iprev.name), results.iprev.reason)
    for each in transcript.lists():
        answers = " ".join(each.answers)
        yield _result("dnsbl", each.code.value, f"{each.listing.zone} of {each.subject}", answers, each.reason)
    if results.spam is not None:
        yield _spam(results.spam)
    for name, spf in (("spf", results.spf), ("spf helo", results.spf_helo)):
        if spf is not None:
            mechanism = f"matched {printable_text(spf.mechanism)}" if spf.mechanism else None
            yield _result(name, spf.code.value, _domain(spf.domain), mechanism, spf.reason, spf.detail)
    for dkim in results.dkim or ():
        selector = f"selector {printable_text(dkim.selector)}" if dkim.selector else None
        yield _result("dkim", dkim.code.value, _domain(dkim.sdid), selector, dkim.algorithm, dkim.reason, dkim.detail)
    if results.dkim == ():
        yield _result("dkim", "none", "the mail bears no signature")
    if results.arc is not None:
        yield _arc(results.arc, results.arc_trusted)
    for name, dmarc in (("dmarc", results.dmarc), ("dmarc psl", results.dmarc_psl)):
        if dmarc is not None:
            yield _dmarc(name, dmarc)
    if results.spf is None and results.dkim is None and results.dmarc is None:
        yield "  none was needed"


def _spam(spam: SpamResult) -> str:
    scored = spam.code in (SpamCode.SPAM, SpamCode.HAM)
    score = f"{spam.score:g} of {spam.threshold:g} points" if scored else None
    return _result("spamd", spam.code.value, score, " ".join(spam.symbols), spam.server, spam.reason)


def _arc(arc: ArcResult, trusted: Hop | None) -> str:
    if not arc.instance and arc.reason is None:
        return _result("arc", arc.code.value, "the mail bears no ARC set")
    sealers = f"sealed by {', then '.join(map(str, reversed(arc.sealers)))}" if arc.sealers else None
    believed = f"trusted from {trusted.sealer} on" if trusted else None
    return _result("arc", arc.code.value, sealers, believed, arc.reason, arc.detail)


def _dmarc(name: str, dmarc: DmarcResult) -> str:
    organization = f"organization {dmarc.organizational_domain}" if dmarc.organizational_domain else None
    found = f"record at _dmarc.{dmarc.policy_domain}" if dmarc.policy_domain else None
    asks = f"asks for {dmarc.policy}" if dmarc.policy else None
    by = [word for word, holds in (("SPF", dmarc.aligned_spf), ("DKIM", dmarc.aligned_dkim)) if holds]
    aligned = f"aligned by {' and '.join(by)}" if by else None
    author = _domain(dmarc.author_domain)
    return _result(name, dmarc.code.value, author, organization, found, asks, aligned, dmarc.reason, dmarc.detail)


def _result(name: str, code: str, *parts: str | None) -> str:
    said = ", ".join(printable_text(part) for part in parts if part)
    return f"  {name:9} {code:10} {said}".rstrip()


def _domain(domain: Domain | None) -> str | None:
    return domain.name if domain else None


def _stage(judgement: Judgement) -> str:
    return f"{judgement.stage.word}{f' <{printable_text(judgement.recipient)}>' if judgement.recipient else ''}"


def _step(judgement: Judgement, step: Step, widths: tuple[int, int]) -> Iterator[str]:
    stage, rule = (f"{text:{width}}" for text, width in zip((_stage(judgement), step.rule), widths, strict=True))
    outcome = "would have fired (observe)" if step.outcome is StepOutcome.OBSERVED else step.outcome.value
    yield f"  {stage}  {rule}  {outcome}{f': {printable_text(step.note)}' if step.note else ''}"
    if step.facts:
        yield f"{'':{sum(widths) + 6}}{_read(step)}"


def _read(step: Step) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in step.facts)


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{printable_text(value)}"'
    return printable_text(str(value))


def _answer(answer: Answer) -> str:
    values = " ".join(
        f'"{printable_text(value.decode("latin-1"))}"' if isinstance(value, bytes) else printable_text(value)
        for value in answer.values
    )
    why = f" ({answer.reason})" if answer.reason else ""
    line = f"{answer.rdtype:5} {printable_text(answer.name)}  {answer.outcome}{why} {values}".rstrip()
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."


def printable_text(text: str) -> str:
    """Remote text on a terminal: no control characters, nothing that reverses or hides text."""
    return "".join(char if char.isprintable() else "?" for char in text)
