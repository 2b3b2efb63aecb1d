"""Line charts as SVG: readable in the dark, in print, and by people who see colours differently."""

import html
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trencadis.report.axis import Number, linear_ticks, logarithmic_ticks, number_text

Point = tuple[Number, Number]

# Okabe and Ito's colours, which stay apart under every common kind of colour blindness; darkened and lightened for
# contrast on white and on black.
_STYLE = f"<style>\n{Path(__file__).with_name('chart.css').read_text('utf-8')}</style>"
_COLOURS = 5
_SMOOTHED_FROM = 20  # points; fewer are drawn as they are
_CHAR_WIDTH = 6.8  # of the font above, in pixels, about


@dataclass(frozen=True, kw_only=True)
class _Axis:
    low: float  # values
    high: float
    start: float  # pixels
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: Number) -> float:
        """Return the pixel of a value; one beyond the axis is put at its end."""
        low, high, within = self.low, self.high, min(max(float(value), self.low), self.high)
        if self.log:
            low, high, within = math.log10(low), math.log10(high), math.log10(within)
        return self.start + (within - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True, kw_only=True)
class _Line:
    name: str
    colour: str
    points: list[Point]
    shown: list[Point]  # the same, or smoothed
    marked: bool


def curve(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    width: int = 460,
    height: int = 280,
    log_y: bool = False,
    smooth: Collection[str] = (),
    markers: Collection[str] = (),
    x_range: Point | None = None,
    last_values: bool = True,
) -> str:
    """Return a line chart as an SVG element that also stands alone.

    Args:
        series: Points (x, y) by the series' name, x rising. A y that is not finite leaves a gap; so does one that is
            not above zero where `log_y`.
        y_label: The unit of y; may be empty.
        smooth: Names of noisy series: a moving average is drawn over their faint points.
        markers: Names of series measured now and then: each point is marked.
        x_range: What the horizontal axis spans at least, so that charts beside each other agree.
        last_values: Write each series' last value beside its name.
    """
    lines = [
        _line(name, number, points, log_y=log_y, smooth=name in smooth, marked=name in markers)
        for number, (name, points) in enumerate(series.items())
        if points
    ]
    heading, top = _heading(lines, title, y_label, width, last_values=last_values)
    name = html.escape(f"{title}: {', '.join(line.name for line in lines)}" if lines else title)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" style="max-width:100%;height:auto"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" class="curve" role="img" aria-label="{name}" {size}>{_STYLE}'
    drawn = [(x, y) for line in lines for x, y in line.points if _is_drawn(y, log_y)]
    if not drawn:
        body = f'<text x="{width / 2:g}" y="{(top + height) / 2:g}" text-anchor="middle">nothing yet</text>'
        return f"{opening}{heading}{body}</svg>"
    y_axis = _y_axis(lines, log_y, bottom=height - 36.0, top=top + 6.0)
    labels = [number_text(tick, y_axis.ticks) for tick in y_axis.ticks]
    left = 12 + _CHAR_WIDTH * max(map(len, labels))
    x_axis = _x_axis([*(x for x, _ in drawn), *(x_range or ())], left=left, right=width - 16.0)
    grid = _grid(x_axis, y_axis, labels, x_label)
    return f"{opening}{heading}{grid}{''.join(_drawing(line, x_axis, y_axis) for line in lines)}</svg>"


def _is_drawn(y: Number, log_y: bool) -> bool:
    return math.isfinite(y) and (y > 0 or not log_y)


