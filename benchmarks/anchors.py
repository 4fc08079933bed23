"""What filterd is measured beside: filters as Debian has them, unpacked, each told to do the job and nothing else.

Who reads /etc/resolv.conf is shown another one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filters import Filter, Job, Setting, running
from mails import DOMAIN, SELECTOR

_TOOLS = Path(__file__).parents[1] / ".tools"


@contextmanager
def opendkim(job: Job, setting: Setting) -> Iterator[Filter]:
    """OpenDKIM: verifies or signs DKIM."""
    socket, config = setting.folder / "opendkim.sock", setting.folder / "opendkim.conf"
    lines = ["Syslog no", "UserID root", "AuthservID mx.example.net", f"Nameservers {setting.nameserver}"]
    if job is Job.SIGN:
        lines += ["Mode s", f"Domain {DOMAIN}", f"Selector {SELECTOR}", f"KeyFile {setting.key}"]
        lines += ["Canonicalization relaxed/relaxed", "InternalHosts 192.0.2.0/24", "RequireSafeKeys no"]
    else:
        lines += ["Mode v", "MaximumSignaturesToVerify 10"]
    config.write_text("\n".join(lines) + "\n")
    command = [str(_TOOLS / "opendkim/usr/sbin/opendkim"), "-f", "-x", str(config), "-p", f"local:{socket}"]
    wants = "dkim=pass" if job is Job.VERIFY else "d=example.org"
    with running("OpenDKIM", command, socket, setting, wants) as started:
        yield started


@contextmanager
def opendmarc(setting: Setting) -> Iterator[Filter]:
    """OpenDMARC: SPF by itself, DMARC."""
    socket, config = setting.folder / "opendmarc.sock", setting.folder / "opendmarc.conf"
    config.write_text(
        f"Syslog false\nSocket local:{socket}\nAuthservID mx.example.net\nSPFSelfValidate true\nSPFIgnoreResults true\n"
        f"UserID root\nPidFile {setting.folder}/opendmarc.pid\n"
    )
    command = _resolving(setting, [str(_TOOLS / "opendmarc/usr/sbin/opendmarc"), "-f", "-c", str(config)])
    with running("OpenDMARC", command, socket, setting, "dmarc=pass") as started:
        yield started


@contextmanager
def dkimpy_milter(job: Job, setting: Setting) -> Iterator[Filter]:
    """dkimpy-milter: verifies or signs DKIM, in Python."""
    socket, config = setting.folder / "dkimpy.sock", setting.folder / "dkimpy.conf"
    lines = ["Syslog no", "UserID root", "AuthservID mx.example.net", f"Socket local:{socket}"]
    lines += [f"PidFile {setting.folder}/dkimpy.pid"]
    if job is Job.SIGN:
        lines += ["Mode s", f"Domain {DOMAIN}", f"Selector {SELECTOR}", f"KeyFile {setting.key}"]
        lines += ["Canonicalization relaxed/relaxed", "InternalHosts 192.0.2.0/24"]
    else:
        lines += ["Mode v"]
    config.write_text("\n".join(lines) + "\n")
    packages = ("dkimpy-milter", "python3-dkim", "python3-authres", "python3-milter", "python3-nacl",
                "python3-cffi-backend", "python3-dnspython")  # fmt: skip
    environment = dict(os.environ)
    environment["PYTHONPATH"] = ":".join(str(_TOOLS / each / "usr/lib/python3/dist-packages") for each in packages)
    program = f"import sys; sys.argv[1:] = ['{config}']; from dkimpy_milter import main; main()"
    command = _resolving(setting, ["/usr/bin/python3", "-c", program])
    wants = "dkim=pass" if job is Job.VERIFY else "d=example.org"
    with running("dkimpy-milter", command, socket, setting, wants, environment) as started:
        yield started


@contextmanager
def rspamd(job: Job, setting: Setting) -> Iterator[Filter]:
    """rspamd, of which SPF, DKIM, DMARC and Authentication-Results are asked, or signatures; two workers."""
    root, socket, config = _TOOLS / "rspamd", setting.folder / "rspamd.sock", setting.folder / "rspamd.conf"
    share, folder = root / "usr/share/rspamd", setting.folder / "rspamd"
    folder.mkdir(exist_ok=True)
    if job is Job.SIGN:
        plugins = ["dkim_signing"]
        does = f"""\
dkim_signing {{
    sign_networks = ["192.0.2.0/24"]; sign_authenticated = true; use_domain = "header"; allow_hdrfrom_mismatch = true;
    allow_username_mismatch = true; domain {{ {DOMAIN} {{ selector = "{SELECTOR}"; path = "{setting.key}"; }} }}
}}
"""
    else:
        plugins = ["spf", "dmarc", "milter_headers"]
        does = 'spf {}\ndkim {}\ndmarc {}\nmilter_headers { use = ["authentication-results"]; }\n'
    paths = " ".join(f'path = "{share}/plugins/{each}.lua";' for each in plugins)
    config.write_text(f"""\
options {{
    pidfile = "{folder}/pid"; filters = "dkim"; tempdir = "{folder}"; local_addrs = [];
    cache_file = "{folder}/cache"; hs_cache_dir = "{folder}"; url_tld = "{share}/effective_tld_names.dat";
    control_socket = "{folder}/control"; stats_file = "{folder}/stats"; history_rows = 200; rrd = "{folder}/rrd";
    dns {{ nameserver = ["{setting.nameserver}"]; timeout = 5s; }}
}}
logging {{ type = "file"; filename = "{folder}/log"; level = "error"; }}
worker "rspamd_proxy" {{
    bind_socket = "{socket}"; milter = yes; count = 2; timeout = 120s;
    upstream "local" {{ default = yes; self_scan = yes; }}
}}
actions {{ reject = 150; }}
modules {{ {paths} }}
{does}""")
    variables = {"CONFDIR": root / "etc/rspamd", "LOCAL_CONFDIR": folder, "RUNDIR": folder, "DBDIR": folder,
                 "LOGDIR": folder, "SHAREDIR": share, "PLUGINSDIR": share / "plugins", "RULESDIR": share / "rules",
                 "LUALIBDIR": share / "lualib", "WWWDIR": share / "www"}  # fmt: skip
    command = [str(root / "usr/bin/rspamd"), "-f", "-i", "-c", str(config)]
    command += [f"--var={name}={value}" for name, value in variables.items()]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(root / "usr/lib/rspamd")}
    wants = "dmarc=pass" if job is Job.VERIFY else f"d={DOMAIN}"
    with running("rspamd", command, socket, setting, wants, environment) as started:
        yield started


def _resolving(setting: Setting, command: list[str]) -> list[str]:
    """The command, with an /etc/resolv.conf of its own."""
    (setting.folder / "resolv.conf").write_text(f"nameserver {setting.nameserver}\n")
    bind = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ["unshare", "-m", "sh", "-c", bind, str(setting.folder / "resolv.conf"), *command]
