"""All milters of one SMTP session, asked one after the other; the first that does not say "go on" decides.

A hold on the envelope is no decision: the next milters may still refuse. As in Postfix, one on the content is: they do
not see it.
"""

from dataclasses import replace

from filterd.mta.config import MtaConfig
from filterd.mta.judgement import GO_ON, Judgement, Kind
from filterd.mta.mail_object import MailObject
from filterd.mta.milter_client import MacroValue, MilterClient
from filterd.wire.milter import Connect, Packet


class MilterChain:
    """The milters of one session, in their order."""

    def __init__(self, config: MtaConfig, macro: MacroValue) -> None:
        self._clients = [MilterClient(milter, config, macro) for milter in config.milters]

    async def ask(self, command: Packet) -> Judgement:
        """Tell all of a command until one decides."""
        judgement = GO_ON
        for client in self._clients:
            said = await (client.connect(command) if isinstance(command, Connect) else client.ask(command))
            if said.kind not in (Kind.GO_ON, Kind.HOLD):
                return said
            judgement = said if said.kind is Kind.HOLD else judgement
        return judgement

    async def tell_refused(self, command: Packet) -> None:
        """Tell of a recipient that is refused, whatever they say."""
        for client in self._clients:
            await client.tell_refused(command)

    async def message(self, mail: MailObject) -> tuple[Judgement, MailObject]:
        """Show all the content until one decides or holds it; each sees what those before it made of it."""
        for client in self._clients:
            held = mail.hold
            judgement, mail = await client.message(mail)
            if judgement.kind is Kind.HOLD:
                return GO_ON, replace(mail, hold=judgement.text)
            if judgement.kind is not Kind.GO_ON or mail.hold is not held:
                return judgement, mail
        return GO_ON, mail

    def abort(self) -> None:
        """The message is over."""
        for client in self._clients:
            client.abort()

    def quit(self) -> None:
        """The session is over."""
        for client in self._clients:
            client.quit()
