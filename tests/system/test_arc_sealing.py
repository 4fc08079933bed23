"""A chain of ARC sets goes through real mail servers: verified as it comes in, and it holds as it is delivered."""

import smtplib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from arc_mail import DOMAINS, RSA, chain_of, check, dkimpy_says, key_name, records
from dkim_mail import SELECTOR
from servers.filterd import Filterd
from servers.postfix import Postfix

from filterd.demo.nameserver import Nameserver
from filterd.mta.config import MtaConfig
from filterd.mta.server import running

pytestmark = pytest.mark.system

US, HOST = "home.example", "mx.home.example"
KEY = RSA.record.decode()
ZONE = "@ 300 IN SOA a. b. 1 2 3 4 5\n" + "".join(
    f'{key_name(domain)}. 300 IN TXT "{KEY[:250]}" "{KEY[250:]}"\n' for domain in (*DOMAINS, US)
)
FORGED = f"Authentication-Results: {HOST}; arc=pass\r\n".encode()


@contextmanager
def sealing(sockets: Path, keys: Path) -> Iterator[Filterd]:
    """filterd, which seals as home.example; whoever comes is a stranger."""
    key = keys / "rsa.pem"
    key.write_bytes(RSA.pem)
    key.chmod(0o600)
    with Nameserver(ZONE) as nameserver:
        host, port = nameserver.address
        policy = f"""
identity: {{ authserv_id: {HOST} }}
networks: {{ trusted: [] }}
dns: {{ servers: ["{host}:{port}"] }}
arc: {{ seal: true }}
sign: [{{ domains: [{US}], keys: [{{ selector: {SELECTOR}, file: {key} }}] }}]
"""
        with Filterd(sockets, policy) as filterd:
            yield filterd
            assert filterd.events("fault") == []


def holds(delivered: list[bytes], decision: dict[str, Any]) -> None:
    assert (decision["arc"], decision["sealed"]) == ("pass:list.example", "home.example/sel")
    for mail in delivered:
        mail = mail.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        found = check(mail, records(RSA.record, domains=(*DOMAINS, US)), int(time.time()))
        assert (found.code, list(map(str, found.sealers)), found.oldest_pass) == ("pass", [US, "list.example"], 0)
        assert dkimpy_says(mail) == "pass"
        assert FORGED not in mail
        assert mail.index(b"\r\nARC-Seal: i=2") < mail.index(b"\r\nAuthentication-Results: ")
    assert len(delivered) == 1


def test_through_the_bundled_mta(tmp_path: Path) -> None:
    with (
        sealing(tmp_path, tmp_path) as filterd,
        running(MtaConfig(HOST, tmp_path / "mail", (filterd.address,))) as mta,
        smtplib.SMTP("127.0.0.1", mta.port, timeout=60) as smtp,
    ):
        smtp.sendmail("x@list.example", ["anna@home.example"], FORGED + chain_of(1))
        decision = filterd.decision()

    holds([file.read_bytes() for file in (tmp_path / "mail").glob("*/new/*")], decision)


def test_through_postfix(postfix: Postfix, recipient: str, tmp_path: Path) -> None:
    with sealing(postfix.milters, tmp_path) as filterd, postfix.connect() as smtp:
        smtp.sendmail("x@list.example", [recipient], FORGED + chain_of(1))
        decision = filterd.decision()

    holds(postfix.maildir(recipient), decision)
