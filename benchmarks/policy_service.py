"""What a question to the policy service costs: filterd, policyd-rate-limit and postgrey, asked the same by turns.

Eight clients ask about a recipient each, wait for the answer, and ask again. Prints for each server how many questions
it answered in a second and what CPU time each took it, as medians of the rounds, and the CPU time of filterd as a
multiple of each other's that does the same: the two limits that policyd-rate-limit has, in SQLite as well, or the
greylist. The clients are Python, and keep a processor busy: questions a second say less than CPU.
"""

import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from measure import cpu_time
from report import spread
from servers.debian import unpacked
from servers.filterd_process import FilterdProcess
from servers.milter_process import eventually
from servers.policy_client import QUESTION
from stage import Stage

from filterd.wire.access_policy import encode_request

_CLIENTS, _QUESTIONS = 8, 4000
_RULES = """rules:
- { name: networks, when: 'client.ip.in_net("198.51.100.0/24") && !client.authenticated', then: reject }
- { name: senders, when: 'envelope.sender_domain == "blocked.example"', then: reject }
- { name: recipients, when: 'envelope.recipient == "no@example.net"', then: reject, reply: "550 5.1.1 nobody" }
"""
_LIMITS = """dmarc: { on_multiple_authors: skip }
limits:
- { name: minute, key: client.user, rate: 1000000 recipients per 1m, then: defer }
- { name: day, key: client.user, rate: 10000000 recipients per 1d, then: defer }
"""
_GREYLIST = """dmarc: { on_multiple_authors: skip }
greylist: { when: 'client.ip.in_net("192.0.2.0/24")', delay: 5m }
"""
_RATE_LIMIT = """debug: False
user: nobody
group: nogroup
pidfile: {folder}/pid
backend: 0
sqlite_config: {{ database: {folder}/db.sqlite3 }}
SOCKET: {folder}/policy
socket_permission: 0666
limits: [[1000000, 60], [10000000, 86400]]
limit_by_sasl: True
success_action: dunno
fail_action: "defer_if_permit too many"
db_error_action: dunno
report: False
delay_to_close: 300
"""

# No two questions of a run are about one mail.
_numbers = count()


def questions(number: int, strangers: bool) -> list[bytes]:
    """What a client asks: each is a mail of its own, by one of a hundred users to one of a thousand recipients.

    Strangers have not logged in: who has is not greylisted by filterd."""
    return [
        encode_request(
            replace(
                QUESTION,
                instance=f"a.b.{each}.0",
                sasl_username="" if strangers else f"user{each % 100}",
                sender=f"user{each % 100}@example.org",
                recipient=f"r{each % 1000}@example.net",
                client_address=f"192.0.2.{each % 200}",
                client_name="client.example",
            )
        )
        for each in (next(_numbers) for _ in range(number))
    ]


def ask(path: Path, strangers: bool) -> float:
    """All clients ask all their questions; returns the seconds that it took."""
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(_CLIENTS):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(path))
            selector.register(
                client, selectors.EVENT_READ, (client, iter(questions(_QUESTIONS // _CLIENTS, strangers)))
            )
        began = time.perf_counter()
        for key in list(selector.get_map().values()):
            _next(selector, *key.data)
        while selector.get_map():
            for key, _ in selector.select():
                client, unasked = key.data
                answer = client.recv(4096)
                if not (answer.startswith(b"action=") and answer.endswith(b"\n\n")):
                    raise RuntimeError(f"no answer: {answer!r}")
                _next(selector, client, unasked)
        return time.perf_counter() - began


def _next(selector: selectors.BaseSelector, client: socket.socket, unasked: Iterator[bytes]) -> None:
    question = next(unasked, None)
    if question is None:
        selector.unregister(client)
    else:
        client.sendall(question)


@contextmanager
def filterd(folder: Path, policy: str = _RULES) -> Iterator[tuple[int, Path]]:
    server = f'policy_service: ["unix:{folder}/policy"], state: "sqlite:{folder}/state.db"'
    with FilterdProcess(folder, policy, server=server) as process:
        yield process.process.pid, folder / "policy"


@contextmanager
def policyd_rate_limit(folder: Path) -> Iterator[tuple[int, Path]]:
    root = unpacked("policyd-rate-limit")
    (folder / "config.yaml").write_text(_RATE_LIMIT.format(folder=folder))
    environment = {**os.environ, "PYTHONPATH": f"{root}/usr/lib/python3/dist-packages"}
    program = ["/usr/bin/python3", f"{root}/usr/bin/policyd-rate-limit", "--file", f"{folder}/config.yaml"]
    with _running(program, environment, folder / "policy") as process:
        yield process, folder / "policy"


@contextmanager
def postgrey(folder: Path) -> Iterator[tuple[int, Path]]:
    root = unpacked("postgrey")
    lists = [f"--whitelist-{each}={root}/usr/share/postgrey/whitelist_{each}" for each in ("clients", "recipients")]
    options = [f"--unix={folder}/policy", f"--dbdir={folder}", "--user=nobody", "--group=nogroup", *lists]
    with _running(
        ["perl", "-T", f"{root}/usr/sbin/postgrey", *options], dict(os.environ), folder / "policy"
    ) as process:
        yield process, folder / "policy"


@contextmanager
def _running(program: list[str], environment: dict[str, str], path: Path) -> Iterator[int]:
    with subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - Debian's own
        try:
            eventually(lambda: path.exists() or process.poll() is not None)
            yield process.pid
        finally:
            process.terminate()


Server = Callable[[Path], AbstractContextManager[tuple[int, Path]]]
_GREY, _THEIR_GREY = "filterd, greylist", "postgrey"
_LIMITED, _THEIR_LIMITED = "filterd, two limits", "policyd-rate-limit"
_SERVERS: dict[str, Server] = {
    "filterd, three rules": filterd,
    _LIMITED: partial(filterd, policy=_LIMITS),
    _THEIR_LIMITED: policyd_rate_limit,
    _GREY: partial(filterd, policy=_GREYLIST),
    _THEIR_GREY: postgrey,
}


def main(stage: Stage) -> None:
    """Questions to the policy service, filterd beside policyd-rate-limit and postgrey."""
    rates: dict[str, list[float]] = {name: [] for name in _SERVERS}
    costs: dict[str, list[float]] = {name: [] for name in _SERVERS}
    with ExitStack() as together:
        running = {}
        for name, start in _SERVERS.items():
            folder = Path(together.enter_context(TemporaryDirectory(prefix="filterd-bench-")))
            folder.chmod(0o777)
            running[name] = together.enter_context(start(folder))
            ask(running[name][1], name in (_GREY, _THEIR_GREY))  # what is done once is done
        for _ in range(stage.asked.rounds):
            for name, (process, path) in running.items():
                before = cpu_time(process)
                rates[name].append(_QUESTIONS / ask(path, name in (_GREY, _THEIR_GREY)))
                costs[name].append((cpu_time(process) - before) / _QUESTIONS)
    print(f"  {'policy service':<24}{'CPU µs':>10}{'questions/s':>13}")
    for name in _SERVERS:
        print(f"  {name:<24}{statistics.median(costs[name]):>10,.0f}{statistics.median(rates[name]):>13,.0f}")
    for ours, theirs in ((_LIMITED, _THEIR_LIMITED), (_GREY, _THEIR_GREY)):
        ratio = spread([mine / other for mine, other in zip(costs[ours], costs[theirs], strict=True)])
        print(f"  {f'{ours} / {theirs}':<42}{ratio}")
    print(flush=True)
