import math
import random
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from trencadis.report.charts import Point, curve, smoothed

SVG = "{http://www.w3.org/2000/svg}"


def drawn(series: dict[str, list[Point]], **options: object) -> ElementTree.Element:
    settings = {"title": "Loss", "x_label": "step", "y_label": "nats"} | options
    return ElementTree.fromstring(curve(series, **settings))  # type: ignore[arg-type]


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(text.itertext()) for text in svg.iter(f"{SVG}text")]


def paths(svg: ElementTree.Element, kind: str) -> list[list[tuple[float, float]]]:
    """Return the pixels of each path of a kind."""
    found = [path.attrib["d"] for path in svg.iter(f"{SVG}path") if path.attrib.get("class") == kind]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)] for path in found]


def noisy(count: int) -> list[Point]:
    rng = random.Random(0)
    return [(step, 5 - step / count + rng.gauss(0, 0.3)) for step in range(count)]


def test_a_line_goes_through_its_points() -> None:
    svg = drawn({"loss": [(0, 0.0), (10, 1.0), (20, 4.0)]})
    (pixels,) = paths(svg, "strong")
    (x0, y0), (x1, y1), (x2, y2) = pixels
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y0 - y1 == pytest.approx((y0 - y2) / 4, abs=0.2)
    assert y0 > y1 > y2
    width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
    assert all(0 <= x <= width and 0 <= y <= height for x, y in pixels)


def test_ticks_stand_at_their_values() -> None:
    svg = drawn({"loss": [(0, 1.0), (100, 3.0)]})
    (pixels,) = paths(svg, "strong")
    at = {"".join(text.itertext()): text for text in svg.iter(f"{SVG}text")}
    assert float(at["0"].attrib["x"]) == pytest.approx(pixels[0][0], abs=0.2)
    assert float(at["100"].attrib["x"]) == pytest.approx(pixels[1][0], abs=0.2)
    assert float(at["1.0"].attrib["y"]) == pytest.approx(pixels[0][1] + 4, abs=0.2)
    assert float(at["3.0"].attrib["y"]) == pytest.approx(pixels[1][1] + 4, abs=0.2)


def test_equal_factors_are_equally_far_on_a_logarithmic_axis() -> None:
    (pixels,) = paths(drawn({"loss": [(0, 0.1), (1, 1.0), (2, 10.0)]}, log_y=True), "strong")
    (_, y0), (_, y1), (_, y2) = pixels
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.2)


@pytest.mark.parametrize(("value", "log_y"), [(math.nan, False), (math.inf, False), (0.0, True), (-1.0, True)])
def test_what_cannot_be_drawn_leaves_a_gap(value: float, log_y: bool) -> None:
    points: list[Point] = [(0, 1.0), (1, 2.0), (2, value), (3, 3.0), (4, 4.0)]
    svg = drawn({"loss": points}, log_y=log_y)
    (path,) = [p.attrib["d"] for p in svg.iter(f"{SVG}path") if p.attrib.get("class") == "strong"]
    assert re.findall("[ML]", path) == ["M", "L", "M", "L"]


def test_noise_is_faint_below_its_average() -> None:
    svg = drawn({"loss": noisy(300)}, smooth=["loss"])
    (faint,), (strong,) = paths(svg, "raw"), paths(svg, "strong")
    assert len(faint) == len(strong) == 300

    def roughness(pixels: list[tuple[float, float]]) -> float:
        return sum(abs(b[1] - a[1]) for a, b in pairwise(pixels))

    assert roughness(strong) < roughness(faint) / 5


def test_the_average_does_not_lag() -> None:
    line: list[Point] = [(step, 1000.0 - step) for step in range(1000)]
    middle = smoothed(line)[300:700]
    assert max(abs(average - (1000 - x)) for x, average in middle) < 0.1
    assert smoothed([(0, 2.0), (1, math.nan), (2, 2.0)]) == [(0, 2.0), (2, 2.0)]


def test_a_few_points_are_not_smoothed() -> None:
    assert paths(drawn({"loss": noisy(10)}, smooth=["loss"]), "raw") == []


def test_rare_measurements_are_marked() -> None:
    svg = drawn({"training": noisy(50), "held out": [(10, 4.0), (40, 3.0)]}, markers=["held out"])
    assert len(list(svg.iter(f"{SVG}circle"))) == 2
    assert [len(path) for path in paths(svg, "thin")] == [2]


def test_several_series_have_a_legend_with_their_last_values() -> None:
    svg = drawn({"training": [(0, 3.0), (1, 2.5)], "held out": [(0, 3.5), (1, math.nan)]})
    assert {"training 2.5", "held out 3.5"} <= set(texts(svg))
    assert len({rect.attrib["fill"] for rect in svg.iter(f"{SVG}rect")}) == 2
    assert "2.5" in texts(drawn({"training": [(0, 3.0), (1, 2.5)]}))
    assert "2.5" not in texts(drawn({"training": [(0, 3.0), (1, 2.5)]}, last_values=False))


def test_an_early_peak_does_not_flatten_the_rest() -> None:
    points = [(step, y + 1000.0 * (step == 5)) for step, y in noisy(300)]
    (strong,) = paths(drawn({"loss": points}, smooth=["loss"]), "strong")
    plain = paths(drawn({"loss": noisy(300)}, smooth=["loss"]), "strong")[0]
    assert max(y for _, y in strong[100:]) - min(y for _, y in strong[100:]) > 0
    assert len(strong) == len(plain)
    raw = paths(drawn({"loss": points}, smooth=["loss"]), "raw")[0]
    assert min(y for _, y in raw) >= 40


def test_charts_side_by_side_may_share_their_range() -> None:
    (pixels,) = paths(drawn({"loss": [(50, 1.0), (100, 2.0)]}, x_range=(0, 200)), "strong")
    svg = drawn({"loss": [(0, 1.0), (200, 2.0)]})
    (whole,) = paths(svg, "strong")
    assert pixels[0][0] == pytest.approx(whole[0][0] + (whole[1][0] - whole[0][0]) / 4, abs=0.2)


@pytest.mark.parametrize("points", [[], [(1, math.nan)], [(1, 0.0)], [(1, 7.0)], [(3, 1e-9), (3, 1e-9)]])
@pytest.mark.parametrize("log_y", [False, True])
def test_next_to_nothing_can_be_drawn(points: list[Point], log_y: bool) -> None:
    svg = drawn({"loss": points}, log_y=log_y)
    is_empty = not [y for _, y in points if math.isfinite(y) and (y > 0 or not log_y)]
    assert ("nothing yet" in texts(svg)) == is_empty
    assert bool(list(svg.iter(f"{SVG}circle"))) == (len(points) == 1 and not is_empty)


def test_names_are_escaped_and_said_to_screen_readers() -> None:
    svg = drawn({"a<b & c": [(0, 1.0)]}, title='"x" < y')
    assert svg.attrib["aria-label"] == '"x" < y: a<b & c'
    assert svg.attrib["role"] == "img"


def test_colours_differ_in_the_dark() -> None:
    style = curve({"loss": [(0, 1.0)]}, title="t", x_label="x", y_label="y")
    assert "screen and (prefers-color-scheme:dark)" in style
    light, dark = (re.findall(r"--c\d:(#\w+)", part) for part in style.split("@media")[:2])
    assert len(set(light)) == len(set(dark)) == 5
    assert not set(light) & set(dark)
