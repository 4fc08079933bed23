"""What the shipped default policy makes of a public corpus of mail and spam, with Debian's spamd beside it.

    make corpus

Sends the first half (by name) of each folder of easy ham and of spam through `filterd run` over a real milter socket,
by `policies/default.yaml` with the lines below on top, and prints how many mails the score tagged. spamd has the rules
of its package, no Bayes and no network tests; DNS knows no name. Ends with an error if filterd reports a fault, loses a
worker, does not scan a mail, or changes anything but the fields that it adds and the X-Spam-* fields that were there.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import dns.rcode
from servers.fake_dns import FakeDns, reply
from servers.filterd import Filterd
from servers.milter_mta import MilterMta
from servers.spamd import SpamdServer

from filterd.mail.message import split
from filterd.wire.milter import Accept, ChangeHeader, Continue, InsertHeader

_POLICY = Path(__file__).parents[1] / "policies" / "default.yaml"
_FOLDERS = {"mail": ("easy-ham-1", "easy-ham-2"), "spam": ("spam-1", "spam-2")}
_ADDED = (b"authentication-results", b"x-filterd-tag", b"x-filterd-quarantine")
_CONNECTIONS = 4


def main() -> None:
    """Print what was tagged."""
    corpus = Path(sys.argv[1])
    with (
        TemporaryDirectory() as name,
        FakeDns(lambda query, _: [reply(query, code=dns.rcode.NXDOMAIN)]) as nobody,
        SpamdServer(Path(name)) as spamd,
        Filterd(Path(name), _policy(nobody.address[1], spamd.port)) as filterd,
        ThreadPoolExecutor(_CONNECTIONS) as pool,
    ):
        for kind, folders in _FOLDERS.items():
            files = list(chain.from_iterable(_first_half(corpus / folder) for folder in folders))
            found = Counter(pool.map(lambda file: _send(filterd.address, file), files))
            tagged = found["tagged"] + found["quarantined"]
            print(
                f"{kind}: {len(files)} mails, {tagged} tagged or quarantined ({tagged / len(files):.1%}): {dict(found)}"
            )
        troubles = filterd.events("fault") + filterd.events("worker ended")
    if troubles:
        sys.exit(str(troubles))


def _policy(dns_port: int, spamd_port: int) -> str:
    mine = f"""\
identity: {{ authserv_id: mx.example }}
dns: {{ servers: ["127.0.0.1:{dns_port}"] }}
spamd: {{ address: "inet:{spamd_port}@127.0.0.1", on_error: defer }}
score: {{ tag: 5, quarantine: 10 }}
"""
    return mine + _POLICY.read_text().replace("version: 1\n", "")


def _first_half(folder: Path) -> Iterator[Path]:
    files = sorted(folder.glob("*.txt"))
    yield from files[: len(files) // 2]


def _send(address: str, file: Path) -> str:
    """What became of a mail by its score, or of what else there was."""
    lines = file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    # Some begin as an mbox has them.
    header, body = split(lines.split(b"\r\n", 1)[1] if lines.startswith(b"From ") else lines)
    fields = [(field.name, field.value) for field in header]
    with MilterMta(address) as mta:
        mta.open()
        answer = mta.send(fields, body, sender=b"<sender@sender.example>", queue_id=file.name[:20])
        edits = list(mta.edits)
        mta.quit()
    if not isinstance(answer, Accept | Continue):
        return f"refused: {getattr(answer, 'text', answer)}"
    for each in edits:
        name = each.name.lower() if isinstance(each, InsertHeader | ChangeHeader) else b""
        ours = isinstance(each, InsertHeader) and name in _ADDED
        if not ours and not name.startswith(b"x-spam-"):
            sys.exit(f"{file}: an edit that nobody asked for: {each}")
    put = {each.name.lower(): each.value for each in edits if isinstance(each, InsertHeader)}
    if b"x-spam-status" not in put and len(lines) < 512 * 1024:
        sys.exit(f"{file}: was not scanned")
    if b"x-filterd-quarantine" in put:
        return "quarantined"
    return "tagged" if b"score.tag" in put.get(b"x-filterd-tag", b"") else "delivered"


if __name__ == "__main__":
    main()
