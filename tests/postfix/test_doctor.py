"""`filterd doctor --postfix` finds each mistake in a real Postfix's configuration, and its lines mend it."""

import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.joint import config
from servers.postfix import OWNER, Postfix

from filterd.policy.schema import Networks, Server
from filterd.postfix.attached import install, texts
from filterd.postfix.config import Config
from filterd.postfix.doctor import findings
from filterd.postfix.finding import Finding
from filterd.postfix.plan import attach, ours
from filterd.postfix.postconf import changed

pytestmark = pytest.mark.system

SOUND = """mynetworks = 127.0.0.0/8 [::1]/128
smtpd_milters = unix:milters/milter.sock
non_smtpd_milters = $smtpd_milters
smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service unix:milters/policy.sock
smtpd_authorized_xclient_hosts =
inet_interfaces = all
smtpd_forbid_bare_newline = normalize
"""
LOGIN = "submission inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes\n  -o milter_macro_daemon_name=ORIGINATING\n"
BACK = "127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n"
SENDMAIL = "scan unix - n n - - pipe user=nobody argv=/bin/scan -e /usr/sbin/sendmail -i -f ${sender} ${recipient}\n"
ATTACH = "filterd attach postfix"


@pytest.fixture
def sound(plain: Postfix, folder: Path) -> Iterator[Config]:
    """A Postfix that is as it should be, with somebody at both sockets; its smtp service is no loopback's."""
    sockets = [plain.milters / name for name in ("milter.sock", "policy.sock")]
    with socket.socket(socket.AF_UNIX) as milter, socket.socket(socket.AF_UNIX) as policy:
        for path, bound in zip(sockets, (milter, policy), strict=True):
            bound.bind(str(path))
            bound.listen()
            path.chmod(0o666)
        master = (folder / "master.cf").read_text()
        (folder / "master.cf").write_text(master.replace(f"127.0.0.1:{plain.port} ", "smtp      "))
        yield config(folder, SOUND)
        for path in sockets:
            path.unlink(missing_ok=True)


def server(of: Config, milter: str = "milters/milter.sock", policy: str = "milters/policy.sock", **more: str) -> Server:
    queue = of.value("queue_directory")
    return Server.model_validate(
        {"milter": [f"unix:{queue}/{milter}"], "policy_service": [f"unix:{queue}/{policy}"] if policy else [], **more}
    )


def found(of: Config, of_server: Server | None = None, networks: Networks | None = None) -> list[Finding]:
    return findings(of, of_server or server(of), networks or Networks())


def names(of: list[Finding]) -> list[tuple[str, str]]:
    return [(str(each.severity), each.name) for each in of]


def mend(folder: Path, lines: tuple[str, ...], of: Config) -> None:
    """What a postmaster does who copies the lines into a shell."""
    for line in lines:
        words = shlex.split(line)
        if line.startswith(ATTACH):
            with changed(folder, attach(of, ours(server(of), of))) as copy:
                install(folder, texts(copy))
        else:
            subprocess.run(words, check=True, capture_output=True)


def test_what_is_as_it_should_be_is_not_complained_of(sound: Config) -> None:
    assert found(sound) == []


def test_what_attach_makes_is_as_it_should_be(sound: Config, folder: Path) -> None:
    plain = config(folder, "smtpd_milters =\nnon_smtpd_milters =\nsmtpd_recipient_restrictions =", LOGIN)
    assert ("error", "not-attached") in names(found(plain))
    mend(folder, (ATTACH,), plain)
    assert found(config(folder)) == []


