"""`filterd run` whose workers keep 32 MiB of every mail."""

import sys

from filterd.cli.main import main
from filterd.daemon import log

_kept: list[bytes] = []


if __name__ == "__main__":
    judged = log.judged

    def _kept_and_judged(transcript: object) -> None:
        _kept.append(b"x" * 2**25)
        judged(transcript)  # type: ignore[arg-type]

    log.judged = _kept_and_judged  # type: ignore[assignment]
    main(["run", "-p", sys.argv[1]])
