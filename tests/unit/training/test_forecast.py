"""The forecast against curves whose law is known, and against scipy."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy.optimize import curve_fit

from trencadis.errors import ConfigError
from trencadis.training.forecast import COVERED, Point, fit_law, forecast

SEEN = np.geomspace(1_000, 16_000, 10)


def curve(
    floor: float, time: float, alpha: float, variety: float = 0.0, beta: float = 1.0
) -> Callable[[float, float], float]:
    return lambda seen, pictures: floor + time * (seen / 1e3) ** -alpha + variety * (pictures / 1e3) ** -beta


def measured(
    law: Callable[[float, float], float], pictures: tuple[float, ...], noise: float = 0.0, seed: int = 0
) -> list[Point]:
    generator = np.random.default_rng(seed)
    pairs = [(float(n), float(min(n, d))) for d, n in product(pictures, SEEN)]
    return [Point(n, d, law(n, d) + noise * float(generator.standard_normal())) for n, d in pairs]


def test_the_truth_is_in_the_interval_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits, widths = [], []
    for seed in range(80):
        low, high = (2.0, 1.0, 0.15, 0.3, 0.2), (4.0, 4.0, 0.7, 2.0, 0.7)
        law = curve(*map(float, generator.uniform(low, high)))
        points = measured(law, (1_000.0, 4_000.0, 16_000.0), noise=0.012, seed=seed)
        interval, truth = fit_law(points).at(150_000.0, 30_000.0), law(150_000.0, 30_000.0)
        hits.append(interval.low <= truth <= interval.high)
        widths.append(interval.high - interval.low)
    # 80 intervals of 90 %: fewer than 66 hits have a probability of 1 %.
    assert sum(hits) >= 66
    assert COVERED == 0.9
    assert np.median(widths) < 0.3, "an interval that holds everything forecasts nothing"


def test_a_well_known_law_is_that_of_least_squares_and_so_is_its_interval() -> None:
    law = curve(2.5, 2.0, 0.5)
    seen = np.geomspace(1_000, 100_000, 60)
    noise = 0.01 * np.random.default_rng(2).standard_normal(60)
    points = [Point(float(n), 500.0, law(float(n), 500.0) + float(e)) for n, e in zip(seen, noise, strict=True)]
    values = [point.value for point in points]

    def model(n: np.ndarray, floor: float, time: float, alpha: float) -> np.ndarray:
        return np.asarray(floor + time * (n / 1e3) ** -alpha)

    found, covariance = curve_fit(model, seen, values, p0=(2.0, 1.0, 0.3))
    floor, time, alpha = found
    passed = 1_000.0**-alpha
    slope = np.array([1.0, passed, -time * passed * math.log(1_000.0)])
    half = 1.645 * math.sqrt(slope @ covariance @ slope)
    interval = fit_law(points).at(1e6, 500.0)
    assert interval.middle == pytest.approx(floor + time * passed, abs=0.3 * half)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.35)


def test_few_points_of_a_short_probe_give_a_wide_interval() -> None:
    points = measured(curve(2.5, 2.0, 0.4), (1e6,), noise=0.01)
    short, whole = fit_law(points[:4]).at(1e6, 1e6), fit_law(points).at(1e6, 1e6)
    assert short.high - short.low > 2 * (whole.high - whole.low)
    assert str(whole) == f"{whole.middle:.2f} ± {max(whole.high - whole.middle, whole.middle - whole.low):.2f}"


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (curve(2.0, 3.0, 0.5, 0.01, 0.5), "short of time, not of pictures"),
        (curve(2.0, 0.3, 1.2, 3.0, 0.4), "short of pictures, not of time"),
    ],
)
def test_what_there_is_too_little_of_is_said(law: Callable[[float, float], float], words: str) -> None:
    points = measured(law, (1_000.0, 4_000.0, 16_000.0), noise=0.003)
    assert words in fit_law(points).verdict(60_000.0, 10_000.0)


def test_pictures_that_have_not_passed_yet_are_not_missed() -> None:
    points = measured(curve(2.0, 0.3, 1.2, 3.0, 0.4), (1_000.0, 4_000.0, 16_000.0), noise=0.003)
    law = fit_law(points)
    assert "short of time" in law.verdict(5_000.0, 50_000.0)
    assert law.at(5_000.0, 50_000.0) == law.at(5_000.0, 5_000.0)


def test_one_number_of_pictures_says_nothing_of_others() -> None:
    points = measured(curve(2.5, 2.0, 0.4, 1.0, 0.4), (4_000.0,), noise=0.01)
    assert "cannot be told" in fit_law(points).verdict(60_000.0, 4_000.0)


def test_a_forecast_has_the_hours_of_a_run_and_a_chart() -> None:
    points = measured(curve(2.5, 2.0, 0.4), (1e6,), noise=0.01)
    found = forecast(points, seen=64_000.0, pictures=1e6, hours=4.0)
    assert [hours for hours, _ in found.by_hours] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert found.by_hours[1][1] == fit_law(points).at(32_000.0, 1e6)
    middles = [interval.middle for _, interval in found.by_hours]
    assert middles == sorted(middles, reverse=True)
    assert found.points[0] == pytest.approx((4.0 / 64, points[0].value))
    assert "4 h: " in found.lines()[0]
    chart = found.chart()
    assert chart.startswith("<svg")
    assert chart.count("<circle") == len(points)
    assert "held-out bits of an image token" in chart


def test_what_is_no_curve_is_refused() -> None:
    points = measured(curve(2.5, 2.0, 0.4), (1e6,))
    with pytest.raises(ConfigError, match="3 validations to fit a forecast to; expected at least 4"):
        fit_law(points[:3])
    rising = [point._replace(value=6.0 - point.value) for point in points]
    with pytest.raises(ConfigError, match="do not fall as a power"):
        fit_law(rising)


def test_the_same_points_give_the_same_forecast() -> None:
    points = measured(curve(2.5, 2.0, 0.4), (1e6,), noise=0.01)
    assert fit_law(points).at(1e6, 1e6) == fit_law(points).at(1e6, 1e6)
