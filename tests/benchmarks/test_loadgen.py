"""The load generator sends mail as an MTA does, and says so where a filter has not done its work."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dkim_mail import DOMAIN, MAIL, SELECTOR, rsa_pair, signed
from servers import nsd
from servers.filterd_process import FilterdProcess

SOURCE = Path(__file__).parents[2] / "benchmarks" / "loadgen.c"


@pytest.fixture(scope="module")
def loadgen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    binary = tmp_path_factory.mktemp("loadgen") / "loadgen"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", binary, SOURCE], check=True)
    return binary


@pytest.fixture(scope="module")
def filterd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    record = rsa_pair().record.decode()
    strings = " ".join(f'"{record[start : start + 200]}"' for start in range(0, len(record), 200))
    with nsd.running({DOMAIN: f"{SELECTOR}._domainkey TXT {strings}\n"}) as (address, port):
        policy = f'identity: {{ authserv_id: mx.example.net }}\ndns: {{ servers: ["{address}:{port}"] }}\n'
        rules = "rules:\n- { name: tag, when: 'dkim.result != \"pass\"', then: tag }\n"
        with FilterdProcess(tmp_path_factory.mktemp("filterd"), policy + rules) as process:
            yield process.address


def sent(loadgen: Path, address: str, file: Path, *options: str) -> tuple[int, dict[str, str]]:
    done = subprocess.run([loadgen, address, "messages=12", *options, file], capture_output=True, text=True)
    return done.returncode, dict(pair.split("=") for pair in done.stdout.split())


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    file = tmp_path / "mail.eml"
    file.write_bytes(signed(MAIL, rsa_pair()))
    return file


@pytest.mark.parametrize("per_connection", [1, 5])
def test_every_mail_gets_its_verdict(loadgen: Path, filterd: str, mail: Path, per_connection: int) -> None:
    code, said = sent(loadgen, filterd, mail, f"per_connection={per_connection}", "want=dkim=pass")

    assert (code, said["failed"], said["wrong"]) == (0, "0", "0")
    assert sum(int(said.get(letter, 0)) for letter in "ac") == 12


def test_a_mail_without_the_wanted_result_is_wrong(loadgen: Path, filterd: str, mail: Path) -> None:
    code, said = sent(loadgen, filterd, mail, "want=dkim=fail")

    assert (code, said["wrong"]) == (1, "12")


def test_a_filter_that_is_not_there_is_a_failure(loadgen: Path, mail: Path, tmp_path: Path) -> None:
    code, said = sent(loadgen, f"unix:{tmp_path}/none", mail)

    assert (code, said["failed"]) == (1, "12")
