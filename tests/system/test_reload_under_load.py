"""50 reloads, every second one of a broken policy, while mail flows: no mail is lost, none is judged by two policies.

Each policy tags by its own name at two stages: a mail that two policies had a part in would bear two names, or one twice
and a log line that names another.
"""

import hashlib
import json
import threading
from pathlib import Path

import pytest
from servers.filterd_process import FilterdProcess
from servers.milter_mta import ClosedError, MilterMta
from servers.milter_process import eventually

from filterd.daemon.control import ask
from filterd.wire.milter import Accept, ChangeHeader, InsertHeader, Packet

RELOADS = 50
SENDERS = 4
BROKEN = (
    "rules: [{ name: no, when: sender, then: reject }]",
    "rules: [{ name: no, when: 'true', then: nothing }]",
    "sign: [{ domains: [example.org], keys: [{ selector: s, file: missing.pem }] }]",
    "rules: [",
)


def version(number: int) -> str:
    """A policy that tags by its number, at MAIL and at the end of the message."""
    return (
        "rules:\n"
        f"  - {{ name: v{number}-mail, when: 'client.ip != \"\"', then: tag }}\n"
        f"  - {{ name: v{number}-end, when: message.size > 1, then: tag }}"
    )


class Sender(threading.Thread):
    """One MTA: mail after mail, some over one connection, until told to stop. `mails` are what came back of each."""

    def __init__(self, name: str, address: str, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.mails: dict[str, tuple[Packet, list[Packet]]] = {}
        self.error: BaseException | None = None
        self._address = address
        self._halt = stop

    def run(self) -> None:
        try:
            while not self._halt.is_set():
                with MilterMta(self._address) as mta:
                    mta.open(ip="127.0.0.1")
                    for _ in range(5):
                        queue_id = f"{self.name}x{len(self.mails)}"
                        answer = mta.send(queue_id=queue_id)
                        self.mails[queue_id] = answer, list(mta.edits)
                    mta.quit()
        except (ClosedError, OSError, AssertionError) as error:
            self.error = error


def tags(edits: list[Packet]) -> list[str]:
    return sorted(
        each.value.decode().strip()
        for each in edits
        if isinstance(each, InsertHeader | ChangeHeader) and each.name == b"X-Filterd-Tag"
    )


@pytest.mark.parametrize("engine", ["libmilter", "native"])
def test_every_mail_is_judged_by_one_policy(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FilterdProcess, "engine", engine)
    stop = threading.Event()
    digests: dict[str, int] = {}

    def write(number: int) -> None:
        daemon.write(version(number))
        digests[hashlib.sha256((tmp_path / "policy.yaml").read_bytes()).hexdigest()[:12]] = number

    with FilterdProcess(tmp_path, version(0)) as daemon:
        write(0)
        senders = [Sender(f"S{number}", daemon.address, stop) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        refused, reloaded = [], []
        for number in range(1, RELOADS // 2 + 1):
            daemon.write(BROKEN[number % len(BROKEN)])
            refused.append(ask(f"unix:{tmp_path}/control.sock", "reload", 300.0))
            write(number)
            reloaded.append(ask(f"unix:{tmp_path}/control.sock", "reload", 300.0))
        stop.set()
        for sender in senders:
            sender.join()
        sent = {queue_id: mail for sender in senders for queue_id, mail in sender.mails.items()}
        eventually(lambda: daemon.log().count("event=judged") >= len(sent))
        judged = [
            dict(word.split("=", 1) for word in line.split() if "=" in word)
            for line in daemon.log().splitlines()
            if "event=judged" in line
        ]

    assert [sender.error for sender in senders] == [None] * SENDERS
    assert [each["outcome"] for each in reloaded] == ["reloaded"] * (RELOADS // 2)
    assert [each["outcome"] for each in refused] == ["refused"] * (RELOADS // 2)
    assert all(each["errors"][0].startswith(f"{tmp_path}/policy.yaml:") for each in refused)
    assert all(answer == Accept() for answer, _ in sent.values())
    # Each mail once, by one policy, which is the one that the log names.
    lines = {line["queue_id"]: line for line in judged}
    assert (len(judged), lines.keys()) == (len(sent), sent.keys())
    for queue_id, (_, edits) in sent.items():
        number = digests[lines[queue_id]["policy"]]
        assert tags(edits) == [f"v{number}-end", f"v{number}-mail"], json.dumps(lines[queue_id])
        assert lines[queue_id]["generation"] == str(number + 1)
    assert len({line["policy"] for line in judged}) > 1
