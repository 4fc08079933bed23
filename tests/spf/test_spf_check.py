"""check_host() through our resolver: RFC 7208's results, and what hostile names, texts and records may not do."""

import threading
from ipaddress import ip_address

import pytest
import spf as pyspf
from hypothesis import given
from hypothesis import strategies as st

from filterd.backend.recorded import RecordingResolver
from filterd.backend.zone import zone_resolver
from filterd.lookup import Answer, Outcome, Resolver, ZoneResolver
from filterd.mail.address import AddressLiteral, Mailbox
from filterd.mail.domain import Domain
from filterd.mail.reason import Reason
from filterd.spf.check import SpfCode, SpfIdentity, SpfResult, check_helo, check_mail_from

CLIENT = ip_address("192.0.2.1")
SENDER = Mailbox("alice", Domain("example.org"))
HELO = "mail.example.net"


def check(zone: str, sender: Mailbox | None = SENDER, ip: str = "192.0.2.1", helo: str = HELO) -> SpfResult:
    return check_mail_from(ip_address(ip), sender, helo, zone_resolver(zone))


def record(text: str) -> str:
    return f'example.org. TXT "{text}"\n'


class Scripted:
    """A resolver that answers every question of a type alike."""

    def __init__(self, **values: tuple[bytes | str, ...]) -> None:
        self.values = values
        self.questions: list[tuple[str, str]] = []

    def lookup(self, name: str, rdtype: str) -> Answer:
        self.questions.append((name, rdtype))
        values = self.values.get(rdtype, ())
        return Answer(name, rdtype, Outcome.FOUND if values else Outcome.NXDOMAIN, values)

    def prefetch(self, name: str, rdtype: str) -> None:
        raise AssertionError("a check asks for nothing that it does not use")


@pytest.fixture(autouse=True)
def _no_dns_of_pyspf(monkeypatch: pytest.MonkeyPatch) -> None:
    def driver(*_: object) -> None:
        raise AssertionError("pyspf asked by itself")

    monkeypatch.setattr(pyspf, "DNSLookup", driver)


