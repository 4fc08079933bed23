"""`filterd …` as somebody types it, within the test's own process."""

from pathlib import Path

from click.testing import CliRunner, Result

from filterd.cli.main import main

SHIPPED_POLICY = Path(__file__).parents[1] / "policies" / "default.yaml"


def filterd(*arguments: str | Path, stdin: bytes = b"") -> Result:
    """What the command prints, and its exit status. A traceback fails the test."""
    result = CliRunner().invoke(main, [str(each) for each in arguments], input=stdin, prog_name="filterd")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
