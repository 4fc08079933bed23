"""Everything breaks while mail flows through a real Postfix: nothing is lost, doubled, or delivered unjudged.

Senders do as MTAs do: what is not taken is tried again. Meanwhile workers are killed, the policy is loaded anew, the
program takes its own place, and the name server, Redis and spamd go away and come back. `make chaos` does it for longer.
"""

import json
import os
import random
import re
import signal
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from dkim_mail import rsa_pair, signed, verify, zone
from example_org import HONEST, MAIL, ORG, SENDER, policy
from servers import nsd, postfix, redis
from servers.debian import free_port
from servers.filterd import Filterd
from servers.filterd_process import alive
from servers.milter_process import eventually
from servers.spamd import SpamdServer

pytestmark = pytest.mark.system

MAILS = int(os.environ.get("CHAOS_MAILS", "80"))
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
SENDERS = 4
RECIPIENT = "b@example.net"


class Flow:
    """Mail that is sent until it is taken: inbound by even numbers, that of a user of ours by odd ones."""

    def __init__(self, server: postfix.Postfix) -> None:
        self._server = server
        self._numbers = count()
        self._enough = threading.Event()
        self.taken: list[int] = []
        self.refused: Counter[int] = Counter()
        self.broken: list[BaseException] = []
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(SENDERS)]

    def __enter__(self) -> "Flow":
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for each in self._threads:
            each.join()

    def wait(self, mails: int) -> None:
        """Until that many more were taken."""
        wanted = len(self.taken) + mails
        eventually(lambda: len(self.taken) >= wanted or bool(self.broken))

    def _send(self) -> None:
        try:
            while not self._enough.is_set():
                number = next(self._numbers)
                while not self._taken(number):
                    pass
                self.taken.append(number)
        except BaseException as error:
            self.broken.append(error)
            raise

    def _taken(self, number: int) -> bool:
        mail = MAIL.replace(b"hello", b"mail %d" % number)
        try:
            with self._server.connect(HONEST, user="joe" if number % 2 else None) as smtp:
                smtp.sendmail(SENDER, [RECIPIENT], mail if number % 2 else signed(mail, rsa_pair()))
        except smtplib.SMTPResponseException as error:
            self.refused[error.smtp_code] += 1
            assert 400 <= error.smtp_code < 500, error
            return False
        except smtplib.SMTPRecipientsRefused as error:
            codes = [code for code, _ in error.recipients.values()]
            self.refused.update(codes)
            assert all(400 <= code < 500 for code in codes), error
            return False
        return True


class Daemon:
    """filterd, whoever is its master at the moment."""

    def __init__(self, process: Filterd) -> None:
        self._process = process
        self.master = process.process.pid

    def upgrade(self) -> None:
        before = len(self._process.events("upgraded, another daemon has taken over"))
        os.kill(self.master, signal.SIGUSR2)
        told = self._process.wait_for("upgraded, another daemon has taken over", before + 1)
        self.master = told[-1]["pid"]

    def reload(self) -> None:
        before = len(self._process.events("reloaded"))
        os.kill(self.master, signal.SIGHUP)
        self._process.wait_for("reloaded", before + 1)

    def kill_a_worker(self, chance: random.Random) -> None:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(eventually(lambda: children(self.master))), signal.SIGKILL)

    def faults(self) -> list[object]:
        """What filterd itself holds for a fault of its own."""
        return [*self._process.events("fault"), *self._process.events("connection closed")]

    def end(self) -> None:
        last = children(self.master)
        for pid in (self.master, *last):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    return []


class NameServer:
    """The zone's server, which can go and come back to its port."""

    def __init__(self) -> None:
        self._port = free_port()
        self._life = ExitStack()
        self.start()

    def start(self) -> None:
        host, port = self._life.enter_context(nsd.running({"org": ORG}, self._port))
        self.address = f"{host}:{port}"

    def stop(self) -> None:
        self._life.close()


@contextmanager
def everything(folder: Path) -> Iterator[tuple[postfix.Postfix, Daemon, NameServer, redis.RedisServer, SpamdServer]]:
    names = NameServer()
    with ExitStack() as stack:
        stack.callback(names.stop)
        store = stack.enter_context(redis.running())
        spamd = stack.enter_context(SpamdServer(folder))
        server = stack.enter_context(postfix.running(milters=["unix:milters/milter"]))
        (folder / "key.pem").write_bytes(rsa_pair().pem)
        (folder / "key.pem").chmod(0o600)
        rules = policy(
            names.address,
            "dmarc: { on_multiple_authors: skip }\n"
            f'spamd: {{ address: "inet:{spamd.port}@127.0.0.1", timeout: 2s }}\n'
            "limits: [{ name: many, key: client.ip, rate: 1000000 recipients per 1d }]\n"
            f'sign: [{{ domains: [example.org], keys: [{{ selector: sel, file: "{folder}/key.pem" }}] }}]\n',
            "timeout: 500ms, deadline: 2s",
        )
        process = stack.enter_context(Filterd(server.milters, rules, server=f'state: "redis://127.0.0.1:{store.port}"'))
        daemon = Daemon(process)
        stack.callback(daemon.end)
        yield server, daemon, names, store, spamd


def test_nothing_is_lost_doubled_or_unjudged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(1)
    with everything(tmp_path) as (server, daemon, names, store, spamd):
        faults: list[Callable[[], None]] = [
            daemon.reload, daemon.upgrade, names.stop, names.start, store.stop, store.start, spamd.stop, spamd.start,
        ]  # fmt: skip
        with Flow(server) as flow:
            for _ in range(ROUNDS):
                for fault in faults:
                    fault()
                    daemon.kill_a_worker(chance)
                    flow.wait(MAILS // (ROUNDS * len(faults)))
        assert flow.broken == []
        delivered = server.maildir(RECIPIENT)
        assert server.queue() == []
        assert daemon.faults() == []

    told = {"taken": len(flow.taken), "delivered": len(delivered), "tried again": dict(flow.refused)}
    with capsys.disabled():
        print(f"\nchaos: {json.dumps(told)}")
    subjects = Counter(re.findall(rb"\nSubject: mail (\d+)", mail)[0] for mail in delivered)
    assert subjects == Counter(b"%d" % number for number in flow.taken)
    for mail in delivered:
        number = int(re.findall(rb"\nSubject: mail (\d+)", mail)[0])
        if number % 2:
            stripped = re.sub(rb"\A(?:(?:Return-Path|X-Original-To|Delivered-To): .*\n)*", b"", mail)
            results = verify(stripped.replace(b"\n", b"\r\n"), zone(rsa_pair().record), now=int(time.time()))
            assert [each.code for each in results] == ["pass"], mail
        else:
            assert mail.count(b"\nAuthentication-Results: mx.example;") == 1, mail
