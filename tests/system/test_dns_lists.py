"""DNS lists, reverse names and HELO names as a user sees them: real answers, one score, what is on the mail and in the log."""

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dns.message
import dns.rcode
import pytest
from servers import nsd
from servers.fake_dns import FakeDns, reply
from servers.filterd import Filterd
from servers.milter_process import eventually

from filterd.mta.config import MtaConfig
from filterd.mta.server import running

pytestmark = pytest.mark.system

READER = "anna@home.example"
# A zone for each kind of list, with whom it lists; "away.test" is no zone of this server, which says so.
ZONES = {
    "113.0.203.in-addr.arpa": """\
1 PTR mail.good.example.
2 PTR mail.good.example.
2 PTR other.good.example.
3 PTR mail.bank.example.
""",
    "example": """\
mail.good A 203.0.113.1
other.good A 203.0.113.2
mail.bank A 192.0.2.1
$ORIGIN bl.example.
10.113.0.203 A 127.0.0.2
11.113.0.203 A 127.0.0.10
12.113.0.203 A 127.0.0.5
13.113.0.203 A 127.0.0.5
13.113.0.203 A 127.0.0.3
14.113.0.203 A 127.255.255.254
15.113.0.203 A 192.0.2.80
16.113.0.203 A 127.0.0.1
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2 A 127.0.0.2
$ORIGIN white.example.
10.113.0.203 A 127.0.0.2
$ORIGIN names.example.
bad-helo.test A 127.0.1.2
bad-sender.test A 127.0.1.2
bad-author.test A 127.0.1.2
""",
}
POLICY = """
identity: { authserv_id: mx.home.example }
dns: { servers: ["%s"] }
dmarc: { on_multiple_authors: skip }
dnsbl:
  - { zone: bl.example, codes: [127.0.0.2-3, 127.0.0.10], score: 4 }
  - { zone: white.example, score: -1.5 }
  - { zone: names.example, of: helo, score: 1 }
  - { zone: names.example, of: sender, score: 2 }
  - { zone: names.example, of: author, score: 3 }
  - { zone: away.test, score: 100 }
score: { tag: 1, quarantine: 4, reject: 6 }
rules:
  - { name: no-name, when: 'iprev.result in ["fail", "permerror"]', then: { score: 0.5 } }
  - { name: bad-helo, when: 'helo.kind in ["unqualified", "other-literal", "own"]', then: { score: 0.25 } }
"""


@dataclass
class Place:
    """The bundled MTA with filterd behind it, and what became of its last mail."""

    port: int
    filterd: Filterd
    maildir: Path

    def send(
        self, ip: str, helo: str = "mail.good.example", sender: str = "a@good.example", author: str = "a@good.example"
    ) -> tuple[int, dict[str, Any], str]:
        """The code that settled it, the decision, and the results on the mail."""
        judged = len(self.filterd.events("judged"))
        before = set(self.maildir.glob("new/*"))
        with smtplib.SMTP("127.0.0.1", self.port, timeout=60) as smtp:
            smtp.ehlo("test")
            address = f"IPV6:{ip}" if ":" in ip else ip
            assert smtp.docmd("XCLIENT", f"NAME=[UNAVAILABLE] ADDR={address} HELO={helo}")[0] == 220
            smtp.ehlo(helo)
            smtp.mail(sender)
            smtp.rcpt(READER)
            code, _ = smtp.data(f"From: <{author}>\r\nTo: <{READER}>\r\n\r\nx\r\n")
        new = [file.read_text() for file in set(self.maildir.glob("new/*")) - before]
        field = re.search(r"(?m)^Authentication-Results: (.*\n(?:[ \t].*\n)*)", "".join(new))
        return code, self.filterd.decision(judged), " ".join(field[1].split()) if field else ""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with (
        TemporaryDirectory() as name,
        nsd.running(ZONES) as (host, port),
        Filterd(Path(name), POLICY % f"{host}:{port}", workers=1) as filterd,
        running(MtaConfig("mx.home.example", Path(name) / "mail", (filterd.address,))) as mta,
    ):
        yield Place(mta.port, filterd, Path(name) / "mail" / READER)
        assert filterd.events("fault") == []


@pytest.mark.parametrize(
    ("ip", "listed", "score"),
    [
        ("203.0.113.1", None, None),
        ("203.0.113.10", "bl.example,white.example", 3.0),  # 4 - 1.5 + 0.5
        ("203.0.113.11", "bl.example", 4.5),
        ("203.0.113.12", None, 0.5),  # a code that does not count
        ("203.0.113.13", "bl.example", 4.5),  # one of two that does
        ("203.0.113.14", None, 0.5),  # refused
        ("203.0.113.15", None, 0.5),  # no list any more
        ("203.0.113.16", None, 0.5),  # RFC 5782 5
        ("2001:db8::1", "bl.example", 4.0),  # nobody can say whether it has a name
    ],
)
def test_the_client(place: Place, ip: str, listed: str | None, score: float | None) -> None:
    _, decision, _ = place.send(ip)

    assert (decision.get("dnsbl"), decision.get("score")) == (listed, score)


