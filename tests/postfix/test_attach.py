"""`filterd attach postfix` and `detach`, with a real Postfix's files and programs: what changes, and what comes back."""

from pathlib import Path

import pytest
from servers.joint import config

from filterd.postfix.attached import texts
from filterd.postfix.config import Config
from filterd.postfix.plan import Ours, attach, detach
from filterd.postfix.postconf import changed, read

pytestmark = pytest.mark.system

MILTER, POLICY = "unix:filterd/milter.sock", "unix:filterd/policy.sock"
SUBMISSION = "submission inet n - y - - smtpd\n  -o smtpd_sasl_auth_enable=yes\n"
GIVEN_BACK = "127.0.0.1:10025 inet n - y - - smtpd\n  -o content_filter=\n"


def changes(before: Config, place: Ours) -> dict[str, str | None]:
    return {f"{each.service} {each.name}".strip(): each.after for each in attach(before, place)}


def test_a_plain_postfix_is_attached(folder: Path) -> None:
    assert changes(config(folder), Ours(MILTER, POLICY)) == {
        "filterd_milter": MILTER,
        "smtpd_milters": "$filterd_milter",
        "non_smtpd_milters": "$filterd_milter",
        "smtpd_recipient_restrictions": f"check_policy_service {POLICY}",
    }


RESTRICTIONS = {
    "permit_mynetworks, reject_unauth_destination": "permit_mynetworks, reject_unauth_destination, check_policy_service P",
    "permit_mynetworks reject_unauth_destination permit": (
        "permit_mynetworks, reject_unauth_destination, check_policy_service P, permit"
    ),
    "reject_unauth_destination, check_policy_service inet:127.0.0.1:10023": (
        "reject_unauth_destination, check_policy_service inet:127.0.0.1:10023, check_policy_service P"
    ),
    "permit_sasl_authenticated, reject": "check_policy_service P, permit_sasl_authenticated, reject",
    "reject_unauth_destination, permit_mynetworks, reject": (
        "reject_unauth_destination, check_policy_service P, permit_mynetworks, reject"
    ),
    "reject": "check_policy_service P, reject",
    "permit": "check_policy_service P, permit",
    "check_sender_access hash:/a, permit": "check_sender_access hash:/a, check_policy_service P, permit",
}


@pytest.mark.parametrize("written", RESTRICTIONS)
def test_the_policy_service_is_asked_about_what_is_not_refused_anyway(folder: Path, written: str) -> None:
    before = config(folder, f"smtpd_recipient_restrictions = {written}")
    expected = RESTRICTIONS[written].replace(" P", f" {POLICY}")
    assert changes(before, Ours(None, POLICY)) == {"smtpd_recipient_restrictions": expected}


