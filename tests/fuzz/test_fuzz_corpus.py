"""What a fuzzer found once is never found again, and every target takes the honest thing that it is named after."""

from pathlib import Path

import pytest
from fuzz.fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_known_input_breaks_no_promise(file: Path) -> None:
    TARGETS[file.parent.name](file.read_bytes())


def test_every_target_has_inputs_to_start_from() -> None:
    assert set(TARGETS) == {file.parent.name for file in INPUTS}
