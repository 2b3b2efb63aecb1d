"""A forecast: what held-out pairs will measure after more time, and with more pictures, from short trainings.

The law is y = E + A·n^-α + B·d^-β over the pictures that have passed, n, and the different ones among them, d, with
what no training removes, E. Source: Hoffmann et al. 2022, "Training compute-optimal large language models", section
3.3; d stands where they have the model's size, which does not change here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trencadis.errors import ConfigError
from trencadis.report.charts import curve

Array = NDArray[np.float64]

EXPONENTS = (0.05, 1.5)
"""Between which α and β are; each ratio of theirs is as likely as the next."""
CELLS = 24  # of a grid, along each exponent
UNLIKELY = 1e-4  # times the likeliest cell's probability: such cells are left out of the finer grid
COVERED = 0.9  # share of the intervals that the truth is in
NOISE = 0.003  # of a value: two trainings differ by so much, so that no points are trusted to be nearer to the law
LEAST_POINTS = 4
DRAWS = 20_000  # of laws; those that are no laws are dropped
LEAST_LAWS = 200
SURE = 0.9  # probability from which on a forecast says what there is too little of
APART = 1.5  # times as many different pictures, from which on their effect is told from that of time


class Point(NamedTuple):
    """What was measured once."""

    seen: float  # pictures that had passed
    pictures: float  # different ones among them
    value: float  # falls as training goes on


class Interval(NamedTuple):
    """The middle of a forecast, and between which values it is with a probability of `COVERED`."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.2f} ± {max(self.high - self.middle, self.middle - self.low):.2f}"


@dataclass(frozen=True)
class Law:
    """Laws that agree with what was measured, each as likely as the next.

    Args:
        floor: E of each.
        of_time: A and α of each, for numbers of pictures in units of `unit`.
        of_pictures: B and β of each; B is 0 where all trainings had as many different pictures.
        unit: Pictures that passed, and different ones.
    """

    floor: Array
    of_time: tuple[Array, Array]
    of_pictures: tuple[Array, Array]
    unit: tuple[float, float]

    def at(self, seen: float, pictures: float) -> Interval:
        """Return what is measured once so many have passed, where there are so many different ones."""
        low, middle, high = np.quantile(self._values(seen, pictures), [(1 - COVERED) / 2, 0.5, (1 + COVERED) / 2])
        return Interval(float(low), float(middle), float(high))

    def verdict(self, seen: float, pictures: float) -> str:
        """Return whether twice the time or twice the pictures would help more, from there on."""
        if not self.of_pictures[0].any():
            return "whether more pictures would help cannot be told: no probe had fewer of them"
        now = self._values(seen, pictures)
        more_time, more_pictures = now - self._values(2 * seen, pictures), now - self._values(seen, 2 * pictures)
        probability = float(np.mean(more_pictures > more_time))
        gains = f"twice the time gives {np.median(more_time):.2f}, twice the pictures {np.median(more_pictures):.2f}"
        if probability >= SURE:
            return f"you are short of pictures, not of time: {gains}"
        if probability <= 1 - SURE:
            return f"you are short of time, not of pictures: {gains}"
        return f"which of time and pictures is short cannot be told yet: {gains}"

    def _values(self, seen: float, pictures: float) -> Array:
        """Return the value of each law; pictures that have not passed yet are not among the different ones."""
        (factor, alpha), (variety, beta) = self.of_time, self.of_pictures
        passed = seen / self.unit[0]
        different = min(seen, pictures) / self.unit[1]
        return np.asarray(self.floor + factor * passed**-alpha + variety * different**-beta)


@dataclass(frozen=True)
class Forecast:
    """What a plan's transformer will measure on held-out pairs.

    Args:
        points: What it is fitted to, by hours of a run here.
        by_hours: Hours of a run, and the bits of an image token then.
    """

    points: tuple[tuple[float, float], ...]
    by_hours: tuple[tuple[float, Interval], ...]
    verdict: str

    def lines(self) -> list[str]:
        said = [f"{hours:g} h: {interval}" for hours, interval in self.by_hours]
        return [f"held-out bits of an image token: {'; '.join(said)}", self.verdict]

    def chart(self) -> str:
        """Return the points and the forecast as an SVG."""
        covered = f"{COVERED:.0%} between"
        series: dict[str, list[tuple[float, float]]] = {
            "measured": list(self.points),
            "forecast": [(hours, interval.middle) for hours, interval in self.by_hours],
            covered: [(hours, interval.low) for hours, interval in self.by_hours],
            "and": [(hours, interval.high) for hours, interval in self.by_hours],
        }
        return curve(
            series,
            title="Forecast",
            x_label="hours of a run",
            y_label="held-out bits of an image token",
            width=720,
            markers=["measured"],
        )


def forecast(points: Sequence[Point], *, seen: float, pictures: float, hours: float) -> Forecast:
    """Return what is measured after a run of some hours, and of a quarter to four times as many.

    Args:
        seen: Pictures that pass through the transformer in a run of `hours`.
        pictures: Different ones among the training pairs.

    Raises:
        ConfigError: As `fit_law`.
    """
    law = fit_law(points)
    by_hours = tuple((hours * share, law.at(seen * share, pictures)) for share in (0.25, 0.5, 1.0, 2.0, 4.0))
    shown = tuple(sorted((point.seen / seen * hours, point.value) for point in points))
    return Forecast(shown, by_hours, law.verdict(seen, pictures))