@pytest.mark.parametrize(
    ("text", "code", "mechanism"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", SpfCode.PASS, "ip4:192.0.2.1"),
        ("v=spf1 ip4:192.0.2.0/24 -all", SpfCode.PASS, "ip4:192.0.2.0/24"),
        ("v=spf1 ip4:192.0.3.0/24 -all", SpfCode.FAIL, "-all"),
        ("v=spf1 ip4:192.0.3.0/23 -all", SpfCode.PASS, "ip4:192.0.3.0/23"),
        ("v=spf1 ip4:0.0.0.0/0 -all", SpfCode.PASS, "ip4:0.0.0.0/0"),
        ("v=spf1 ip6:2001:db8::1 -all", SpfCode.FAIL, "-all"),
        ("v=spf1 ~all", SpfCode.SOFTFAIL, "~all"),
        ("v=spf1 ?all", SpfCode.NEUTRAL, "?all"),
        ("v=spf1", SpfCode.NEUTRAL, None),
        ("v=spf1 exists:%{ir}.sender.example.org -all", SpfCode.PASS, "exists:%{ir}.sender.example.org"),
        ("v=spf1 include:other.example -all", SpfCode.PASS, "include:other.example"),
        ("v=spf1 x=1 x=%{d} a.b_c-1=2 ip4:192.0.2.1 X= -all", SpfCode.PASS, "ip4:192.0.2.1"),
        ("v=spf1 Redirect=other.example", SpfCode.PASS, "+IP4:192.0.2.1"),
    ],
)
def test_the_result_and_the_term_that_decided(text: str, code: SpfCode, mechanism: str | None) -> None:
    zone = record(text) + "1.2.0.192.sender.example.org. A 127.0.0.2\n" + 'other.example. TXT "v=spf1 +IP4:192.0.2.1"\n'
    assert check(zone) == SpfResult(code, SpfIdentity.MAILFROM, SENDER.domain, mechanism)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v=spf1 moo -all", Reason.SPF_SYNTAX),
        ("v=spf1 a:%{x}.example.org -all", Reason.SPF_SYNTAX),
        ("v=spf1 x=%{d", Reason.SPF_SYNTAX),
        ("v=spf1 x=%{d}% -all", Reason.SPF_SYNTAX),
        ("v=spf1 redirect=a.example redirect=b.example", Reason.SPF_SYNTAX),
        ("v=spf1 exp=a.example EXP=b.example", Reason.SPF_SYNTAX),
        ("v=spf1 a:%{d0}.example.org -all", Reason.SPF_SYNTAX),
        ("v=spf1 a:%{d2foo}.example.org -all", Reason.SPF_SYNTAX),
        ("v=spf1 a:%{c}.example.org -all", Reason.SPF_SYNTAX),
        ("v=spf1 exists:%{" + '" "'.join(["9" * 200] * 2) + "}.example.org", Reason.SPF_SYNTAX),
        ("v=spf1 a/" + '" "'.join(["9" * 240] * 20), Reason.SPF_SYNTAX),
        ('v=spf1 -all" "\\200', Reason.SPF_SYNTAX),
        ('v=spf1 -all"\nexample.org. TXT "v=spf1 ?all', Reason.SPF_MANY_RECORDS),
        ("v=spf1 include:none.example -all", Reason.SPF_INCLUDE),
        ("v=spf1 redirect=none.example", Reason.SPF_INCLUDE),
        ("v=spf1 include:twice.example", Reason.SPF_MANY_RECORDS),
        ("v=spf1 " + "a:here.example " * 11 + "-all", Reason.SPF_LIMIT),
        ("v=spf1 " + "a:none.example " * 3 + "-all", Reason.SPF_LIMIT),
        ("v=spf1 mx:many.example -all", Reason.SPF_LIMIT),
        ("v=spf1 include:loop.example", Reason.SPF_LIMIT),
        ("v=spf1 -all" + '" "'.join([" " * 240] * 40), Reason.SPF_LIMIT),
        ("v=spf1 exists:" + '" "'.join(["a." * 100] * 3) + "example.org -all", Reason.SPF_LIMIT),
        ("v=spf1 " + '" "'.join(["exists:%{l}%{s}.a.example "] * 101), Reason.SPF_LIMIT),
        ("v=spf1 " + '" "'.join(["exists:", *["%{l}" * 50] * 2, "%{l} "] * 2), Reason.SPF_LIMIT),
    ],
)
def test_a_record_that_cannot_be_used_is_permerror_with_its_reason(text: str, reason: Reason) -> None:
    zone = "here.example. A 198.51.100.1\n" + 'loop.example. TXT "v=spf1 redirect=loop.example"\n'
    zone += 'twice.example. TXT "v=spf1 ?all"\ntwice.example. TXT "v=spf1 -all"\n'
    zone += "".join(f"many.example. MX {i} here.example.\n" for i in range(11))
    result = check(zone + record(text))
    assert (result.code, result.reason) == (SpfCode.PERMERROR, reason), result
    assert result.detail
    assert len(result.detail) <= 200


@pytest.mark.parametrize(("place", "code"), [(255, SpfCode.PASS), (256, SpfCode.FAIL)])
def test_of_many_addresses_of_a_name_256_are_compared(place: int, code: SpfCode) -> None:
    addresses = [f"10.0.{n // 256}.{n % 256}" for n in range(300)]
    addresses[place] = "192.0.2.1"
    resolver = Scripted(TXT=(b"v=spf1 a -all",), A=tuple(addresses))

    assert check_mail_from(CLIENT, SENDER, HELO, resolver).code is code


@pytest.mark.parametrize(
    "text",
    [
        "v=spf1 " + "a:here.example " * 10 + "-all",
        "v=spf1 " + "a:none.example " * 2 + "-all",
        "v=spf1 mx:ten.example -all",
    ],
)
def test_what_rfc_7208_just_allows_is_no_error(text: str) -> None:
    zone = "here.example. A 198.51.100.1\n" + "".join(f"ten.example. MX {i} here.example.\n" for i in range(10))
    assert check(zone + record(text)).code is SpfCode.FAIL


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ("a:here.example " * 9 + "a:client.example redirect=last.example", SpfCode.PASS),
        ("a:here.example " * 9 + "redirect=last.example", SpfCode.FAIL),
        ("a:here.example " * 10 + "redirect=last.example", SpfCode.PERMERROR),
        ("a:here.example " * 9 + "include:last.example redirect=last.example", SpfCode.PERMERROR),
        ("redirect=last.example " + "a:here.example " * 8 + "include:last.example a:client.example", SpfCode.PASS),
    ],
)
def test_a_redirect_counts_when_it_is_followed(terms: str, code: SpfCode) -> None:
    """RFC 7208 4.6.4 counts terms that are evaluated; pyspf counts this one when it reads the record."""
    zone = "here.example. A 198.51.100.1\nclient.example. A 192.0.2.1\n" + 'last.example. TXT "v=spf1 -all"\n'
    halves = terms[:120], terms[120:]
    assert check(zone + record("v=spf1 " + '" "'.join(halves))).code is code


