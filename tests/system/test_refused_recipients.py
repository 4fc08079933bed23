"""What a real Postfix refuses is counted by limits in failures, and is no recipient of anything."""

from pathlib import Path

import pytest
from example_org import HONEST, MAIL, SENDER, policy
from servers.filterd import Filterd
from servers.postfix import running

pytestmark = pytest.mark.system

LIMITS = """dmarc: { on_multiple_authors: skip }
limits:
- { name: guesses, key: client.ip, rate: 2 failures per 1d, reply: "450 4.7.1 too many unknown recipients" }
- { name: narrow, key: client.ip, rate: 2 recipients per 1d, reply: "450 4.7.1 too many recipients" }
"""


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_unknown_recipients_are_failures_and_no_recipients(
    dns: str, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Filterd, "engine", engine)
    known = {"virtual_mailbox_maps": "inline:{a@example.net=mail/, b@example.net=mail/, c@example.net=mail/}"}
    state = f'state: "sqlite:{tmp_path}/state.db"'
    with (
        running(milters=["unix:milters/milter"], settings=known) as postfix,
        Filterd(postfix.milters, policy(dns, LIMITS), server=state) as filterd,
        postfix.connect(HONEST) as smtp,
    ):
        unknown = [f"nobody{number}@example.net" for number in range(2)]
        refused = smtp.sendmail(SENDER, [unknown[0], "a@example.net", unknown[0], "b@example.net"], MAIL)
        assert {name: code for name, (code, _) in refused.items()} == {unknown[0]: 550}

        smtp.mail(SENDER)
        assert smtp.rcpt("c@example.net") == (450, b"4.7.1 too many recipients")
        assert smtp.rcpt(unknown[1])[0] == 550
        assert smtp.rcpt("c@example.net") == (450, b"4.7.1 too many unknown recipients")
        smtp.rset()
        postfix.settle()
        assert [len(postfix.maildir(each)) for each in ("a@example.net", "b@example.net")] == [1, 1]
        assert filterd.events("fault") == []
