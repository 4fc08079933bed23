"""mta.yaml: what it says becomes the MTA's settings, and each fault is told at its place."""

import os
from ipaddress import ip_network
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers.certificate import certificate

from filterd.cli.mta import command
from filterd.cli.mta_file import DEFAULT_LISTENERS, load_mta
from filterd.mail.endpoint import Endpoint
from filterd.mta.config import DefaultAction, Listener, Milter, MtaConfig, PolicyService, Service
from filterd.mta.queue import Queue
from filterd.mta.queued_mail import new_mail
from filterd.mta.routes import Relay, Route, Tls, Via
from filterd.mta.users import HashedUsers, hash_password
from filterd.policy.errors import PolicyErrors
from filterd.wire.access_policy import Action, Answer

_FULL = """
hostname: MX.example.org
listen:
  - 127.0.0.1:2525
  - { at: "[::1]:2587", service: submission }
maildir: box
queue: waiting
tls: { certificate: chain.pem, key: chain.pem }
users: users
domains: [example.org]
networks: [192.0.2.0/24]
milters:
  - unix:/run/one
  - { socket: "inet:8891@127.0.0.1", default_action: accept, version: 2, command_timeout: 5s }
milter_default_action: quarantine
policy_services:
  - { socket: "unix:/run/policy", timeout: 10s, default_action: DUNNO }
limits: { message_size: 1MiB, recipients: 10, errors: 5, timeout: 1m, auth_failures: 3 }
retry: { first: 1m, most: 1h, expire: 2d }
relay:
  routes:
    - { domains: [.Example.net], via: lmtp, at: "unix:/run/lmtp" }
    - { domains: ["*"], via: smtp, at: "inet:587@smart.example", login: { user: me, password_file: password } }
  mx_port: 2525
  ca_file: chain.pem
  mta_sts: sts
  dns: { servers: [192.0.2.53], timeout: 2s }
xclient: true
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificate(tmp_path)
    (tmp_path / "users").write_text(f"alice:{hash_password('secret')}\n", encoding="utf-8")
    (tmp_path / "password").write_text("secret\n", encoding="utf-8")
    return tmp_path


def load(folder: Path, text: str) -> MtaConfig:
    file = folder / "mta.yaml"
    file.write_text(text, encoding="utf-8")
    return load_mta(file, "here.example")


def test_every_key(folder: Path) -> None:
    found = load(folder, _FULL)

    assert isinstance(found.users, HashedUsers)
    assert found.users("alice", "secret")
    assert found.tls is not None
    assert found == MtaConfig(
        hostname="mx.example.org",
        maildir=folder / "box",
        relay=Relay(
            (
                Route((".example.net",), Via.LMTP, Endpoint.parse("unix:/run/lmtp")),
                Route(("*",), Via.SMTP, Endpoint.parse("inet:587@smart.example"), Tls.VERIFY, ("me", "secret")),
            ),
            2525,
            folder / "chain.pem",
            folder / "sts",
            (("192.0.2.53", 53),),
            2.0,
        ),
        retry_first=60.0,
        retry_most=3600.0,
        expire=172800.0,
        queue=folder / "waiting",
        milters=(
            Milter("unix:/run/one"),
            Milter("inet:8891@127.0.0.1", DefaultAction.ACCEPT, version=2, command_timeout=5.0),
        ),
        users=found.users,
        listeners=(Listener("127.0.0.1", 2525), Listener("::1", 2587, Service.SUBMISSION)),
        tls=found.tls,
        auth_without_tls=False,
        domains=frozenset({"example.org"}),
        networks=(ip_network("192.0.2.0/24"),),
        default_action=DefaultAction.QUARANTINE,
        xclient=True,
        message_size_limit=1 << 20,
        recipient_limit=10,
        error_limit=5,
        auth_failure_limit=3,
        smtp_timeout=60.0,
        policy_services=(PolicyService("unix:/run/policy", 10.0, Answer(Action.DUNNO)),),
    )


def test_an_empty_file_has_the_careful_defaults(folder: Path) -> None:
    expected = MtaConfig(
        "here.example", folder / "mail", listeners=DEFAULT_LISTENERS, auth_without_tls=False, xclient=False
    )

    assert expected == load(folder, "# nothing\n") == load(folder, "{}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("listn: []", "1:1: listn: there is no key listn here; did you mean listen?"),
        ("listen: [here]", "1:10: listen[0]: 'here' is not HOST:PORT, as in 127.0.0.1:2525 or [::1]:2525"),
        ("listen: ['::1:25']", "1:10: listen[0]: '::1:25' is not HOST:PORT, as in 127.0.0.1:2525 or [::1]:2525"),
        (
            "listen: [{ at: '127.0.0.1:25', service: submision }]",
            "1:32: listen[0].service: 'submision' is not possible here; did you mean submission? allowed: smtp, submission, submissions",
        ),
        (
            "users: users\nlisten: [{ at: '127.0.0.1:25', service: submission }]",
            "2:10: listen[0]: submission goes with TLS; write tls: { certificate: FILE, key: FILE }",
        ),
        ("tls: { certificate: a.pem, key: a.pem }", "1:1: tls: FOLDER/a.pem cannot be read: No such file or directory"),
        ("users: nobody", "1:1: users: FOLDER/nobody cannot be read: No such file or directory"),
        ("milters: [nonsense]", "1:11: milters[0]: a socket reads unix:/PATH, inet:PORT@ADDRESS or inet6:PORT@ADDRESS"),
        (
            "milters: [{ socket: /a, version: 5 }]",
            "1:25: milters[0].version: the versions of the milter protocol are 2, 3, 4 and 6",
        ),
        ("limits: { recipients: 0 }", "1:11: limits.recipients: here stands 1 at least"),
        ("limits: { timeout: 5 }", "1:11: limits.timeout: a duration has a unit"),
        ("xclient: yes", "1:1: xclient: write true, not yes"),
        ("networks: [10.0.0.0/8]", "1:1: networks: these may send to others; say which domains are not others (domains:)"),
        ("- a", "1:1: here stand keys with values (key: value)"),
        ("a: [", "2:1: this is no YAML"),
    ],
)  # fmt: skip
def test_a_fault_is_told_at_its_place(folder: Path, text: str, fault: str) -> None:
    with pytest.raises(PolicyErrors) as caught:
        load(folder, text)

    (found, *_) = str(caught.value).splitlines()
    assert found.startswith(f"{folder}/mta.yaml:{fault.replace('FOLDER', str(folder))}")


def test_all_faults_are_told_at_once(folder: Path) -> None:
    (folder / "users").write_text("alice:secret\n", encoding="utf-8")
    (folder / "key.pem").write_text("no key\n", encoding="utf-8")
    with pytest.raises(PolicyErrors) as caught:
        load(folder, "tls: { certificate: chain.pem, key: key.pem }\nusers: users\nnetworks: ['::1']")

    assert len(caught.value.errors) == 3
    assert f"{folder}/users:1:1: behind the name stands no scrypt hash; `filterd mta passwd` makes one" in str(
        caught.value
    )


def test_the_command_says_it_and_ends_with_2(folder: Path) -> None:
    (folder / "mta.yaml").write_text("hostname: a b\n", encoding="utf-8")
    result = CliRunner().invoke(command, ["-c", str(folder / "mta.yaml")])

    assert result.exit_code == 2
    assert f"{folder}/mta.yaml:1:1: hostname: " in result.output


def test_passwd_makes_changes_and_deletes_users(tmp_path: Path) -> None:
    file = tmp_path / "users"

    def passwd(*arguments: str, password: str = "") -> int:
        return CliRunner().invoke(command, ["passwd", str(file), *arguments], input=password).exit_code

    assert [passwd("alice", password="one\n"), passwd("bob@example.org", password="two\n")] == [0, 0]
    assert file.stat().st_mode & 0o777 == 0o600
    assert passwd("alice", password="three\n") == 0
    users = load(tmp_path, "users: users").users
    assert callable(users)
    assert [users("alice", "three"), users("bob@example.org", "two"), users("alice", "one")] == [True, True, False]
    assert passwd("alice", "--delete") == 0
    assert file.read_text(encoding="utf-8").startswith("bob@example.org:$scrypt$")
    assert [passwd("alice", "--delete"), passwd("a:b", password="x\n"), passwd("alice")] == [2, 2, 2]
    file.write_text("alice:plain\n", encoding="utf-8")
    assert passwd("bob", password="x\n") == 2
    assert file.read_text(encoding="utf-8") == "alice:plain\n"


def test_the_queue_is_found_by_the_settings(tmp_path: Path) -> None:
    """Whoever looks at the queue need not be able to read the key."""
    queue = Queue(tmp_path / "waiting")
    descriptor = queue.open()
    try:
        queue.accept(new_mail("4X", b"a@example.org", [b"b@example.net"], hold=b"why"), b"Subject: x\r\n\r\n")
    finally:
        os.close(descriptor)
        queue.close()
    file = tmp_path / "mta.yaml"
    file.write_text("queue: waiting\ntls: { certificate: no.pem, key: no.pem }\n", encoding="utf-8")
    found = CliRunner().invoke(command, ["queue", "-c", str(file), "list"])

    assert found.exit_code == 0
    assert found.output.startswith("4X ")
    assert CliRunner().invoke(command, ["queue", "list"]).exit_code == 2
    file.write_text("nonsense: 1\n", encoding="utf-8")
    assert f"{file}:1:1: nonsense: " in CliRunner().invoke(command, ["queue", "-c", str(file), "list"]).output
