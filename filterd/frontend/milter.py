"""pymilter's callbacks: copy what the MTA says, hand it over, wait, answer.

They run on libmilter's threads, which change in the middle of a session (Debian builds it with a pool of workers): so
nothing here works, opens files or calls back from C. pymilter's C module is used without its Python class, as that
decodes, caches protocol flags on classes, and ends the process on SystemExit.

An octet that is not UTF-8 in a HELO name, a header field's name or the client's host name raises in C, before any of
our code: see `_Undecodable`.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import reduce, wraps
from operator import or_
from types import TracebackType
from typing import Any

import milter as libmilter

from filterd.engine import changes
from filterd.frontend import milter_facts as facts
from filterd.frontend.conversation import Conversation, Reception
from filterd.frontend.milter_reply import Action, HeaderEdit, MilterEdit, answer, edits
from filterd.mail.transaction import ForwardPath, ReversePath, Stage
from filterd.policy.verdict import Verdict

_RESULTS: dict[Action, int] = {
    Action.CONTINUE: libmilter.CONTINUE,
    Action.ACCEPT: libmilter.ACCEPT,
    Action.REJECT: libmilter.REJECT,
    Action.DEFER: libmilter.TEMPFAIL,
    Action.DISCARD: libmilter.DISCARD,
}
_FLAGS: dict[type[changes.Change], int] = {
    changes.InsertField: libmilter.ADDHDRS,
    changes.ChangeField: libmilter.CHGHDRS,
    changes.DeleteField: libmilter.CHGHDRS,
    changes.AddRecipient: libmilter.ADDRCPT,
    changes.DeleteRecipient: libmilter.DELRCPT,
    changes.ChangeSender: libmilter.CHGFROM,
}
_ALWAYS: int = libmilter.P_NR_HDR | libmilter.P_NR_BODY | libmilter.P_NOUNKNOWN | libmilter.P_HDR_LEADSPC
_NO_REPLY: dict[Stage, int] = {
    Stage.CONNECT: libmilter.P_NR_CONN,
    Stage.HELO: libmilter.P_NR_HELO,
    Stage.MAIL: libmilter.P_NR_MAIL,
    Stage.RCPT: libmilter.P_NR_RCPT,
    Stage.DATA: libmilter.P_NR_DATA,
    Stage.END_OF_HEADERS: libmilter.P_NR_EOH,
}
# pymilter keeps one Python thread state for each session, whatever thread that is on: so this is the session's own.
_LINK: ContextVar["_Link | None"] = ContextVar("link", default=None)


class _Link:
    """What belongs to one libmilter session."""

    __slots__ = ("connected", "context", "conversation", "hears_refused", "leading_space")

    def __init__(self, context: Any, conversation: Conversation, protocol: int) -> None:
        self.context = context
        self.conversation = conversation
        self.leading_space = bool(protocol & libmilter.P_HDR_LEADSPC)
        self.hears_refused = bool(protocol & libmilter.P_RCPT_REJ)
        self.connected = False

    def macro(self, name: str) -> str | None:
        """A macro of the MTA; None where it is not set, or not UTF-8."""
        try:
            value: str | None = self.context.getsymval(name)
        except UnicodeDecodeError:
            return None
        return value or None


def _callback(stage: Stage | None) -> Callable[[Callable[..., Any]], Callable[..., int]]:
    """Make a method a callback that answers whatever happens.

    The method returns a verdict, or what it likes where the MTA never waits (`stage` None).
    """

    def wrap(method: Callable[..., Any]) -> Callable[..., int]:
        @wraps(method)
        def callback(frontend: "MilterFrontend", context: Any, *arguments: Any) -> int:
            link: _Link | None = None
            try:
                link = context.getpriv()
                return frontend.result(link, stage, method(frontend, link, *arguments))
            except BaseException as error:  # noqa: BLE001 - nothing may reach pymilter; SystemExit would end the daemon
                return frontend.failed(link, stage, method.__name__.strip("_"), error)

        return callback

    return wrap


class MilterFrontend:
    """The one milter of this process (libmilter knows no second)."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._actions = libmilter.QUARANTINE | reduce(or_, (_FLAGS[each] for each in reception.changes))
        self._protocol = _ALWAYS | sum(bit for stage, bit in _NO_REPLY.items() if not reception.judges(stage))
        if reception.counts_refused:
            self._protocol |= libmilter.P_RCPT_REJ

    def register(self) -> None:
        """Tell libmilter of us: once in a process, before its `main`."""
        # What raises in C before our code is reached must not become an answer: where the MTA waits for none,
        # libmilter would lose its place in the protocol.
        libmilter.set_exception_policy(libmilter.CONTINUE)
        sys.excepthook = _take_undecodable(sys.excepthook)
        libmilter.set_flags(self._actions)
        libmilter.set_connect_callback(self._connect)
        libmilter.set_helo_callback(self._helo)
        libmilter.set_envfrom_callback(self._mail)
        libmilter.set_envrcpt_callback(self._rcpt)
        libmilter.set_header_callback(self._header)
        libmilter.set_eoh_callback(self._end_of_headers)
        libmilter.set_body_callback(self._body)
        libmilter.set_eom_callback(self._end_of_message)
        libmilter.set_abort_callback(self._abort)
        libmilter.set_close_callback(self._close)
        libmilter.register("filterd", data=self._data, unknown=None, negotiate=self._negotiate)

    def _negotiate(self, context: Any, options: list[int]) -> int:
        try:
            # A bit that the MTA did not offer would end the connection. Lists of macros are not asked for: Postfix
            # takes one list as all lists, and its defaults have what is read here.
            options[0] &= self._actions
            options[1] &= self._protocol
            options[2] = options[3] = 0
            conversation = self._reception.open()
            conversation.lacks = frozenset(each for each in self._reception.changes if not options[0] & _FLAGS[each])
            link = _Link(context, conversation, options[1])
            context.setpriv(link)
            _LINK.set(link)
        except BaseException as error:  # noqa: BLE001 - see _callback
            self._reception.fault("negotiate", error)
            # The MTA then does what its milter_default_action says.
            return int(libmilter.REJECT)
        return int(libmilter.CONTINUE)

    @_callback(Stage.CONNECT)
    def _connect(self, link: _Link, host: str, family: int, address: Any) -> Verdict:
        # pymilter's form of a socket address: (ip, port, ...), a path, or None.
        ip, port = address[:2] if isinstance(address, tuple) else (None, 0)
        client = facts.client(host, ip, port, link.macro("{client_port}"), link.macro("_"))
        link.connected = True
        return link.conversation.connect(client, link.macro("{daemon_name}"))

    @_callback(Stage.HELO)
    def _helo(self, link: _Link, name: str) -> Verdict:
        return link.conversation.helo(name, link.macro("{tls_version}"))

    @_callback(Stage.MAIL)
    def _mail(self, link: _Link, path: bytes, *parameters: bytes) -> Verdict:
        sender = ReversePath(*facts.path(path))
        return link.conversation.mail(sender, link.macro("{auth_authen}"), link.macro("i"))

    @_callback(Stage.RCPT)
    def _rcpt(self, link: _Link, path: bytes, *parameters: bytes) -> Verdict:
        recipient, queue_id = ForwardPath(*facts.path(path)), link.macro("i")
        if link.hears_refused:
            refused = facts.refused(link.macro("{rcpt_mailer}"), link.macro("{rcpt_host}"))
            if refused is not facts.Refused.NO:
                if refused is facts.Refused.FOR_GOOD:
                    link.conversation.refused(recipient, queue_id)
                return Verdict()
        return link.conversation.rcpt(recipient, queue_id)

    @_callback(Stage.DATA)
    def _data(self, link: _Link) -> Verdict:
        return link.conversation.data(link.macro("i"))

    @_callback(None)
    def _header(self, link: _Link, name: str, value: bytes) -> None:
        link.conversation.fields(facts.fields([(name.encode(), value)], leading_space=link.leading_space))

    @_callback(Stage.END_OF_HEADERS)
    def _end_of_headers(self, link: _Link) -> Verdict:
        return link.conversation.end_of_headers(link.macro("i"))

    @_callback(None)
    def _body(self, link: _Link, chunk: bytes) -> None:
        link.conversation.body(chunk, link.macro("i"))

    @_callback(Stage.END_OF_MESSAGE)
    def _end_of_message(self, link: _Link) -> Verdict:
        finished = link.conversation.end_of_message(link.macro("i"))
        for edit in edits(finished.changes, leading_space=link.leading_space):
            _carry_out(link.context, edit)
        return finished.verdict

    @_callback(None)
    def _abort(self, link: _Link) -> None:
        link.conversation.abort()

    @_callback(None)
    def _close(self, link: _Link) -> None:
        link.context.setpriv(None)
        link.conversation.close()

    def result(self, link: _Link, stage: Stage | None, verdict: Verdict) -> int:
        """Answer the MTA, where it waits."""
        if stage is None or not self._reception.judges(stage):
            # libmilter itself says "continue" to an MTA that does not know replies left out.
            return int(libmilter.NOREPLY)
        given = answer(verdict, stage)
        if given.reply is not None:
            link.context.setreply(str(given.reply.code), given.reply.status, *given.reply.lines)
        if given.hold is not None:
            link.context.quarantine(given.hold)
        return _RESULTS[given.action]

    def failed(self, link: _Link | None, stage: Stage | None, where: str, error: BaseException) -> int:
        """Give the declared answer to a fault of ours, now or to what comes next."""
        if link is None:
            self._reception.fault(where, error)
            return int(libmilter.TEMPFAIL)
        try:
            for_good = stage in (Stage.CONNECT, Stage.HELO)
            return self.result(link, stage, link.conversation.fail(where, error, for_good=for_good))
        except BaseException as second:  # noqa: BLE001 - see _callback
            self._reception.fault(where, second)
            return int(libmilter.TEMPFAIL)


