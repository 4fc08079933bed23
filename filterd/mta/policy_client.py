"""The bundled MTA's check_policy_service: asked about each recipient, as Postfix asks in smtpd_recipient_restrictions.

Knows what the words of access(5) mean, and of what is decided by them nothing.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from filterd.mail.endpoint import Endpoint
from filterd.mail.header import Field
from filterd.mta.config import MtaConfig, PolicyService
from filterd.mta.judgement import DISCARD, GO_ON, Judgement, Kind, hold, refuse
from filterd.wire.access_policy import AccessPolicyError, Action, Answer, Request, encode_request, read_answer

_LONGEST = 16_384  # octets of an answer
# Postfix's smtpd_policy_service_try_limit: a connection that was left open may have been closed meanwhile.
_TRIES = 2
_STATUS = re.compile(r"[245](?P<status>\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+(?P<text>.*))?")
_FIELD = re.compile(r"(?P<name>[!-9;-~]+):(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What all policy services say of a recipient. A mail may be marked with `fields` and held, both."""

    judgement: Judgement = GO_ON
    fields: tuple[Field, ...] = ()
    hold: Judgement = GO_ON


class PolicyClients:
    """The connections of one session to its policy services, in their order."""

    def __init__(self, config: MtaConfig) -> None:
        self._services = [_Service(address, config) for address in config.policy_services]

    async def ask(self, request: Request) -> Ruling:
        """Ask about the recipient of the request. Whatever a service does, this raises nothing."""
        fields: list[Field] = []
        held = put_off = GO_ON
        # RFC 5321 4.5.1: there is always a postmaster. Postfix asks nobody about it.
        services: Sequence[_Service] = () if request.recipient.lower() == "postmaster" else self._services
        for service in services:
            answer = await service.ask(request)
            if answer.action is Action.HOLD and held is GO_ON:
                held = hold(answer.text.encode() or b"triggers HOLD action")
            elif answer.action is Action.PREPEND and (found := _FIELD.fullmatch(answer.text)):
                fields.append(Field(found["name"].encode(), found["value"].encode()))
            elif answer.action is Action.DEFER_IF_PERMIT:
                text = answer.text or "Service unavailable"
                put_off = put_off if put_off.kind is Kind.REFUSE else _refusal(450, text, request.recipient)
            elif answer.action in (Action.OK, Action.DISCARD):
                # Both permit: nobody else is asked.
                return Ruling(
                    _permitted(put_off, DISCARD if answer.action is Action.DISCARD else GO_ON), tuple(fields), held
                )
            elif answer.action in (Action.REJECT, Action.DEFER):
                code = 554 if answer.action is Action.REJECT else 450
                return Ruling(_refusal(code, answer.text, request.recipient))
            elif isinstance(answer.action, int):
                return Ruling(_refusal(answer.action, answer.text, request.recipient))
        return Ruling(put_off, tuple(fields), held)

    def close(self) -> None:
        """The session is over."""
        for service in self._services:
            service.close()


class _Service:
    """One service: a connection that is opened when it is needed, and kept."""

    def __init__(self, service: str | PolicyService, config: MtaConfig) -> None:
        service = PolicyService(service) if isinstance(service, str) else service
        self._address = service.socket
        self._timeout = config.policy_timeout if service.timeout is None else service.timeout
        self._away = service.default_action
        self._retry_delay = config.policy_retry_delay
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Request) -> Answer:
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(self._retry_delay)
            try:
                async with asyncio.timeout(self._timeout):
                    return await self._exchange(request)
            except (OSError, TimeoutError, EOFError, asyncio.LimitOverrunError, AccessPolicyError) as error:
                self.close()
                logging.getLogger(__name__).warning("policy service %s: %s", self._address, error or "no answer")
        return self._away

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _exchange(self, request: Request) -> Answer:
        if self._reader is None or self._writer is None:
            endpoint = Endpoint.parse(self._address)
            if endpoint.path is not None:
                opened = await asyncio.open_unix_connection(endpoint.path, limit=_LONGEST)
            else:
                opened = await asyncio.open_connection(endpoint.host, endpoint.port, limit=_LONGEST)
            self._reader, self._writer = opened
        self._writer.write(encode_request(request))
        await self._writer.drain()
        return read_answer(await self._reader.readuntil(b"\n\n"))


def _permitted(put_off: Judgement, judgement: Judgement) -> Judgement:
    return put_off if put_off.kind is Kind.REFUSE else judgement


def _refusal(code: int, text: str, recipient: str) -> Judgement:
    """A refusal as Postfix words it, which names the recipient."""
    found = _STATUS.fullmatch(text)
    status, said = (found["status"], found["text"]) if found else (".7.1", text)
    # RFC 2034 4: the class of the status is that of the code.
    return refuse(f"{code} {code // 100}{status} <{recipient}>: Recipient address rejected: {said or 'Access denied'}")