LISTS = {
    "milters that are there stay, behind filterd": (
        "smtpd_milters = inet:localhost:8891, { unix:a, default_action=accept }\n"
        "non_smtpd_milters = inet:localhost:8891",
        "",
        {
            "filterd_milter": MILTER,
            "smtpd_milters": "$filterd_milter, inet:localhost:8891, { unix:a, default_action=accept }",
            "non_smtpd_milters": "$filterd_milter, inet:localhost:8891",
        },
    ),
    "a list that follows another does so still": (
        "smtpd_milters = unix:a\nnon_smtpd_milters = $smtpd_milters",
        "",
        {"filterd_milter": MILTER, "smtpd_milters": "$filterd_milter, unix:a"},
    ),
    "who attached by hand is left alone": (f"smtpd_milters = {MILTER}\nnon_smtpd_milters = $smtpd_milters", "", {}),
    "filterd has patience where others let mail pass": (
        "milter_default_action = accept\nmilter_command_timeout = 5s\nmilter_content_timeout = 1m",
        "",
        {
            "filterd_milter": f"{{ {MILTER}, default_action=tempfail, command_timeout=30s, content_timeout=300s }}",
            "smtpd_milters": "$filterd_milter",
            "non_smtpd_milters": "$filterd_milter",
        },
    ),
    "macros that somebody left out come back": (
        f"smtpd_milters = {MILTER}\nnon_smtpd_milters = {MILTER}\nmilter_mail_macros = i {{mail_addr}}\n"
        "milter_end_of_data_macros =",
        "",
        {"milter_mail_macros": "i {mail_addr} {auth_authen}", "milter_end_of_data_macros": "i"},
    ),
    "a service's own list has it, too, without white space": (
        f"smtpd_milters = {MILTER}\nnon_smtpd_milters = {MILTER}",
        SUBMISSION + "  -o { smtpd_milters = inet:localhost:8891 { unix:a, { default_action = accept } } }",
        {
            "filterd_milter": MILTER,
            "submission/inet smtpd_milters": "$filterd_milter,inet:localhost:8891,{unix:a,{default_action=accept}}",
        },
    ),
    "where no milter is to be asked, filterd is not": (
        f"smtpd_milters = {MILTER}\nnon_smtpd_milters = {MILTER}",
        SUBMISSION + "  -o smtpd_milters=",
        {},
    ),
    "what a content filter gives back is not judged again": (
        "smtpd_milters = unix:a, unix:b\ncontent_filter = scan:[127.0.0.1]:10024",
        GIVEN_BACK,
        {
            "filterd_milter": MILTER,
            "smtpd_milters": "$filterd_milter, unix:a, unix:b",
            "non_smtpd_milters": "$filterd_milter",
            "127.0.0.1:10025/inet smtpd_milters": "unix:a,unix:b",
        },
    ),
    "what is given back past all milters stays so": (
        f"smtpd_milters = {MILTER}\nnon_smtpd_milters = {MILTER}\ncontent_filter = scan:[127.0.0.1]:10024",
        GIVEN_BACK + "  -o receive_override_options=no_milters,no_header_body_checks",
        {},
    ),
    "what somebody wrote by hand is repaired": (
        "smtpd_milters = unix:amavis, { unix:/QUEUE/filterd/milter.sock, default_action=accept }\n"
        "non_smtpd_milters = $smtpd_milters",
        "",
        {"filterd_milter": MILTER, "smtpd_milters": "$filterd_milter, unix:amavis"},
    ),
    "more patience than is needed stays": (
        f"filterd_milter = {{ {MILTER}, content_timeout=600s }}\nsmtpd_milters = $filterd_milter\n"
        "non_smtpd_milters = $smtpd_milters",
        "",
        {},
    ),
    "filterd has moved": (
        "filterd_milter = unix:old\nsmtpd_milters = $filterd_milter\nnon_smtpd_milters = $filterd_milter",
        "",
        {"filterd_milter": MILTER},
    ),
    "the lists name what nobody has set": (
        "smtpd_milters = $filterd_milter\nnon_smtpd_milters = $filterd_milter",
        "",
        {"filterd_milter": MILTER},
    ),
}


@pytest.mark.parametrize("rule", LISTS)
def test_what_changes(folder: Path, rule: str) -> None:
    main, master, expected = LISTS[rule]
    main = main.replace("/QUEUE", config(folder).value("queue_directory"))
    assert changes(config(folder, main, master), Ours(MILTER, None)) == expected


def test_the_restrictions_of_a_service_may_be_written_in_main_cf(folder: Path) -> None:
    before = config(
        folder,
        "mua_recipient_restrictions = permit_sasl_authenticated, reject",
        f"{SUBMISSION}  -o smtpd_recipient_restrictions=$mua_recipient_restrictions",
    )
    assert changes(before, Ours(None, POLICY)) == {
        "smtpd_recipient_restrictions": f"check_policy_service {POLICY}",
        "mua_recipient_restrictions": f"check_policy_service {POLICY}, permit_sasl_authenticated, reject",
    }


@pytest.mark.parametrize("rule", LISTS)
def test_a_second_time_changes_nothing_and_taking_out_leaves_no_trace(folder: Path, rule: str) -> None:
    main, master, _ = LISTS[rule]
    main = main.replace("/QUEUE", config(folder).value("queue_directory"))
    place = Ours(MILTER, POLICY)
    before = config(folder, main, master)
    with changed(folder, attach(before, place)) as once:
        attached = read(once)
        assert attach(attached, place) == []
        assert POLICY in attached.value("smtpd_recipient_restrictions")
        with changed(once, detach(attached, place)) as twice:
            assert detach(read(twice), place) == []
            left = "".join(texts(twice).values())
    assert [word for word in (MILTER, POLICY, "filterd_milter") if word in left] == []


def test_what_is_read_is_what_postfix_reads(folder: Path) -> None:
    found = config(folder, "two = unix:a\n  unix:b", f"{SUBMISSION}  -o smtpd_milters=$two,unix:c")
    (service,) = (each for each in found.services if each.name == "submission")
    assert (service.id, service.chroot, service.command) == ("submission/inet", True, "smtpd")
    assert service.overrides["smtpd_milters"] == "$two,unix:c"
    assert found.value("smtpd_milters", service) == "unix:a unix:b,unix:c"
