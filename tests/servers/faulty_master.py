"""`filterd run` whose engine cannot read who wrote a mail."""

import sys

import filterd.engine.judgement as judgement
from filterd.cli.main import main


def _broken(*_: object) -> None:
    raise RuntimeError("boom")


if __name__ == "__main__":
    judgement.author_of = _broken  # type: ignore[assignment]
    main(["run", "-p", sys.argv[1]])