def test_without_a_record_there_is_no_result() -> None:
    result = check('example.org. TXT "v=spf10 -all"\nexample.org. TXT "something else"\n')
    assert (result.code, result.reason, result.domain) == (SpfCode.NONE, Reason.SPF_NO_RECORD, SENDER.domain)


@pytest.mark.parametrize(
    "helo", ["", "[192.0.2.1]", "localhost", "a..example", "a b.example", "x" * 64 + ".example", "\0"]
)
def test_what_is_no_domain_name_is_not_asked_for(helo: str) -> None:
    resolver = Scripted()
    for result in (check_helo(CLIENT, helo, resolver), check_mail_from(CLIENT, None, helo, resolver)):
        assert (result.code, result.reason) == (SpfCode.NONE, Reason.SPF_NO_DOMAIN)
    assert resolver.questions == []


def test_an_address_literal_has_no_record() -> None:
    result = check("", Mailbox("alice", AddressLiteral("192.0.2.1")))
    assert (result.code, result.reason, result.domain) == (SpfCode.NONE, Reason.SPF_NO_DOMAIN, None)


def test_helo_is_judged_by_its_own_record() -> None:
    zone = record("v=spf1 -all") + 'mail.example.net. TXT "v=spf1 exists:%{l}.%{o}.%{h} -all"\n'
    zone += "postmaster.mail.example.net.mail.example.net. A 127.0.0.2\n"
    result = check_helo(CLIENT, "Mail.Example.NET", zone_resolver(zone))
    assert (result.code, result.identity, result.domain) == (
        SpfCode.PASS,
        SpfIdentity.HELO,
        Domain("mail.example.net"),
    )


def test_the_null_path_stands_for_postmaster_at_helo() -> None:
    result = check('mail.example.net. TXT "v=spf1 ip4:192.0.2.1 -all"\n', None)
    assert (result.code, result.identity, result.domain) == (
        SpfCode.PASS,
        SpfIdentity.MAILFROM,
        Domain("mail.example.net"),
    )


@pytest.mark.parametrize(
    ("ip", "code"),
    [
        ("::ffff:192.0.2.1", SpfCode.PASS),
        ("::ffff:198.51.100.1", SpfCode.FAIL),
        ("2001:db8::5", SpfCode.PASS),
        ("2001:db9::5", SpfCode.FAIL),
        ("fe80::1%eth0", SpfCode.PASS),
    ],
)
def test_addresses_of_both_families(ip: str, code: SpfCode) -> None:
    assert check(record("v=spf1 ip4:192.0.2.1 ip6:2001:db8::/32 ip6:fe80::1 -all"), ip=ip).code is code


def test_a_local_part_cannot_choose_who_is_asked() -> None:
    """pyspf takes the first at-sign for the one that counts."""
    zone = record("v=spf1 -all") + 'evil.example. TXT "v=spf1 +all"\n'
    zone += 'evil.example\\@example.org. TXT "v=spf1 +all"\n'
    result = check(zone, Mailbox("x@evil.example", Domain("example.org")))
    assert (result.code, result.domain) == (SpfCode.FAIL, Domain("example.org"))


@pytest.mark.parametrize(
    "local", ["", "a b", "a..b", "a\\046b", '"', "%{d}", "x" * 300, "\x00", "ü", "\ud800", "a\r\nb"]
)
@pytest.mark.parametrize("macro", ["%{l}", "%{L}", "%{s}", "%{S}", "%{l1r-}", "%{h}"])
def test_odd_octets_of_a_local_part_match_nothing_and_break_nothing(local: str, macro: str) -> None:
    zone = record(f"v=spf1 exists:{macro}.x.example.org ?all")
    assert check(zone, Mailbox(local, Domain("example.org")), helo=local).code in (SpfCode.NEUTRAL, SpfCode.PERMERROR)


