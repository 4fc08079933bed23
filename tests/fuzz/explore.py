"""Let atheris think of inputs for the targets: `make fuzz`, or `explore.py [--seconds N] [--inputs N] [TARGET ...]`.

Each target runs in a process of its own, which atheris leads by the lines of filterd that an input reaches. It begins
with `corpus`; what it learns stays in `.fuzz`. An input that breaks a promise is kept there, and named at the end: it
belongs into `corpus` with the change that mends it.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE.parents[1] / ".fuzz"


def lead(target: str, options: list[str]) -> None:
    """Be the process of one target; does not return."""
    import atheris

    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["filterd"]):
        from fuzz.fuzz_targets import TARGETS
    atheris.Setup([target, *options], TARGETS[target])
    atheris.Fuzz()


def explore(target: str, seconds: int, inputs: int) -> tuple[str, int, str]:
    """The target's name, how many inputs it was given, and what was wrong: an empty text where nothing was."""
    kept = FOUND / target
    kept.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, str(Path(__file__)), "--lead", target, str(kept), str(HERE / "corpus" / target),
        f"-max_total_time={seconds}", f"-runs={inputs}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=2048",
        "-print_final_stats=1", f"-artifact_prefix={FOUND / target}-",
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    said = ended.stdout + ended.stderr
    counted = re.search(r"number_of_executed_units:\s*(\d+)", said)
    fault = "" if ended.returncode == 0 else "\n".join(said.splitlines()[-40:])
    return target, int(counted[1]) if counted else 0, fault


def main() -> int:
    if sys.argv[1:2] == ["--lead"]:
        lead(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target, at most (60)")
    parser.add_argument("--inputs", type=int, default=-1, help="for each target, at most (no bound)")
    parser.add_argument("targets", nargs="*")
    asked = parser.parse_args()
    targets = asked.targets or sorted(each.name for each in (HERE / "corpus").iterdir())
    faulty = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for target, inputs, fault in pool.map(lambda each: explore(each, asked.seconds, asked.inputs), targets):
            print(f"{target:24} {inputs:>10,} inputs  {'FAULT' if fault else 'sound'}", flush=True)
            if fault:
                faulty += 1
                print(fault, flush=True)
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
