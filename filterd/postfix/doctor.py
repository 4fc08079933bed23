"""All that is wrong with a Postfix and filterd beside each other, the worst first."""

from filterd.policy.schema import Networks, Server
from filterd.postfix.config import Config
from filterd.postfix.doctor_asked import asked_about_mail
from filterd.postfix.doctor_signatures import signatures
from filterd.postfix.doctor_sockets import sockets
from filterd.postfix.doctor_trust import trust
from filterd.postfix.finding import Finding, Severity
from filterd.postfix.plan import ours


def findings(config: Config, server: Server, networks: Networks) -> list[Finding]:
    """What is found, by the sections of the policy that filterd runs. Looks at sockets and Postfix's tables, too."""
    place = ours(server, config)
    found = [
        *asked_about_mail(config, place, server),
        *sockets(config, place, server),
        *trust(config, place, networks),
        *signatures(config, place),
    ]
    return sorted(found, key=lambda each: list(Severity).index(each.severity), reverse=True)