def test_terms_with_a_local_part_beyond_ascii_do_not_match() -> None:
    """RFC 8616 4; an include that found no record would be an error."""
    zone = record("v=spf1 include:%{l}.example.org exists:%{l}.example.org a:%{l}.example.org -all")
    assert check(zone, Mailbox("jürgen", Domain("example.org"))).code is SpfCode.FAIL


def test_over_long_names_lose_labels_from_the_left() -> None:
    """RFC 7208 7.3: as many as it takes; pyspf drops one."""
    resolver = Scripted(TXT=(b"v=spf1 exists:" + b"%{l}." * 8 + b"example.org -all",))
    check_mail_from(CLIENT, Mailbox("l" * 60, Domain("example.org")), HELO, resolver)
    assert resolver.questions[-1] == (".".join(["l" * 60] * 3 + ["example.org"]), "A")


def test_a_failure_of_dns_is_temperror_with_its_reason() -> None:
    for reason in (Reason.DNS_SERVFAIL, Reason.DNS_TIMEOUT, Reason.DNS_DEADLINE):
        failing = Answer("example.org", "TXT", Outcome.TEMPFAIL, reason=reason)
        result = check_mail_from(CLIENT, SENDER, HELO, ZoneResolver({("example.org", "TXT"): failing}))
        assert (result.code, result.reason) == (SpfCode.TEMPERROR, reason)
        assert result.detail == "no answer for example.org TXT"


@pytest.mark.parametrize("term", ["a:slow.example", "mx:slow.example", "include:slow.example", "exists:slow.example"])
def test_a_failure_within_the_record_is_temperror(term: str) -> None:
    result = check(record(f"v=spf1 {term} -all") + "; fails: slow.example\n")
    assert (result.code, result.reason) == (SpfCode.TEMPERROR, Reason.DNS_SERVFAIL)


def test_a_match_before_the_failure_decides() -> None:
    assert check(record("v=spf1 ip4:192.0.2.1 a:slow.example -all") + "; fails: slow.example\n").code is SpfCode.PASS


PTR = "1.2.0.192.in-addr.arpa"


def test_a_client_without_usable_names_does_not_match_ptr() -> None:
    """RFC 7208 5.5: whoever owns the address cannot make a result an error by not answering."""
    assert check(record("v=spf1 ptr -all") + f"; fails: {PTR}\n").code is SpfCode.FAIL
    zone = record("v=spf1 ptr -all") + f"{PTR}. PTR slow.example.org.\n{PTR}. PTR good.example.org.\n"
    assert check(zone + "; fails: slow.example.org\ngood.example.org. A 192.0.2.1\n").code is SpfCode.PASS


def test_time_that_runs_out_at_a_ptr_is_temperror() -> None:
    """Else our own slowness would be the sender's fail."""
    answers = {
        ("example.org", "TXT"): Answer("example.org", "TXT", Outcome.FOUND, (b"v=spf1 ptr -all",)),
        (PTR, "PTR"): Answer(PTR, "PTR", Outcome.TEMPFAIL, reason=Reason.DNS_DEADLINE),
    }
    result = check_mail_from(CLIENT, SENDER, HELO, ZoneResolver(answers))
    assert (result.code, result.reason) == (SpfCode.TEMPERROR, Reason.DNS_DEADLINE)


EXPLAINED = record("v=spf1 ip4:192.0.2.1 ?ip4:192.0.2.2 -all exp=why.%{d}")


def test_the_explanation_is_the_domains_own_words() -> None:
    zone = EXPLAINED + 'why.example.org. TXT "%{i} may not send for %{o};%_see http://example.org/%{S}"\n'
    result = check(zone, Mailbox("a+b", Domain("example.org")), "198.51.100.9")
    assert result.explanation == "198.51.100.9 may not send for example.org; see http://example.org/a?2Bb?40example.org"


def test_an_explanation_is_made_printable() -> None:
    """Remote text must not end a reply line, nor be libmilter's format."""
    zone = EXPLAINED + r'why.example.org. TXT "bad\013\010Injected: x 100%%\000\027"' + "\n"
    assert check(zone, ip="198.51.100.9").explanation == "bad Injected: x 100???"


def test_a_long_explanation_keeps_its_beginning() -> None:
    zone = EXPLAINED + 'why.example.org. TXT "' + '" "'.join(["Start. " + "w" * 200, " %{i}" + "w" * 200]) + '"\n'
    explanation = check(zone, ip="198.51.100.9").explanation
    assert explanation == "Start. " + "w" * 200 + " 198.51.100.9" + "w" * 200


