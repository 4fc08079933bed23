"""A worker's runtime keeps decisions where the policy says so, and tells them to the log all the same."""

from contextlib import closing
from ipaddress import ip_address
from pathlib import Path

from filterd.backend.decision_reader import DecisionReader, Wanted
from filterd.daemon.worker import live
from filterd.engine.replay import StoredMail, judge
from filterd.mail.transaction import Client, ReversePath
from filterd.policy.load import load
from filterd.policy.transcript import Transcript

MAIL = StoredMail(b"From: a@b.example\r\n\r\n", Client(ip_address("127.0.0.1")), "h", ReversePath("", None), ())


def run(policy: str) -> list[Transcript]:
    told: list[Transcript] = []
    with live(load(policy, "p.yaml"), told.append) as runtime:
        judge(runtime, MAIL)
    return told


def test_what_is_told_is_kept(tmp_path: Path) -> None:
    (told,) = run(f"version: 1\ndecisions: {{ file: {tmp_path}/d.db }}\n")

    with closing(DecisionReader(tmp_path / "d.db")) as reader:
        (found,) = reader.search(Wanted(), 10)
        assert reader.transcript(found) == told


def test_a_store_that_cannot_be_written_costs_no_mail(tmp_path: Path) -> None:
    assert len(run(f"version: 1\ndecisions: {{ file: {tmp_path}/missing/d.db }}\n")) == 1
