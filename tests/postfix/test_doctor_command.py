"""`filterd doctor --postfix` as a postmaster reads it."""

import json
import re

import pytest
from servers.joint import Joint

pytestmark = pytest.mark.system

DOCTOR = ("doctor", "--postfix")


def test_the_page_fits_a_terminal_and_the_status_is_that_of_the_worst(joint: Joint) -> None:
    joint.add("inet_interfaces = all\nmynetworks = 10.0.0.0/8\nmilter_default_action = accept")
    status, text = joint.run(*DOCTOR)
    assert status == 3
    blocks = text.strip().split("\n\n")
    assert [block.split()[0] for block in blocks[:-1]] == ["error", "error", "warning", "warning", "note"]
    assert blocks[-1] == f"{joint.postfix.config}: 2 errors, 2 warnings, 1 note"
    # Lines to copy, and paths, are whole.
    wide = [line for line in text.splitlines() if len(line) > 79 and not line.startswith(" " * 11)]
    assert [line for line in wide if len(line.split()) > 1] == []
    assert f"\n           filterd attach postfix -c {joint.postfix.config}\n" in text


def test_json_has_the_same(joint: Joint) -> None:
    joint.add(
        "smtpd_forbid_bare_newline = normalize\ninet_interfaces = all\nmynetworks = 127.0.0.0/8 [::1]/128 10.0.0.0/8"
    )
    joint.listens("", "milters/policy.sock")
    status, text = joint.run(*DOCTOR, "--json")
    found = json.loads(text)
    assert (status, [(each["severity"], each["name"]) for each in found]) == (
        3,
        [("error", "silent"), ("note", "policy-service-unasked")],
    )
    assert set(found[0]) == {"severity", "name", "what", "happens", "where", "mend"}


@pytest.mark.parametrize("wrong", ["policy", "postfix", "nothing asked"])
def test_what_cannot_be_looked_at_is_misuse(joint: Joint, wrong: str) -> None:
    if wrong == "policy":
        joint.policy.write_text("version: 1\nrules: 1\n")
    elif wrong == "postfix":
        joint.main.unlink()
    words = DOCTOR[:1] if wrong == "nothing asked" else DOCTOR
    status, text = joint.run(*words)
    assert (status, bool(re.search("Error: ", text))) == (2, True), text