@pytest.mark.parametrize(
    "why",
    [
        "",
        "; fails: why.example.org\n",
        'why.example.org. TXT "one"\nwhy.example.org. TXT "two"\n',
        'why.example.org. TXT "%{bad"\n',
        'why.example.org. TXT "\\200"\n',
        'why.example.org. TXT ""\n',
    ],
)
def test_what_is_wrong_with_an_explanation_leaves_it_out(why: str) -> None:
    result = check(EXPLAINED + why, ip="198.51.100.9")
    assert (result.code, result.explanation) == (SpfCode.FAIL, None)


def test_a_redirect_brings_its_own_explanation() -> None:
    zone = record("v=spf1 redirect=other.example exp=no.%{d}") + 'other.example. TXT "v=spf1 -all exp=yes.%{d}"\n'
    zone += 'yes.other.example. TXT "%{d}"\nno.example.org. TXT "no"\n'
    assert check(zone).explanation == "other.example"


@pytest.mark.parametrize(("ip", "asked"), [("192.0.2.1", False), ("192.0.2.2", False), ("198.51.100.9", True)])
def test_an_explanation_is_asked_for_only_where_it_is_needed(ip: str, asked: bool) -> None:
    resolver = RecordingResolver(zone_resolver(EXPLAINED))
    check_mail_from(ip_address(ip), SENDER, HELO, resolver)
    assert ("why.example.org" in [answer.name for answer in resolver.answers]) is asked


def test_a_hostile_zone_costs_no_more_than_rfc_7208_allows() -> None:
    addresses = tuple(f"198.51.{i // 250}.{i % 250}" for i in range(4_000))
    for terms in (
        "mx:a.example " * 20,
        "ptr:a.example " * 20,
        "include:b.%{d} " * 20,
        "exists:%{p}.a.example " * 20,
    ):
        resolver = Scripted(
            TXT=(b"v=spf1 " + terms.encode() + b"?all",),
            A=addresses,
            MX=tuple(f"{i} m{i}.example" for i in range(10)),
            PTR=tuple(f"p{i}.example" for i in range(1_000)),
        )
        result = check_mail_from(CLIENT, SENDER, HELO, resolver)
        assert result.reason in (Reason.SPF_LIMIT, None)
        # 10 terms, each with 10 names or client names behind it, and the record.
        assert len(resolver.questions) <= 1 + 10 + 10 * 10


def test_threads_do_not_meet() -> None:
    zones = [zone_resolver(record(f"v=spf1 ip4:192.0.2.{i} a mx ptr -all")) for i in range(4)]
    # Where the first term does not match, three void lookups follow, which is one too many.
    expected = [SpfCode.PERMERROR, SpfCode.PASS, SpfCode.PERMERROR, SpfCode.PERMERROR]
    found: list[list[SpfCode]] = [[] for _ in zones]

    def work(number: int, zone: Resolver) -> None:
        found[number] = [check_mail_from(CLIENT, SENDER, HELO, zone).code for _ in range(50)]

    threads = [threading.Thread(target=work, args=each) for each in enumerate(zones)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[code] * 50 for code in expected]


TERMS = st.lists(
    st.one_of(
        st.sampled_from(
            ["a", "mx", "ptr", "-all", "exp=e.example", "redirect=r.example", "include:i.example", "a/8//64"]
        ),
        st.text(st.sampled_from("aipx46:./=%{}slodhvr019-+~? \\\n,"), max_size=30),
        st.text(max_size=10),
    ),
    max_size=12,
).map(lambda terms: "v=spf1 " + " ".join(terms))


@given(TERMS, st.text(max_size=20), st.text(max_size=20), st.ip_addresses())
def test_no_record_and_no_name_makes_a_check_fail_by_itself(text: str, local: str, helo: str, ip: object) -> None:
    resolver = Scripted(TXT=(text.encode("utf-8", "surrogatepass"),), A=("192.0.2.1",), MX=("0 .",), PTR=("p.example",))
    result = check_mail_from(ip, Mailbox(local, Domain("example.org")), helo, resolver)  # type: ignore[arg-type]
    assert (result.reason is None) == (result.code in ("pass", "fail", "softfail", "neutral"))
    for said in (result.mechanism, result.explanation, result.detail):
        assert said is None or (said.isascii() and said.isprintable())
