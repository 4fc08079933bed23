"""A master like `filterd run`, whose workers cannot start under a policy that calls itself broken.example."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from filterd.backend.policy_files import load_policy
from filterd.daemon import log
from filterd.daemon.inherited import inherited
from filterd.daemon.listen import listen_all
from filterd.daemon.master import Master
from filterd.daemon.start import listen_for_control
from filterd.daemon.upgrade import predecessor
from filterd.daemon.worker import Record
from filterd.engine.runtime import Runtime
from filterd.lookup import ZoneResolver
from filterd.policy.rules import Policy


@contextmanager
def _start(policy: Policy, record: Record) -> Iterator[Runtime]:
    if policy.settings.identity.authserv_id == "broken.example":
        raise ValueError("told to")
    yield Runtime(policy, "mx.example.org", lambda _: ZoneResolver({}), record)


def main(file: str) -> int:
    log.configure(log.LogFormat.LOGFMT)
    policy = load_policy(Path(file))
    given = inherited(os.environ)
    listeners = listen_all(policy.server, given)
    control = listen_for_control(policy.server, given)
    load, before = partial(load_policy, Path(file)), predecessor(os.environ)
    return Master(policy, load, _start, listeners, 2, limit=1.0, control=control, predecessor=before).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