def fit_law(points: Sequence[Point], *, lowest: float = 0.0) -> Law:
    """Return laws that agree with the points.

    Given the exponents, the law is linear. Over a grid of them, each cell has the probability of its regression with a
    flat prior and an unknown noise, and laws are drawn from the cells; those with a negative factor are dropped. So an
    exponent that the points do not fix makes the interval wide. Nothing random has a state: the draws are the same for
    the same points.

    Args:
        lowest: What E is at least: 0 for bits, -inf for a quantity without a bound.

    Raises:
        ConfigError: There are fewer than `LEAST_POINTS`, or they do not fall as the law does.
    """
    if len(points) < LEAST_POINTS:
        raise ConfigError(
            f"{len(points)} validations to fit a forecast to",
            expected=f"at least {LEAST_POINTS}",
            remedy="wait until the probe has validated more often, or name another one",
        )
    seen, pictures, values = (np.asarray(column, dtype=np.float64) for column in zip(*points, strict=True))
    unit = float(np.exp(np.log(seen).mean())), float(np.exp(np.log(pictures).mean()))
    repeated = pictures[pictures < seen]
    has_variety = len(repeated) > 0 and pictures.max() >= APART * repeated.min()
    cells = _refined_cells(seen / unit[0], pictures / unit[1] if has_variety else None, values)
    laws = _drawn(cells, lowest, np.random.default_rng(0))
    if len(laws) < LEAST_LAWS:
        raise ConfigError(
            f"{len(points)} validations that do not fall as a power of the pictures that have passed",
            expected="a training that still becomes better",
            remedy="take a longer probe, or leave its last part out",
        )
    floor, time, alpha, variety, beta = laws.T
    return Law(floor, (time, alpha), (variety, beta), unit)


class _Cells(NamedTuple):
    """The regressions of all pairs of exponents."""

    exponents: Array  # cells × 2: α and β
    factors: Array  # cells × 2 or 3: E, A, and B where it is told
    spread: Array  # Cholesky factor of each (XᵀX)⁻¹
    squares: Array  # sum of the squared residuals, those of `NOISE` with them
    freedom: int
    weights: Array  # probabilities

    @property
    def likely(self) -> list[tuple[float, float]]:
        """The range of each exponent that is worth a finer grid."""
        chosen = self.exponents[self.weights > UNLIKELY * self.weights.max()]
        return [(float(column.min()), float(column.max())) for column in chosen.T]


def _refined_cells(seen: Array, pictures: Array | None, values: Array) -> _Cells:
    """Return the cells of a grid over the exponents, which is as fine as what the points leave open asks for."""
    ranges = [EXPONENTS, EXPONENTS if pictures is not None else (1.0, 1.0)]
    cells = _cells([_grid(*ends) for ends in ranges], seen, pictures, values)
    for _ in range(2):
        ranges = [_widened(likely, whole) for likely, whole in zip(cells.likely, ranges, strict=True)]
        cells = _cells([_grid(*ends) for ends in ranges], seen, pictures, values)
    return cells


def _grid(low: float, high: float) -> Array:
    return np.geomspace(low, high, CELLS if low < high else 1)


def _widened(likely: tuple[float, float], whole: tuple[float, float]) -> tuple[float, float]:
    """Return a range that reaches half way to the next cells of the grid over the `whole`."""
    half = (whole[1] / whole[0]) ** (0.5 / (CELLS - 1))
    return max(likely[0] / half, whole[0]), min(likely[1] * half, whole[1])


def _cells(grid: Sequence[Array], seen: Array, pictures: Array | None, values: Array) -> _Cells:
    exponents = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2)
    columns = [np.ones((len(exponents), len(seen))), seen ** -exponents[:, :1]]
    if pictures is not None:
        columns.append(pictures ** -exponents[:, 1:])
    design = np.stack(columns, axis=2)
    # Exponents that make two columns the same are told apart by nothing; a hair on the diagonal keeps the rest.
    precision = design.transpose(0, 2, 1) @ design + 1e-10 * np.eye(len(columns))
    solved = np.linalg.solve(precision, (design.transpose(0, 2, 1) @ values)[..., None])[..., 0]
    factors = np.asarray(solved, dtype=np.float64)
    residuals = values - (design @ factors[..., None])[..., 0]
    noise = NOISE * float(np.abs(values).mean())
    # As if there were as many more points as factors, off by the noise.
    squares, freedom = (residuals**2).sum(1) + len(columns) * noise**2, len(values)
    logs = -0.5 * freedom * np.log(squares) - 0.5 * np.linalg.slogdet(precision)[1]
    weights = np.exp(logs - logs.max())
    spread = np.asarray(np.linalg.cholesky(np.linalg.inv(precision)), dtype=np.float64)
    return _Cells(exponents, factors, spread, squares, freedom, weights / weights.sum())


def _drawn(cells: _Cells, lowest: float, generator: np.random.Generator) -> Array:
    """Return laws as rows of E, A, α, B and β."""
    chosen = np.repeat(np.arange(len(cells.weights)), generator.multinomial(DRAWS, cells.weights))
    sigma = np.sqrt(cells.squares[chosen] / generator.chisquare(cells.freedom, DRAWS))
    normal = generator.standard_normal((DRAWS, cells.factors.shape[1], 1))
    factors = cells.factors[chosen] + sigma[:, None] * (cells.spread[chosen] @ normal)[..., 0]
    variety = factors[:, 2] if factors.shape[1] > 2 else np.zeros(DRAWS)
    alpha, beta = cells.exponents[chosen].T
    laws = np.stack([factors[:, 0], factors[:, 1], alpha, variety, beta], axis=1)
    return laws[(factors[:, 0] >= lowest) & (factors[:, 1:] >= 0).all(axis=1)]
