"""Keys that receivers cannot verify with: the log says so once an hour, whatever becomes of the mail."""

from pathlib import Path

import pytest
from dkim_mail import ed25519_pair, rsa_pair
from servers.filterd import Filterd
from servers.milter_mta import MilterMta

from filterd.demo.nameserver import Nameserver

EVENT = "this signing key is not published as it is"
OTHER = ed25519_pair().record.decode()


@pytest.mark.parametrize("on_unpublished", ["sign", "defer", "skip"])
def test_it_is_told_once_and_not_for_each_mail(tmp_path: Path, on_unpublished: str) -> None:
    for name, pair in (("r", rsa_pair(2048)), ("e", ed25519_pair())):
        (tmp_path / f"{name}.pem").write_bytes(pair.pem)
        (tmp_path / f"{name}.pem").chmod(0o600)
    zone = f'@ 300 IN SOA a. b. 1 2 3 4 5\nr._domainkey.example.org. 300 IN TXT "{OTHER}"\n'
    with Nameserver(zone) as nameserver:
        host, port = nameserver.address
        policy = f"""
dns: {{ servers: ["{host}:{port}"] }}
sign:
  - domains: [example.org, "*.example.org"]
    on_unpublished: {on_unpublished}
    keys: [{{ selector: r, file: {tmp_path}/r.pem }}, {{ selector: e, file: {tmp_path}/e.pem }}]
"""
        with Filterd(tmp_path, policy) as filterd:
            for author in (b"a@example.org", b"b@example.org", b"a@one.example.org", b"a@two.example.org"):
                with MilterMta(filterd.address) as mta:
                    mta.open(ip="127.0.0.1")
                    mta.send(header=[(b"From", author)])
            filterd.wait_for("judged", 4)
            told = [(each["about"], each["reason"]) for each in filterd.events(EVENT)]

    assert sorted(told) == [("example.org/e", "dkim.key.missing"), ("example.org/r", "dkim.key.other")]
