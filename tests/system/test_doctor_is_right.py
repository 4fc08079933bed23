"""What `filterd doctor --postfix` says becomes of mail, does become of it in a real Postfix."""

import smtplib

import pytest
from dkim_mail import dkimpy_signed, rsa_pair
from example_org import HONEST, SENDER, policy, results
from servers.filterd import Filterd
from servers.postfix import configured

pytestmark = pytest.mark.system

MAIL = b"From: Joe <joe@example.org>\r\nTo: bob\r\nSubject: hello\r\n\r\nText.\r\n"
CHANGES = {
    "": "pass",
    "header_checks = regexp:TABLE": "fail",
    "body_checks = regexp:TABLE": "fail",
    "remote_header_rewrite_domain = x.example": "fail",
}


@pytest.mark.parametrize("setting", CHANGES)
def test_what_postfix_changes_it_changes_before_filterd_judges(setting: str, dns: str) -> None:
    mail = dkimpy_signed(MAIL, rsa_pair(), include_headers=[b"From", b"To", b"Subject"])
    with configured(milters=["unix:milters/milter"]) as postfix, Filterd(postfix.milters, policy(dns)):
        table, main = postfix.milters / "table", postfix.config / "main.cf"
        table.write_text("/^Subject:/ REPLACE Subject: other\n/^Text/ REPLACE Other\n")
        main.write_text(f"{main.read_text()}{setting.replace('TABLE', str(table))}\n")
        postfix.start()
        with postfix.connect(HONEST) as smtp:
            smtp.sendmail(SENDER, ["b@example.net"], mail)
        (delivered,) = postfix.maildir("b@example.net")
    assert results(delivered) == f"spf=pass dkim={CHANGES[setting]} dmarc=pass"


def test_in_the_chroot_an_absolute_path_leads_nowhere(dns: str) -> None:
    with configured(chroot=True) as postfix, Filterd(postfix.milters, policy(dns)) as filterd:
        main = postfix.config / "main.cf"
        main.write_text(f"{main.read_text()}smtpd_milters = unix:{filterd.path}\n")
        postfix.start()
        with postfix.connect(HONEST) as smtp, pytest.raises(smtplib.SMTPSenderRefused) as refused:
            smtp.sendmail(SENDER, ["b@example.net"], MAIL)
    assert refused.value.smtp_code == 451