# What is written besides, what is found, and with which lines it ends.
MISTAKES: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "nobody asks": ("smtpd_milters =", "", [("error", "not-attached")]),
    "submission has a list of its own": (
        "",
        f"{LOGIN}  -o smtpd_milters=inet:h:1",
        [("error", "service-not-attached")],
    ),
    "submission asks nobody": ("", f"{LOGIN}  -o smtpd_milters=", [("error", "service-not-attached")]),
    "milters are switched off": (
        "receive_override_options = no_milters, no_address_mappings",
        "",
        [("error", "no-milters")],
    ),
    "milters are switched off for a service": (
        "",
        f"{LOGIN}  -o receive_override_options=no_milters",
        [("error", "no-milters")],
    ),
    "the content goes to a proxy": (
        "",
        f"{LOGIN}  -o smtpd_proxy_filter=127.0.0.1:10024",
        [("error", "proxy-filter")],
    ),
    "programs' mail is not shown": ("non_smtpd_milters =", "", [("warning", "non-smtpd")]),
    "mail passes unjudged": ("milter_default_action = accept", "", [("error", "default-accept")] * 2),
    "mail is lost": ("milter_default_action = reject", "", [("error", "default-reject")] * 2),
    "mail goes on hold": ("milter_default_action = quarantine", "", [("warning", "default-quarantine")] * 2),
    "an entry says so": (
        "smtpd_milters = { unix:milters/milter.sock, default_action=accept }",
        "",
        [("error", "default-accept")] * 2,
    ),
    "a service says so": ("", f"{LOGIN}  -o milter_default_action=accept", [("error", "default-accept")]),
    "what attach wrote was changed": (
        "smtpd_milters = $filterd_milter\nfilterd_milter = { unix:milters/milter.sock, default_action=accept }",
        "",
        [("error", "default-accept")] * 2,
    ),
    "Postfix has no patience": ("milter_command_timeout = 3s", "", [("warning", "timeout")] * 2),
    "who logged in is not told": ("milter_mail_macros = i", "", [("error", "macros")]),
    "no queue ids": ("milter_end_of_data_macros =", "", [("warning", "macros")]),
    "macros of a service": ("", f"{LOGIN}  -o milter_mail_macros=i", [("error", "macros")]),
    "an old protocol": ("milter_protocol = 2", "", [("warning", "protocol")] * 2),
    "behind one that rewrites": (
        "smtpd_milters = unix:amavis/milter, unix:milters/milter.sock\nnon_smtpd_milters = unix:milters/milter.sock",
        "",
        [("warning", "after-rewriter")],
    ),
    "asked twice": (
        "smtpd_milters = $filterd_milter, unix:milters/milter.sock\nfilterd_milter = unix:milters/milter.sock\n"
        "non_smtpd_milters = $filterd_milter",
        "",
        [("warning", "twice")],
    ),
    "looked for in the chroot": (
        "smtpd_milters = unix:QUEUE/milters/milter.sock",
        "",
        [("error", "chroot-path")] * 2,
    ),
    "the policy service is never asked": (
        "smtpd_recipient_restrictions = permit, check_policy_service unix:milters/policy.sock",
        "",
        [("error", "policy-service-late")],
    ),
    "it is asked too early": (
        "smtpd_recipient_restrictions = check_policy_service unix:milters/policy.sock, reject_unauth_destination",
        "",
        [("warning", "policy-service-early")],
    ),
    "it is not asked": ("smtpd_recipient_restrictions =", "", [("note", "policy-service-unasked")]),
    "without it all passes": (
        "smtpd_policy_service_default_action = DUNNO",
        "",
        [("warning", "policy-service-default")],
    ),
    "without it all is lost": (
        "smtpd_policy_service_default_action = 550 5.7.1 no",
        "",
        [("error", "policy-service-default")],
    ),
    "judged again": ("content_filter = scan:[127.0.0.1]:10024", BACK, [("error", "given-back")]),
    "judged again behind sendmail(1)": ("content_filter = scan:dummy", SENDMAIL, [("error", "piped-back")]),
    "a proxy that not all speak with": (
        "postscreen_upstream_proxy_protocol = haproxy",
        LOGIN + "  -o smtpd_upstream_proxy_protocol=haproxy",
        [("warning", "proxy-protocol")],
    ),
    "a port for this machine alone": ("", "127.0.0.1:2525 inet n - y - - smtpd", [("warning", "local-proxy")]),
    "anybody may claim to be anybody": (
        "smtpd_authorized_xclient_hosts = 10.0.0.0/8, 127.0.0.1",
        "",
        [("error", "xclient")],
    ),
    "the world may relay": ("mynetworks = 0.0.0.0/0", "", [("error", "whole-world")]),
    "nobody can log in": (
        "",
        "submission inet n - y - - smtpd\n  -o milter_macro_daemon_name=ORIGINATING",
        [("error", "no-login")],
    ),
    "nothing marks submission": (
        "",
        "587 inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes",
        [("note", "unmarked")],
    ),
    "addresses are completed": ("remote_header_rewrite_domain = x.example", "", [("warning", "remote-rewrite")]),
    "addresses change when mail leaves": ("smtp_generic_maps = static:a", "", [("warning", "generic-maps")]),
    "line ends that are none": ("smtpd_forbid_bare_newline = no", "", [("warning", "smuggling")]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_found_and_its_lines_mend_it(sound: Config, folder: Path, mistake: str) -> None:
    main, master, expected = MISTAKES[mistake]
    wrong = config(folder, main.replace("QUEUE", sound.value("queue_directory")), master)
    complaints = found(wrong)
    assert names(complaints) == expected
    for each in complaints:
        assert each.mend
        mend(folder, each.mend, wrong)
    left = names(found(config(folder)))
    # A filter that rewrites is worth a word wherever it stands.
    assert [each for each in left if each != ("note", "before-rewriter")] == []


TABLE = r"""# a comment
/^Received: from 10\./ IGNORE
/^Subject: (.*)/i  REPLACE Subject: [out] $1
if /^X-/
/^X-Mailer:/ IGNORE
endif
/^List-Id:/ WARN seen
!/^(To|Cc):/ STRIP
%^DKIM-Signature:% IGNORE
/^X-Spam/ PREPEND X: y
"""
ALL = ["line 3: /^Subject: (.*)/ REPLACE", "line 5: /^X-Mailer:/ IGNORE"]
ALL += ["line 8: /^(To|Cc):/ STRIP", "line 9: /^DKIM-Signature:/ IGNORE"]
TABLES = {
    # Incoming, whatever strangers sign may be among it; the two others use the same table.
    "header_checks": [("warning", "header-checks", ALL)],
    "body_checks": [("warning", "header-checks", ALL)],
    "milter_header_checks": [("error", "milter-header-checks", ALL[3:])],
    # X-Mailer is not among the fields that filterd signs.
    "smtp_header_checks": [("error", "smtp-header-checks", [ALL[0], ALL[2]])],
}


@pytest.mark.parametrize("kind", ["regexp", "pcre"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_that_change_what_is_signed(sound: Config, folder: Path, name: str, kind: str) -> None:
    table = folder / "checks"
    table.write_text(TABLE)
    complaints = found(config(folder, f"{name} = {kind}:{table}, hash:/none, regexp:/none"))
    assert [(str(each.severity), each.name, list(each.mend)) for each in complaints] == TABLES[name]
    assert {each.where for each in complaints} == {f"Take out of {table}"}


def test_a_table_of_a_service(sound: Config, folder: Path) -> None:
    table = folder / "checks"
    table.write_text("/^From:/ REPLACE From: <>\n")
    complaints = found(config(folder, "", f"out unix - - y - - smtp\n  -o smtp_header_checks=regexp:{table}"))
    assert names(complaints) == [("error", "smtp-header-checks")]


NOTES = {
    "OpenDKIM": ("smtpd_milters = unix:milters/milter.sock, inet:localhost:8891", "neighbour"),
    "Postgrey": (
        "smtpd_recipient_restrictions = reject_unauth_destination, check_policy_service inet:127.0.0.1:10023, "
        "check_policy_service unix:milters/policy.sock",
        "neighbour",
    ),
    "a rewriter behind": ("smtpd_milters = unix:milters/milter.sock, unix:/run/spamass.sock", "before-rewriter"),
    "a table of milters": ("smtpd_milter_maps = cidr:/etc/postfix/maps", "milter-maps"),
}


@pytest.mark.parametrize("note", NOTES)
def test_what_may_be_meant_so_is_a_note(sound: Config, folder: Path, note: str) -> None:
    main, name = NOTES[note]
    assert names(found(config(folder, main))) == [("note", name)]


def test_whom_postfix_and_filterd_trust_is_compared(sound: Config, folder: Path) -> None:
    more = config(
        folder, "mynetworks = 127.0.0.0/8 [::1]/128 10.0.0.0/8 [2001:db8::]/32 192.0.2.1 !10.1.0.0/16 hash:/a"
    )
    (complaint,) = found(more)
    assert (complaint.name, complaint.mend) == (
        "not-trusted",
        ('networks: { trusted: ["127.0.0.0/8", "::1", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1"] }',),
    )
    wide = Networks.model_validate({"trusted": ["127.0.0.0/8", "::1", "10.0.0.0/8"], "relays": ["192.0.2.0/24"]})
    assert names(found(sound, None, wide)) == [("note", "not-relayed")]
    world = Networks.model_validate({"trusted": ["::/0"]})
    assert names(found(sound, None, world)) == [("error", "whole-world")]


def test_a_local_smtp_port_may_be_meant_so(sound: Config, folder: Path) -> None:
    assert names(found(config(folder, "inet_interfaces = loopback-only"))) == [("note", "local-proxy")]


def test_an_old_engine_wants_short_fields(sound: Config) -> None:
    assert names(found(sound, server(sound, engine="libmilter"))) == [("warning", "header-size")]


def at_the_socket(sound: Config) -> list[Finding]:
    return found(sound, server(sound, policy=""))


def test_nobody_is_at_the_socket(plain: Postfix, sound: Config) -> None:
    path = plain.milters / "milter.sock"
    path.unlink()
    (nobody,) = at_the_socket(sound)
    assert (nobody.name, nobody.what) == ("silent", f"Nobody answers at {path}")
    path.touch()
    assert [each.name for each in at_the_socket(sound)] == ["no-socket"]
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    path.chmod(0o666)
    assert [each.name for each in at_the_socket(sound)] == ["silent"]


def test_postfix_is_not_let_in(plain: Postfix, sound: Config) -> None:
    path = plain.milters / "milter.sock"
    path.chmod(0o600)
    (kept_out,) = at_the_socket(sound)
    assert (kept_out.name, kept_out.mend) == (
        "permission",
        (f'server: {{ socket: {{ group: {OWNER}, mode: "0660" }} }}',),
    )
    assert f"{path} is srw-------" in kept_out.happens
    path.chmod(0o666)
    mode = plain.milters.stat().st_mode
    plain.milters.chmod(0o700)
    (kept_out,) = at_the_socket(sound)
    plain.milters.chmod(mode)
    assert kept_out.mend == (f"chgrp {OWNER} {plain.milters}", f"chmod g+x {plain.milters}")


def test_the_group_of_postfix_gets_in(plain: Postfix, sound: Config) -> None:
    path = plain.milters / "milter.sock"
    path.chmod(0o660)
    try:
        shutil.chown(path, group=OWNER)
    except PermissionError:
        pytest.skip("only root gives a socket to a group that it is not in")
    assert at_the_socket(sound) == []


def test_out_of_the_chroots_reach(sound: Config) -> None:
    away = Server.model_validate({"milter": ["unix:/run/filterd/milter.sock"]})
    assert next(each for each in found(sound, away) if each.name == "chroot").mend == (
        f'server: {{ milter: ["unix:{sound.value("queue_directory")}/filterd/milter.sock"] }}',
    )