def _carry_out(context: Any, edit: MilterEdit) -> None:
    match edit:
        case HeaderEdit(insert=True):
            context.addheader(edit.name, edit.value, edit.index)
        case HeaderEdit():
            context.chgheader(edit.name, edit.index, edit.value)
        case changes.AddRecipient(address):
            context.addrcpt(address)
        case changes.DeleteRecipient(address):
            context.delrcpt(address)
        case changes.ChangeSender(address):
            context.chgfrom(address)


_Hook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


def _take_undecodable(previous: _Hook) -> _Hook:
    """A sys.excepthook that takes the octets which pymilter could not decode, before the callback was called.

    pymilter reports its own exceptions on the session's thread state; they carry the octets.
    """

    def hook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        link = _LINK.get()
        if link is None or not isinstance(error, UnicodeDecodeError):
            previous(kind, error, traceback)
            return
        try:
            if not link.connected:
                # The client's address came with the name, and is lost: nobody may pass for a local client.
                link.connected = True
                link.conversation.fail("connect", error, for_good=True)
            elif not link.conversation.in_message:
                name = error.object.decode("utf-8", "surrogateescape")
                link.conversation.unanswered_helo(name, link.macro("{tls_version}"))
            # Else it is the name of a header field, and no signature, rule or program can name that field (RFC 5322
            # 2.2, RFC 6532 3.2): it passes, and the engine does not see it.
        except BaseException as second:  # noqa: BLE001 - see _callback
            link.conversation.fail("undecodable", second, for_good=True)

    return hook
