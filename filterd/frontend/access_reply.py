"""What a verdict is in the policy delegation protocol. Pure; knows no engine, sends nothing.

Never OK, which ends a list of restrictions and could open a relay, and never FILTER, REDIRECT or BCC, which would send
mail elsewhere. Facts of access(5) stand here as comments, each where it decides something.
"""

from filterd.engine.fallback import ON_ERROR
from filterd.mail.reply import Reply, printable
from filterd.mail.transaction import Stage
from filterd.policy.verdict import AddField, Disposition, Verdict
from filterd.wire.access_policy import Action, Answer, ProtocolState

DUNNO = Answer(Action.DUNNO)
_REFUSED = Reply(550, "5.7.1", "refused by policy")
_DEFERRED = Reply(450, "4.7.1", "refused by policy for now, please try again later")
# These say no more than Postfix's own access_map_defer_code does; 421 hangs up, 452 tells of space.
_PLAIN_DEFERRAL = (450, 451)

#: The last stage at which rules are judged when Postfix asks there; all before it are judged, too.
LAST_STAGE = {
    ProtocolState.CONNECT: Stage.CONNECT,
    ProtocolState.XCLIENT: Stage.CONNECT,
    ProtocolState.EHLO: Stage.HELO,
    ProtocolState.HELO: Stage.HELO,
    # Neither brings a mail.
    ProtocolState.VRFY: Stage.HELO,
    ProtocolState.ETRN: Stage.HELO,
    ProtocolState.MAIL: Stage.MAIL,
    ProtocolState.RCPT: Stage.RCPT,
    ProtocolState.DATA: Stage.DATA,
    ProtocolState.END_OF_MESSAGE: Stage.END_OF_MESSAGE,
}


def refusal(verdict: Verdict, state: ProtocolState) -> Answer | None:
    """The answer to a final verdict; None where the connection is to end without one, so that Postfix tries again."""
    if verdict.disposition is Disposition.REJECT:
        return _code(_fitting(verdict.reply, _REFUSED))
    if verdict.disposition is Disposition.DISCARD and LAST_STAGE[state] >= Stage.MAIL:
        return Answer(Action.DISCARD, printable(verdict.rule or ""))
    if verdict.rule == ON_ERROR:
        # SMTPD_POLICY_README: in case of trouble log, send nothing, disconnect. Postfix asks once more, maybe another
        # worker, and defers the mail then.
        return None
    # Before MAIL Postfix takes no DISCARD; deferring neither loses the mail nor lets it in.
    reply = _fitting(verdict.reply if verdict.disposition is Disposition.DEFER else None, _DEFERRED)
    if reply.code in _PLAIN_DEFERRAL:
        # What Postfix would refuse for good, behind us in its list, it still does.
        return Answer(Action.DEFER_IF_PERMIT, f"{reply.status} {printable(reply.text)}")
    return _code(reply)


def hold(verdict: Verdict) -> Answer:
    """Into the hold queue."""
    return Answer(Action.HOLD, printable(verdict.rule or "held by policy"))


def prepend(field: AddField) -> Answer:
    """A header field on top of the mail. It is one line: the protocol has no other."""
    return Answer(Action.PREPEND, f"{field.name}: {' '.join(field.value.split())}")


def _code(reply: Reply) -> Answer:
    return Answer(reply.code, f"{reply.status} {printable(reply.text)}")


def _fitting(reply: Reply | None, default: Reply) -> Reply:
    return default if reply is None or reply.temporary != default.temporary else reply
