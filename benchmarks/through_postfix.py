"""How long a client waits for the answer to its mail's end, through Debian's Postfix: what filters cost who sends mail.

One client sends one mail after the other, so that none waits for another's; to each Postfix by turns.
"""

import smtplib
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import anchors
import filters
from far_away import far_away
from filters import Filter, Job
from mails import CLIENT, Kind
from measure import WrongError
from servers import postfix
from stage import Stage

#: How long an answer takes that comes from far away, in seconds.
_ROUND_TRIP = 0.05
_MAILS = 40  # a round


def main(stage: Stage) -> None:
    """How long a client waits for the answer to its mail's end, through Postfix."""
    # Postfix's processes, which are not root, have to reach the sockets in it; the key stays root's.
    stage.folder.chmod(0o755)
    print(f"through Postfix, ms from a mail's end to its answer, {stage.asked.rounds} rounds of {_MAILS}: p50, p95")
    for kind in (Kind(5_000), Kind(1_000_000)):
        mail, sender = [stage.mails.signed(kind)], "alice@example.org"
        _measure(stage, f"{kind}, DNS warm", stage.resolver.address, [(mail, sender)] * (stage.asked.rounds + 1))
    with far_away(stage.resolver.address, _ROUND_TRIP) as distant:
        strangers = [stage.mails.by_strangers(number) for number in range(stage.asked.rounds + 1)]
        _measure(stage, "5 kB, DNS cold and 50 ms away", distant.address, strangers)
    print()


def _measure(stage: Stage, title: str, nameserver: str, rounds: Sequence[tuple[list[Path], str]]) -> None:
    with ExitStack() as together:
        setting = stage.setting(f"postfix {title}".replace(" ", "-").replace(",", ""), nameserver)
        chains: dict[str, list[AbstractContextManager[Filter]]] = {
            "Postfix alone": [],
            "filterd": [filters.filterd(Job.VERIFY, setting)],
            "OpenDKIM, OpenDMARC": [anchors.opendkim(Job.VERIFY, setting), anchors.opendmarc(setting)],
        }
        running = {name: _begun(together, chain) for name, chain in chains.items()}
        waits: dict[str, list[float]] = {name: [] for name in running}
        for number, (mails, sender) in enumerate(rounds):
            for name, (server, wants) in running.items():
                if nameserver != stage.resolver.address:
                    stage.resolver.forget()
                found = [
                    _wait(server, sender.replace("%", str(each % len(mails))), mails[each % len(mails)])
                    for each in range(min(_MAILS, stage.asked.strangers))
                ]
                if number:
                    waits[name] += found
                elif not all(each in server.maildir("bob@example.net")[-1] for each in wants):
                    raise WrongError(f"{name}: a mail came out without {wants}")
    print(f"  {title}")
    for name, found in waits.items():
        cuts = statistics.quantiles(found, n=20)
        print(f"    {name:<24}{cuts[9] * 1e3:>9.2f}{cuts[18] * 1e3:>9.2f}", flush=True)


def _begun(together: ExitStack, chain: list[AbstractContextManager[Filter]]) -> tuple[postfix.Postfix, list[bytes]]:
    """A Postfix that asks these filters, and what they have to add."""
    running = [together.enter_context(each) for each in chain]
    for each in running:
        Path(each.socket.removeprefix("unix:")).chmod(0o666)
    return (
        together.enter_context(postfix.running(milters=[each.socket for each in running])),
        [each.wants.encode() for each in running],
    )


def _wait(server: postfix.Postfix, sender: str, mail: Path) -> float:
    """Seconds from the final dot to the reply."""
    smtp = server.connect(CLIENT, "mx.example.org", helo="mx.example.org")
    # The dot does not wait for the body to be acknowledged.
    smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    smtp.mail(sender)
    smtp.rcpt("bob@example.net")
    smtp.docmd("DATA")
    smtp.send(mail.read_bytes())
    began = time.perf_counter()
    smtp.send(b".\r\n")
    code, text = smtp.getreply()
    took = time.perf_counter() - began
    smtp.quit()
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    return took
