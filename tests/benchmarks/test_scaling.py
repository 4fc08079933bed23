"""What a mail costs by its size, and the like: the exponent, and what one more costs at most."""

import pytest
from scaling import fitted

AMOUNTS = (10, 20, 50, 210)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_what_comes_on_top_of_the_first(exponent: float) -> None:
    costs = [1000 + 3 * (amount - 10) ** exponent for amount in AMOUNTS]

    assert pytest.approx(exponent) == fitted(AMOUNTS, costs)[1]


def test_the_dearest_step_between_neighbours_counts() -> None:
    assert pytest.approx(2.0) == fitted(AMOUNTS, [1000, 1020, 1030, 1030])[0]


def test_what_costs_nothing_more_has_no_exponent() -> None:
    assert fitted(AMOUNTS, [1000, 990, 1000, 980])[1] == 0.0
