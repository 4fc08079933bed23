"""The name server that is far away: what it passes on, and how it counts round trips."""

import socket

import pytest
from far_away import FarAway, far_away
from servers import nsd

# example.org, TXT, in class IN.
QUESTION = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07Example\x03org\x00\x00\x10\x00\x01"


@pytest.mark.parametrize(
    ("asked", "rounds"),
    [
        ([], 0),
        ([0.0], 1),
        ([0.0, 0.01, 0.049], 1),
        ([0.0, 0.05], 2),
        ([0.0, 0.04, 0.06, 0.09], 2),
        ([0.0, 0.06, 0.12], 3),
    ],
)
def test_questions_that_waited_for_no_answer_are_one_round_trip(asked: list[float], rounds: int) -> None:
    assert rounds == FarAway("192.0.2.53", [(moment, "example.org") for moment in asked]).rounds(0.05)


def test_answers_come_back_and_questions_are_noted() -> None:
    with (
        nsd.running({"example.org": "@ TXT v=spf1\n"}) as (upstream, port),
        far_away(upstream, 0.001, "127.53.1.55", port) as server,
        socket.socket(type=socket.SOCK_DGRAM) as client,
    ):
        client.settimeout(60)
        client.sendto(QUESTION, (server.address, port))

        assert b"v=spf1" in client.recv(512)
        assert [name for _, name in server.questions] == ["example.org"]