def _line(name: str, number: int, points: Sequence[Point], *, log_y: bool, smooth: bool, marked: bool) -> _Line:
    known: list[Point] = [(float(x), float(y) if _is_drawn(y, log_y) else math.nan) for x, y in points]
    smooth = smooth and len(known) >= _SMOOTHED_FROM
    shown = smoothed(known) if smooth else known
    return _Line(name=name, colour=f"var(--c{number % _COLOURS})", points=known, shown=shown, marked=marked)


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Return an exponential moving average over about a fortieth of the finite points, without lag.

    It is taken forwards, and of that backwards.
    """
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    averages = [float(y) for _, y in finite]
    for _ in range(2):
        averages = _moving_average(averages, 1 - 1 / max(2.0, len(finite) / 60))[::-1]
    return [(x, average) for (x, _), average in zip(finite, averages, strict=True)]


def _moving_average(values: Sequence[float], decay: float) -> list[float]:
    """Return the exponential moving average up to each value; the first ones weigh no more than the others."""
    total = weight = 0.0
    averages = []
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        averages.append(total / weight)
    return averages


def _heading(lines: list[_Line], title: str, y_label: str, width: int, *, last_values: bool) -> tuple[str, float]:
    """Return title, unit and legend, and the pixel at which they end."""
    parts = [f'<text class="name" x="0" y="16">{html.escape(title)}</text>']
    if y_label:
        parts.append(f'<text x="0" y="33">{html.escape(y_label)}</text>')
    finite = [[y for _, y in line.shown if math.isfinite(y)] for line in lines]
    lasts = [number_text(values[-1]) if values and last_values else "" for values in finite]
    if len(lines) == 1:
        parts.append(f'<text class="name" x="{width - 16}" y="16" text-anchor="end">{lasts[0]}</text>')
        return "".join(parts), 40.0
    x, y = 0.0, 52.0
    for line, last in zip(lines, lasts, strict=True):
        length = 24 + _CHAR_WIDTH * (len(line.name) + len(last) + 1)
        if x and x + length > width:
            x, y = 0.0, y + 18
        parts.append(f'<rect x="{x:.1f}" y="{y - 6:g}" width="12" height="3" rx="1.5" fill="{line.colour}"/>')
        value = f' <tspan class="last">{last}</tspan>'
        parts.append(f'<text x="{x + 17:.1f}" y="{y:g}">{html.escape(line.name)}{value}</text>')
        x += length + 8
    return "".join(parts), y + 8 if lines else 40.0


def _y_axis(lines: list[_Line], log_y: bool, *, bottom: float, top: float) -> _Axis:
    """Return an axis that holds all of the strong lines, and of the faint ones all but the farthest outliers."""
    values = sorted(y for line in lines for _, y in line.shown if math.isfinite(y))
    for line in lines:
        faint = sorted(y for _, y in line.points if math.isfinite(y))
        if line.shown is not line.points and faint:
            values += [faint[len(faint) // 50], faint[-1 - len(faint) // 50]]
    low, high = min(values), max(values)
    if log_y:
        margin = max((high / low) ** 0.04, 1.1)
        low, high = low / margin, high * margin
    else:
        # What hardly moves is to look so.
        margin = max(0.04 * (high - low), 0.01 * max(abs(low), abs(high))) or 1.0
        # An axis that nearly reaches zero reaches it.
        low = 0.0 if 0 <= low < 0.15 * high else low - margin
        high += margin
    ticks = logarithmic_ticks(low, high) if log_y else linear_ticks(low, high)
    return _Axis(low=low, high=high, start=bottom, end=top, ticks=ticks, log=log_y)


def _x_axis(values: list[Number], *, left: float, right: float) -> _Axis:
    low, high = float(min(values)), float(max(values))
    if 0 <= low < 0.2 * high or low == high:
        low = min(0.0, low)
    high = high if high > low else low + 1
    finest = 1.0 if all(value == int(value) for value in values) else 0.0
    ticks = linear_ticks(low, high, max(2, round((right - left) / 80)), finest)
    return _Axis(low=low, high=high, start=left, end=right, ticks=ticks)


def _grid(x_axis: _Axis, y_axis: _Axis, labels: list[str], x_label: str) -> str:
    parts = []
    for tick, label in zip(y_axis.ticks, labels, strict=True):
        y = y_axis.at(tick)
        parts.append(f'<path class="line" d="M{x_axis.start:.1f} {y:.1f}H{x_axis.end:.1f}" stroke="var(--grid)"/>')
        parts.append(f'<text x="{x_axis.start - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    bottom = y_axis.start
    parts.append(f'<path class="line" d="M{x_axis.start:.1f} {bottom:.1f}H{x_axis.end:.1f}" stroke="var(--axis)"/>')
    for tick in x_axis.ticks:
        x, label = x_axis.at(tick), number_text(tick, x_axis.ticks)
        anchor = "end" if x + _CHAR_WIDTH * len(label) / 2 > x_axis.end + 14 else "middle"
        parts.append(f'<path class="line" d="M{x:.1f} {bottom:.1f}v4" stroke="var(--axis)"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="{anchor}">{label}</text>')
    label = html.escape(x_label)
    parts.append(f'<text x="{x_axis.end:.1f}" y="{bottom + 32:.1f}" text-anchor="end">{label}</text>')
    return "".join(parts)


def _drawing(line: _Line, x_axis: _Axis, y_axis: _Axis) -> str:
    parts = []
    if line.shown is not line.points:
        parts.append(_path(line.points, x_axis, y_axis, line.colour, "raw"))
    parts.append(_path(line.shown, x_axis, y_axis, line.colour, "thin" if line.marked else "strong"))
    finite = [(x, y) for x, y in line.shown if math.isfinite(y)]
    # A single point has no line to be seen by.
    for x, y in finite if line.marked or len(finite) == 1 else []:
        parts.append(f'<circle cx="{x_axis.at(x):.1f}" cy="{y_axis.at(y):.1f}" r="3" fill="{line.colour}"/>')
    return "".join(parts)


def _path(points: list[Point], x_axis: _Axis, y_axis: _Axis, colour: str, kind: str) -> str:
    """Return a path with a gap at each value that is not finite."""
    steps, pen = [], "M"
    for x, y in points:
        if math.isfinite(y):
            steps.append(f"{pen}{x_axis.at(x):.1f} {y_axis.at(y):.1f}")
        pen = "L" if math.isfinite(y) else "M"
    return f'<path class="{kind}" stroke="{colour}" d="{"".join(steps)}"/>' if steps else ""