@pytest.mark.parametrize(
    ("who", "score", "verdict", "code"),
    [
        ({"helo": "bad-helo.test"}, 1.0, "accept", 250),
        ({"sender": "a@bad-sender.test"}, 2.0, "accept", 250),
        ({"author": "a@bad-author.test"}, 3.0, "accept", 250),
        ({"sender": "a@bad-sender.test", "author": "a@bad-author.test"}, 5.0, "quarantine", 250),
        (
            {"helo": "bad-helo.test", "sender": "a@bad-sender.test", "author": "a@bad-author.test"},
            6.0,
            "reject",
            550,
        ),
    ],
)
def test_names(place: Place, who: dict[str, str], score: float, verdict: str, code: int) -> None:
    found, decision, _ = place.send("203.0.113.1", **who)

    assert (decision["dnsbl"], decision["score"], decision["verdict"], found) == ("names.example", score, verdict, code)


@pytest.mark.parametrize(
    ("ip", "helo", "iprev", "kind", "score"),
    [
        ("203.0.113.1", "mail.good.example", "iprev=pass (mail.good.example) policy.iprev=203.0.113.1;", "ok", None),
        ("203.0.113.2", "mail.good.example", "iprev=pass (other.good.example) policy.iprev=203.0.113.2;", "ok", None),
        ("203.0.113.3", "mail.bank.example", "iprev=fail", "ok", 0.5),
        ("203.0.113.4", "nowhere.example", "iprev=permerror", "unresolvable", 0.5),
        ("203.0.113.1", "pc7", "iprev=pass", "unqualified", 0.25),
        ("203.0.113.1", "[203.0.113.1]", "iprev=pass", "literal", None),
        ("203.0.113.1", "[203.0.113.9]", "iprev=pass", "other-literal", 0.25),
        ("203.0.113.1", "mx.home.example", "iprev=pass", "own", 0.25),
        ("198.51.100.1", "mail.good.example", "iprev=temperror", "ok", None),
    ],
)
def test_reverse_and_helo_names(place: Place, ip: str, helo: str, iprev: str, kind: str, score: float | None) -> None:
    _, decision, results = place.send(ip, helo)

    assert (decision.get("score"), decision["verdict"]) == (score, "accept")
    assert iprev in results, results
    assert f"x-helo={kind} smtp.helo=" in results, results


def test_a_list_that_refuses_is_warned_of_once_and_one_that_is_away_costs_nothing(place: Place) -> None:
    for _ in range(3):
        code, decision, _ = place.send("203.0.113.14")
        assert (code, decision["verdict"]) == (250, "accept")
    event = "this DNS list does not serve us, or is none any more"
    (warning,) = eventually(lambda: place.filterd.events(event))

    assert warning["about"] == "bl.example"


@pytest.mark.parametrize(
    ("zone", "on_error", "code"),
    [("away.test", "accept", 250), ("away.test", "defer", 451), ("bl.example", "reject", 550)],
)
def test_each_list_says_what_becomes_of_mail_without_it(zone: str, on_error: str, code: int, tmp_path: Path) -> None:
    with nsd.running(ZONES) as (host, port):
        text = f'dns: {{ servers: ["{host}:{port}"] }}\ndnsbl: [{{ zone: {zone}, score: 1, on_error: {on_error} }}]\n'
        with (
            Filterd(tmp_path, text, workers=1) as filterd,
            running(MtaConfig("mx.home.example", tmp_path / "mail", (filterd.address,))) as mta,
        ):
            found, decision, _ = Place(mta.port, filterd, tmp_path / "mail" / READER).send("203.0.113.14")

    assert (found, decision["rule"]) == (code, "dnsbl.on_error")


def test_all_lists_are_asked_before_one_has_answered_and_once(tmp_path: Path) -> None:
    zones = [f"{number}.list.test" for number in range(8)]

    def asked() -> set[str]:
        return {each for each in server.questions if ".list.test." in each}

    def answered(query: bytes, _: bool) -> list[bytes]:
        name = str(dns.message.from_wire(query).question[0].name)
        if not name.endswith(".list.test."):
            return [reply(query, code=dns.rcode.NXDOMAIN)]
        with server.arrived:
            server.arrived.wait_for(lambda: len(asked()) == len(zones), timeout=60)
        return [reply(query, f"{name} 300 A 127.0.0.2")]

    lists = "".join(f"  - {{ zone: {zone}, score: 1 }}\n" for zone in zones)
    with FakeDns(answered) as server:
        text = (
            f'dns: {{ servers: ["127.0.0.1:{server.address[1]}"], timeout: 60s }}\ndnsbl:\n{lists}score: {{ tag: 8 }}\n'
        )
        with (
            Filterd(tmp_path, text, workers=1) as filterd,
            running(MtaConfig("mx.home.example", tmp_path / "mail", (filterd.address,))) as mta,
        ):
            place = Place(mta.port, filterd, tmp_path / "mail" / READER)
            first = place.send("203.0.113.1")[1]
            before = list(server.questions)
            second = place.send("203.0.113.1")[1]
            after = [each for each in server.questions[len(before) :] if ".list.test." in each]

    assert (first["score"], second["score"], after) == (8.0, 8.0, [])
