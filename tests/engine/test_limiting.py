"""Mail is charged when it is known whom to charge, counted when it was taken, and given back when it was not."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from filterd.backend.memory_store import MemoryStore
from filterd.backend.zone import zone_resolver
from filterd.engine.limiting import Limiting
from filterd.engine.runtime import Clock, Runtime
from filterd.engine.session import MailSession
from filterd.limits.state import StoreError
from filterd.mail.address import parse_path
from filterd.mail.header import Field
from filterd.mail.transaction import Client, ForwardPath, ReversePath, Stage, Transaction
from filterd.policy.explain import explain
from filterd.policy.facts import Facts
from filterd.policy.load import load
from filterd.policy.results import Results
from filterd.policy.transcript import Transcript
from filterd.policy.verdict import Disposition, Verdict

C, D, R = Disposition.CONTINUE, Disposition.DEFER, Disposition.REJECT
HOUR = 3600.0
FIELDS = (Field(b"From", b" anna@home.example"), Field(b"Subject", b" x"))
PER_USER = "- { name: per-user, when: client.authenticated, key: client.user, rate: 3 recipients per 1h }"


class Away(MemoryStore):
    """A store that does not answer."""

    def reserve(self, charges: object, now: int) -> tuple[()]:
        raise StoreError("it is away")

    settle = reserve  # type: ignore[assignment]


class Office:
    """A server with limits, a clock that is ours, and a client that says what it is told."""

    def __init__(self, limits: str, more: str = "", files: dict[str, bytes] | None = None) -> None:
        self.now = 1_800_000_000.0
        self.transcripts: list[Transcript] = []
        self.store = MemoryStore()
        text = f"version: 1\nidentity: {{ authserv_id: mx.home.example }}\n{more}\nlimits:\n{limits}\n"
        self.policy = load(text, "p.yaml", read_file=lambda name: (files or {})[name])
        self.runtime = Runtime(
            self.policy,
            "mx.home.example",
            lambda _: zone_resolver(""),
            self.transcripts.append,
            Clock(lambda: self.now, lambda: self.now),
            store=self.store,
        )

    def session(self, ip: str = "192.0.2.1", port: int = 1234) -> MailSession:
        session = MailSession(self.runtime, f"c{port}")
        session.connect(Client(ip_address(ip), port=port), None)
        session.helo("client.example", None)
        return session

    def send(
        self,
        *recipients: str,
        user: str | None = "anna",
        sender: str = "anna@home.example",
        ip: str = "192.0.2.1",
        body: bytes = b"text\r\n",
        ends: bool = True,
    ) -> list[Disposition]:
        """A whole mail: what each command was answered, MAIL and the end included."""
        session = self.session(ip)
        said = [session.mail(ReversePath(sender, parse_path(sender)), user, None)]
        if not said[0].disposition.final:
            said += [session.rcpt(path(each), None) for each in recipients]
            if not all(each.disposition.final for each in said[1:]) and ends:
                session.data("Q1")
                session.end_of_headers(FIELDS, "Q1")
                session.body(body)
                said.append(session.end_of_message("Q1").verdict)
        session.close()
        self.said: Sequence[Verdict] = said
        return [each.disposition for each in said]

    def used(self) -> dict[str, int]:
        return {name: bucket.used for name, bucket in self.store.buckets() if bucket.used}


def path(text: str) -> ForwardPath:
    return ForwardPath(text, parse_path(text))


def test_recipients_are_deferred_above_the_limit_and_pass_in_the_next_window() -> None:
    office = Office(PER_USER)

    assert office.send("a@x.example", "b@x.example") == [C, C, C, C]
    assert office.send("c@x.example", "d@x.example") == [C, C, D, C]
    assert office.send("e@x.example") == [C, D]
    office.now += 1.1 * HOUR
    assert office.send("e@x.example") == [C, C, C]


def test_the_reply_says_when_and_the_log_and_explain_say_which() -> None:
    office = Office(PER_USER)
    office.send("a@x.example", "b@x.example", "c@x.example")

    office.send("d@x.example")

    refused = office.said[-1]
    assert refused.rule == "per-user"
    assert str(refused.reply) == "451 4.7.1 too much mail, try again in 3660 s (per-user)"
    line = office.transcripts[-1].log_line()
    assert line["limits"] == "per-user: anna has 3 of 3 recipients per 1h"
    assert line["refused"] == "per-user:<d@x.example>"
    page = explain(office.transcripts[-1])
    assert "per-user  fired: anna has 3 of 3 recipients per 1h" in page
    assert 'limit.key="anna", limit.used=3, limit.remaining=0, limit.retry_after=3660' in page


def test_a_reply_of_ones_own() -> None:
    limit = (
        "- { name: n, key: client.user, rate: 1 messages per 1h, then: reject, reply: "
        '"550 5.7.1 {client.user} {limit.name} {limit.remaining} {limit.retry_after}" }'
    )
    office = Office(limit)
    office.send("a@x.example")

    assert office.send("b@x.example") == [R]
    assert str(office.said[0].reply) == "550 5.7.1 anna n 0 3660"


def test_a_recipient_counts_once() -> None:
    office = Office(PER_USER)

    assert office.send("a@x.example", "A@x.example", "a@x.example", "b@x.example", "c@x.example")[-1] is C
    assert list(office.used().values()) == [3]


def test_what_is_not_taken_is_given_back() -> None:
    rules = (
        "rules:\n"
        '  - { name: no-bob, when: envelope.recipient == "bob@x.example", then: reject }\n'
        "  - { name: too-large, when: message.size > 1000, then: defer }"
    )
    office = Office(PER_USER, rules)

    assert office.send("bob@x.example", "a@x.example") == [C, R, C, C]
    assert list(office.used().values()) == [1]  # refused by a rule: not charged
    for _ in range(5):
        assert office.send("b@x.example", "c@x.example", body=b"x" * 2000)[-1] is D
    assert list(office.used().values()) == [1]  # deferred at its end, and tried again
    office.send("b@x.example", "c@x.example", ends=False)
    assert list(office.used().values()) == [1]  # given up by the client


def test_mails_at_once_do_not_pass_the_limit_together() -> None:
    office = Office(PER_USER)
    sessions = [office.session(port=port) for port in range(1, 6)]
    for session in sessions:
        session.mail(ReversePath("anna@home.example", parse_path("anna@home.example")), "anna", None)

    said = [session.rcpt(path("a@x.example"), None).disposition for session in sessions]

    assert said == [C, C, C, D, D]
    sessions[0].abort()
    assert sessions[3].rcpt(path("a@x.example"), None).disposition is C


@pytest.mark.parametrize(
    ("limit", "mails"),
    [
        ("key: client.user, rate: 2 messages per 1h", [[C, C, C], [C, C, C], [D]]),
        ("key: client.user, rate: [9 messages per 1h, 1 messages per 1m]", [[C, C, C], [D], [D]]),
        ("key: client.user, rate: 10 messages per 1h, burst: 1", [[C, C, C], [D], [D]]),
        ("key: client.user, rate: 100 B per 1h", [[C, C, C], [C, C, C], [C, C, D]]),
        ("key: envelope.recipient, rate: 1 messages per 1h", [[C, C, C], [C, D]]),
        ("key: [client.user, envelope.recipient_domain], rate: 1 recipients per 1h", [[C, C, C], [C, D]]),
        ("key: client.ip, rate: 1 messages per 1h", [[C, C, C], [D]]),
        ("key: envelope.sender_domain, rate: 1 messages per 1h", [[C, C, C], [D]]),
        ("key: author.domain, rate: 1 recipients per 1h", [[C, C, C], [C, C, D]]),
        ("key: client.user, rate: 1 messages per 1h, then: reject", [[C, C, C], [R]]),
        ("key: client.user, rate: 1 messages per 1h, mode: observe", [[C, C, C], [C, C, C]]),
        ("key: client.user, rate: 1 messages per 1h, then: observe", [[C, C, C], [C, C, C]]),
        ('key: client.user, rate: 1 messages per 1h, exempt: client.user == "anna"', [[C, C, C], [C, C, C]]),
        ("key: client.user, rate: 1 messages per 1h, when: client.trusted", [[C, C, C], [C, C, C]]),
    ],
)
def test_what_is_counted_and_when_it_is_known(limit: str, mails: list[list[Disposition]]) -> None:
    office = Office(f"- {{ name: one, {limit} }}")

    assert [office.send("a@x.example") for _ in mails] == mails


@pytest.mark.parametrize(("then", "word"), [("quarantine", Disposition.QUARANTINE), ("hold", Disposition.HOLD)])
def test_the_whole_mail_above_the_limit_is_set_aside(then: str, word: Disposition) -> None:
    office = Office(f"- {{ name: one, key: client.user, rate: 1 recipients per 1h, then: {then} }}")

    assert [office.send("a@x.example", "b@x.example")[-1], office.send("a@x.example")[-1]] == [word, C]
    assert office.send("a@x.example")[-1] is word


def test_whom_nothing_is_known_of_is_not_counted() -> None:
    office = Office("- { name: one, key: [client.user, envelope.sender], rate: 1 messages per 1h }")

    assert [office.send("a@x.example", user=None)[-1] for _ in range(3)] == [C, C, C]
    assert [office.send("a@x.example", sender="")[-1] for _ in range(3)] == [C, C, C]


def test_overrides_of_a_file() -> None:
    limit = "- { name: one, key: client.user, rate: [1 messages per 1h, 9 recipients per 1h], overrides: vip }"
    office = Office(limit, files={"vip": b"# who sends more\n\nBoss: 3 per 1d, 2 messages per 1h\nrobot: unlimited\n"})

    def taken(user: str) -> int:
        return sum(office.send("a@x.example", user=user)[-1] is C for _ in range(5))

    assert [taken(user) for user in ("anna", "boss", "robot")] == [1, 2, 5]


def test_all_limits_of_a_recipient_or_none() -> None:
    office = Office(
        "- { name: wide, key: client.user, rate: 9 recipients per 1h }\n"
        "- { name: narrow, key: envelope.recipient_domain, rate: 1 recipients per 1h }"
    )

    assert office.send("a@x.example", "b@x.example", "a@y.example") == [C, C, D, C, C]
    assert sum(office.used().values()) == 4


def test_a_rule_that_lets_mail_off_lets_it_off_no_limit() -> None:
    rules = "rules:\n  - { name: ours, when: client.authenticated, then: accept }"
    office = Office(PER_USER, rules)
    office.send("a@x.example", "b@x.example", "c@x.example")

    assert office.send("d@x.example") == [Disposition.ACCEPT, D]
    office = Office("- { name: size, key: client.user, rate: 100 B per 1h }", rules)
    assert [office.send("a@x.example", body=b"x" * 90)[-1]] == [D]


def test_a_guessed_password_shows_by_its_networks() -> None:
    office = Office("- { name: guard, key: client.user, rate: 3 networks per 10m }")

    said = [office.send("a@x.example", ip=f"198.51.{number}.1")[0] for number in (1, 1, 2, 3, 3, 4, 1)]
    assert said == [C, C, C, C, C, D, D]
    office.now += 700
    assert office.send("a@x.example", ip="198.51.1.1")[0] is C


def test_a_list_of_addresses_shows_by_its_failures() -> None:
    rules = 'rules:\n  - { name: no-such, when: envelope.recipient.startsWith("bad"), then: reject }'
    office = Office("- { name: guard, key: client.user, rate: 2 failures per 10m }", rules)

    assert office.send("bad1@x.example", "bad1@x.example", "a@x.example") == [C, R, R, C, C]
    assert office.send("bad2@x.example", "a@x.example", "bad3@x.example") == [C, R, D, R]
    office.now += 700
    assert office.send("a@x.example") == [C, C, C]


@pytest.mark.parametrize(
    ("on_error", "said"), [("skip", [C, C, C]), ("accept", [C, C, C]), ("defer", [C, D]), ("reject", [C, R])]
)
def test_a_store_that_is_away(on_error: str, said: list[Disposition]) -> None:
    office = Office(PER_USER.replace("}", f", on_error: {on_error} }}"))
    object.__setattr__(office.runtime, "store", Away())

    assert office.send("a@x.example") == said


def test_the_milter_and_the_policy_service_charge_a_mail_once() -> None:
    office = Office(PER_USER)

    def facts(recipient: str, *, port: int = 1234) -> Facts:
        client = Client(ip_address("192.0.2.1"), port=port)
        sender = ReversePath("anna@home.example", parse_path("anna@home.example"))
        transaction = Transaction("policy", client, user="anna", sender=sender)
        return Facts(transaction, from_us=True, recipient=path(recipient))

    def asked(limiting: Limiting, recipient: str, *, port: int = 1234) -> Disposition:
        return limiting.judge(Stage.RCPT, facts(recipient, port=port), Results(), Verdict()).disposition

    service, milter = Limiting(office.runtime, shared=True), Limiting(office.runtime)
    assert [asked(service, "a@x.example"), asked(milter, "a@x.example")] == [C, C]
    # Postfix refuses b itself; the milter never hears of it.
    assert [asked(service, "b@x.example"), asked(service, "c@x.example"), asked(milter, "c@x.example")] == [C, C, C]
    service.finished(Verdict())
    milter.finished(Verdict())
    assert list(office.used().values()) == [2]

    service, milter = Limiting(office.runtime, shared=True), Limiting(office.runtime)
    assert [asked(service, "d@x.example"), asked(milter, "d@x.example")] == [C, C]
    milter.finished(Verdict(D))
    service.given_up()
    assert list(office.used().values()) == [2]  # deferred by the milter: tried again, and not charged for both

    alone = Limiting(office.runtime, shared=True)
    assert asked(alone, "d@x.example", port=99) is C
    alone.given_up()
    assert list(office.used().values()) == [3]


def test_what_a_dead_worker_held_lapses() -> None:
    office = Office(PER_USER.replace("1h", "1d"))
    dead = office.session(port=1)
    dead.mail(ReversePath("anna@home.example", parse_path("anna@home.example")), "anna", None)
    for number in range(3):
        dead.rcpt(path(f"{number}@x.example"), None)

    assert office.send("a@x.example") == [C, D]
    office.now += HOUR + 1
    assert office.send("a@x.example") == [C, C, C]


def test_failures_count_where_the_whole_mail_is_quarantined() -> None:
    office = Office(
        "- { name: guesses, key: client.user, rate: 1 failures per 1h, then: quarantine }",
        "rules: [{ name: gone, when: envelope.recipient.startsWith('gone'), then: reject }]",
    )
    assert office.send("gone1@home.example", "b@home.example") == [C, R, C, Disposition.QUARANTINE]


def test_a_recipient_that_the_mta_refuses_is_none() -> None:
    office = Office(
        "- { name: guesses, key: client.user, rate: 2 failures per 1h, then: observe }\n"
        "- { name: few, key: client.user, rate: 1 recipients per 1h }"
    )
    session = office.session()
    session.mail(ReversePath("anna@home.example", parse_path("anna@home.example")), "anna", None)
    for each in ("x@home.example", "y@home.example", "X@home.example"):
        session.refused(path(each), None)
    assert session.rcpt(path("b@home.example"), None).disposition is C
    session.end_of_headers(FIELDS, "Q1")
    session.end_of_message("Q1")

    assert sorted(office.used().values()) == [1, 2]
    assert [each.text for each in office.transcripts[-1].transaction.recipients] == ["b@home.example"]
