"""Figures as a table: medians, quartiles, ratios round by round."""

import pytest
from measure import Sample
from report import ratios, spread


def samples(*costs: float) -> list[Sample]:
    return [Sample(cost, 100.0, (1.0, 2.0, 3.0), 10.0) for cost in costs]


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "0.50"), ([1.0, 2.0, 3.0, 4.0, 5.0], "3.00 (2.00 to 4.00)"), ([2.0, 2.0], "2.00 (2.00 to 2.00)")],
)
def test_a_spread_is_the_median_and_the_quartiles(values: list[float], text: str) -> None:
    assert text == spread(values)


def test_a_ratio_is_taken_of_all_others_together_in_the_same_round() -> None:
    assert ratios(samples(100, 200, 300), samples(150, 300, 450), samples(50, 100, 150)) == "0.50 (0.50 to 0.50)"
