"""What filterd costs, beside the filters that it replaces.

    make bench                             # or with COUNT=200 ROUNDS=3, for less time; FULL=1 for all there is
    .venv/bin/python benchmarks [WHAT...] [--count N] [--rounds N] [--full] [--only WORD]

WHAT is one of the words below; without one, it is all of them but lasting, which takes ten minutes. Needs root, as
OpenDKIM asks name servers at port 53 only; all runs on loopback, in a temporary folder.

"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import compared
import lasting
import policy_service
import rest
import scaling
import through_postfix
from measure import WrongError
from stage import Asked, stage

PARTS = {
    "mails": compared.main,
    "policy": policy_service.main,
    "postfix": through_postfix.main,
    "rest": rest.main,
    "workers": scaling.workers,
    "growth": scaling.growth,
    "lasting": lasting.main,
}


def main() -> None:
    about = "\n".join(f"{name:10}{(part.__doc__ or '').splitlines()[0]}" for name, part in PARTS.items())
    parser = argparse.ArgumentParser(
        description=(__doc__ or "") + about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="what to measure")
    parser.add_argument("--count", type=int, default=1000, help="5 kB mails a round; of larger ones fewer (1000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often all are measured (5)")
    parser.add_argument(
        "--full", action="store_true", help="mails of all sizes, forms and ways of DNS, which takes long"
    )
    parser.add_argument("--only", default="", help="of the mails, only what has this in its title: sign, '1 MB'")
    parser.add_argument("--loadgen", type=Path, default=Path("build/loadgen"), help="(build/loadgen)")
    asked = parser.parse_args()
    if unknown := set(asked.what) - set(PARTS):
        parser.error(f"there is no {unknown.pop()}; there are {', '.join(PARTS)}")
    if os.geteuid() != 0:
        parser.error("only root can measure: OpenDKIM asks name servers at port 53 only")
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} processors, load before: {load}; {asked.count} mails a round, {asked.rounds} rounds\n")
    with stage(Asked(asked.count, asked.rounds, asked.full, asked.only, asked.loadgen)) as place:
        for name in asked.what or [each for each in PARTS if each != "lasting"]:
            PARTS[name](place)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}\n{error.stderr or ''}")
    except WrongError as error:
        sys.exit(str(error))
