"""DNS over the network for the threads of one process: cached, asked once for all who wait, bounded in time.

One asyncio loop in a thread of its own does the talking; whoever asks waits for it, no longer than its deadline. The
world's faults come back as answers. Recursion and validation are the work of the servers that are asked.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.ttl

from filterd.backend.answer_cache import AnswerCache, Question
from filterd.backend.dns_exchange import MalformedResponseError, Server, exchange
from filterd.backend.records import name_of, value_of
from filterd.backend.waiting import about_to_wait
from filterd.lookup import Answer, Outcome, Resolver
from filterd.mail.reason import Reason

_ROUNDS = 2  # times that a silent server is tried
_AWAY = 3  # questions in a row without any answer, from which on the servers are away
_MAX_CHAIN = 8  # CNAMEs followed by questions of our own
_MAX_AT_ONCE = 256  # questions under way, each with a socket


class DnsResolver:
    """A process's way to DNS. Starts no thread before `start`, so that it can be made before a fork.

    `servers` are (IP address, port), asked in this order; none: those of /etc/resolv.conf when it starts. `timeout` is
    the time in seconds that one question may take, whoever waits for it. `report` hears True once when no server is
    heard any more, and False when one is again; it must not block.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        timeout: float,
        cache: AnswerCache | None = None,
        report: Callable[[bool], None] = lambda away: None,
    ) -> None:
        self._servers = tuple(servers)
        self._timeout = timeout
        self._cache = AnswerCache() if cache is None else cache
        self._report = report
        self._unheard = 0
        self._under_way: dict[Question, Future[Answer]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to answer."""
        self._servers = self._servers or _system_servers()
        self._under_way.clear()
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dns", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop. Who still waits gets a temporary failure. Does nothing unless started."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()

    def view(self, deadline: float) -> Resolver:
        """A Resolver for one message, which waits for nothing past `deadline`, a time of time.monotonic()."""
        return _View(self, deadline)

    def lookup(self, name: str, rdtype: str, deadline: float) -> Answer:
        """As Resolver.lookup, until `deadline`. Safe from any thread but the resolver's own."""
        question = (name.lower().removesuffix("."), rdtype)
        answer = self._cache.get(question, time.monotonic())
        if answer is not None:
            return answer
        asked = name_of(name)
        if asked is None:
            return Answer(*question, Outcome.NXDOMAIN, reason=Reason.DNS_BAD_NAME)
        try:
            future = self._begin(question, asked)
            if not future.done():
                about_to_wait()
            return future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return _failed(question, Reason.DNS_DEADLINE)
        except CancelledError:
            return _failed(question, Reason.DNS_TIMEOUT)

    def prefetch(self, name: str, rdtype: str) -> None:
        """As Resolver.prefetch."""
        question = (name.lower().removesuffix("."), rdtype)
        if self._cache.get(question, time.monotonic()) is not None:
            return
        asked = name_of(name)
        if asked is not None:
            self._begin(question, asked)

    def _begin(self, question: Question, name: dns.name.Name) -> Future[Answer]:
        with self._lock:
            future = self._under_way.get(question)
            if future is not None:
                return future
            # Whoever asked this until now put the answer there first.
            answer = self._cache.get(question, time.monotonic())
            if answer is not None:
                future = Future()
                future.set_result(answer)
                return future
            if self._loop is None:
                raise RuntimeError("the resolver is not running")
            future = asyncio.run_coroutine_threadsafe(self._answer(question, name), self._loop)
            self._under_way[question] = future
            return future

    async def _answer(self, question: Question, name: dns.name.Name) -> Answer:
        try:
            try:
                async with asyncio.timeout(self._timeout), self._slots:
                    answer = await self._resolve(question, name)
            except TimeoutError:
                answer = _failed(question, Reason.DNS_TIMEOUT)
            self._cache.put(question, answer, time.monotonic())
            self._heard(heard=answer.reason is not Reason.DNS_TIMEOUT)
            return answer
        finally:
            with self._lock:
                del self._under_way[question]

    def _heard(self, *, heard: bool) -> None:
        """Note whether a question had any answer at all. A few without one may be somebody's own broken servers."""
        if heard:
            if self._unheard >= _AWAY:
                self._report(False)
            self._unheard = 0
            return
        self._unheard += 1
        if self._unheard == _AWAY:
            self._report(True)

    async def _resolve(self, question: Question, name: dns.name.Name) -> Answer:
        rdtype = dns.rdatatype.from_text(question[1])
        ttl = dns.ttl.MAX_TTL
        for _ in range(_MAX_CHAIN):
            response = await self._ask(name, rdtype)
            if isinstance(response, Reason):
                return _failed(question, response)
            try:
                found = response.resolve_chaining()
            except dns.exception.DNSException:
                return _failed(question, Reason.DNS_MALFORMED)
            ttl = min(ttl, *(cname.ttl for cname in found.cnames), dns.ttl.MAX_TTL)
            if found.answer is not None:
                values = tuple(map(value_of, found.answer))
                return Answer(*question, Outcome.FOUND, values, min(ttl, found.minimum_ttl))
            if response.rcode() == dns.rcode.NXDOMAIN:
                return Answer(*question, Outcome.NXDOMAIN, ttl=min(ttl, found.minimum_ttl))
            if not found.cnames or _has(response, dns.rdatatype.SOA):
                return Answer(*question, Outcome.NODATA, ttl=min(ttl, found.minimum_ttl))
            # The chain leads out of what this server knows.
            name = found.canonical_name
        return _failed(question, Reason.DNS_SERVFAIL)

    async def _ask(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage | Reason:
        reason = Reason.DNS_TIMEOUT
        servers = self._servers
        patience = self._timeout / (_ROUNDS * len(servers))
        for _ in range(_ROUNDS):
            for server in servers:
                try:
                    async with asyncio.timeout(patience):
                        response = await exchange(server, name, rdtype)
                except TimeoutError:
                    # Whoever is silent is asked last from now on, by this question and by others.
                    self._servers = (*(other for other in self._servers if other != server), server)
                    continue
                except OSError:
                    pass
                except MalformedResponseError:
                    reason = Reason.DNS_MALFORMED
                else:
                    if _usable(response):
                        return response
                    reason = Reason.DNS_SERVFAIL
                servers = tuple(other for other in servers if other != server)
        return reason


class _View:
    """The resolver within the time of one message."""

    __slots__ = ("_deadline", "_resolver")

    def __init__(self, resolver: DnsResolver, deadline: float) -> None:
        self._resolver = resolver
        self._deadline = deadline

    def lookup(self, name: str, rdtype: str) -> Answer:
        return self._resolver.lookup(name, rdtype, self._deadline)

    def prefetch(self, name: str, rdtype: str) -> None:
        self._resolver.prefetch(name, rdtype)


def _failed(question: Question, reason: Reason) -> Answer:
    return Answer(*question, Outcome.TEMPFAIL, reason=reason)


def _usable(response: dns.message.Message) -> bool:
    if response.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return False
    # A server that only knows whom else to ask denies nothing (RFC 2308 2.2).
    return bool(response.answer) or _has(response, dns.rdatatype.SOA) or not _has(response, dns.rdatatype.NS)


def _has(response: dns.message.Message, rdtype: dns.rdatatype.RdataType) -> bool:
    return any(rrset.rdtype == rdtype for rrset in response.authority)


def _system_servers() -> tuple[Server, ...]:
    try:
        addresses = [str(server) for server in dns.resolver.Resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        addresses = ["127.0.0.1"]  # as resolv.conf(5) has it
    return tuple((address, 53) for address in addresses)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
