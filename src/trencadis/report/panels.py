"""The metrics of the log: their charts, names, units and scales, in one table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from trencadis.report.charts import Point, curve

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Trace:
    """One metric of a chart.

    Args:
        metric: Its name in the log.
        label: Its name in the chart's legend.
        kind: `noisy` of a batch, and smoothed; `measured` now and then, and marked; `exact`, and drawn as it is.
        scale: What the logged value is multiplied by.
        figure: Name and unit of its last value, where that is shown above the charts.
    """

    metric: str
    label: str
    kind: Literal["noisy", "measured", "exact"]
    scale: float = 1.0
    figure: tuple[str, str] | None = None


@dataclass(frozen=True)
class Panel:
    """One chart; metrics that were not logged are left out.

    Args:
        title: What it shows.
        unit: Of its values; may be empty.
        traces: Its metrics.
        log_y: Equal factors at equal distances.
    """

    title: str
    unit: str
    traces: tuple[Trace, ...]
    log_y: bool = False


def _batch(metric: str, label: str = "training", scale: float = 1.0) -> Trace:
    return Trace(metric, label, "noisy", scale)


_held_out = partial(Trace, label="held out", kind="measured")


def _term(title: str, unit: str, metric: str) -> Panel:
    return Panel(title, unit, (_batch(metric),))


def _value(title: str, metric: str, label: str, unit: str = "", *, log_y: bool = False) -> Panel:
    return Panel(title, unit, (Trace(metric, label, "exact"),), log_y)


_PERCENT, _BITS = 100.0, 1 / math.log(2)
_PANELS_BY_STAGE: dict[str, tuple[Panel, ...]] = {
    "image": (
        Panel(
            "Reconstruction",
            "PSNR in dB",
            (_batch("psnr"), _held_out("validation_psnr", figure=("PSNR, held out", "dB"))),
        ),
        Panel(
            "Structural similarity", "SSIM, held out", (_held_out("validation_ssim", figure=("SSIM, held out", "")),)
        ),
        _term("Loss", "all terms, weighted", "loss"),
        _term("Likelihood term", "nats a sub-pixel", "likelihood"),
        _term("L1 term", "mean absolute error", "l1"),
        _term("L2 term", "mean squared error", "l2"),
        _term("RMSE term", "root of the mean squared error", "rmse"),
        _term("KL from uniform codes", "nats a token", "kl"),
        _term("Entropy term", "nats a token", "entropy"),
        _term("Commitment term", "squared distance to the codes", "commitment"),
        _term("Perceptual term", "distance of features", "perceptual"),
        Panel(
            "Adversary", "hinge loss", (_batch("discriminator", "discriminator"), _batch("adversarial", "generator"))
        ),
        Panel("Adaptive weight", "of the generator's term", (_batch("adaptive_weight", "weight"),), log_y=True),
        Panel(
            "Codes in use",
            "% of all",
            (Trace("code_use", "in use", "measured", _PERCENT, ("codes in use, last epoch", "%")),),
        ),
        Panel(
            "Code perplexity",
            "equally frequent codes",
            (Trace("code_perplexity", "perplexity", "measured", 1.0, ("code perplexity, last epoch", "codes")),),
        ),
        _value("Relaxation temperature", "relaxation_temperature", "τ", log_y=True),
        _value("KL weight", "kl_weight", "β"),
    ),
    "transformer": (
        Panel(
            "Image tokens",
            "bits a token",
            (
                _batch("image_loss", scale=_BITS),
                _held_out("validation_bits_per_image_token", figure=("image token, held out", "bits")),
            ),
        ),
        Panel(
            "Text tokens",
            "nats a token",
            (_batch("text_loss"), _held_out("validation_text_loss", figure=("text token, held out", "nats"))),
        ),
        _term("Loss", "text and image, weighted", "loss"),
    ),
    "ranker": (
        Panel("Loss", "nats a pair", (_batch("loss"), _held_out("validation_loss"))),
        Panel(
            "Own caption found",
            "% of held-out pictures",
            (
                Trace("validation_accuracy", "first", "measured", _PERCENT, ("own caption first", "%")),
                Trace("validation_accuracy_at_10", "among ten", "measured", _PERCENT, ("among the first ten", "%")),
            ),
        ),
        _value("Logit scale", "logit_scale", "logit scale"),
    ),
}
_OF_EVERY_STAGE = (
    _value("Learning rate", "learning_rate", "learning rate"),
    Panel("Gradient norm", "before clipping", (_batch("gradient_norm", "norm"),), log_y=True),
    _value("Updates skipped", "skipped", "skipped", "in a row"),
)
_VALIDATION = "validation_"


def figures_of(stage: str) -> list[Trace]:
    """Return the metrics of a stage whose last values are shown above its charts."""
    return [trace for panel in _PANELS_BY_STAGE.get(stage, ()) for trace in panel.traces if trace.figure]


def panels_of(stage: str, lines: Lines) -> list[Panel]:
    """Return the charts of a stage whose log holds these lines; an unknown metric has a chart of its own."""
    logged = {name for line in lines for name in line} - {"stage", "step", "elapsed_s"}
    if not any(line.get("skipped") for line in lines):
        logged.discard("skipped")
    known = _PANELS_BY_STAGE.get(stage, ()) + _OF_EVERY_STAGE
    shown = [panel for panel in known if any(trace.metric in logged for trace in panel.traces)]
    logged -= {"skipped", *(trace.metric for panel in known for trace in panel.traces)}
    return shown + [_unknown(name, logged) for name in sorted({name.removeprefix(_VALIDATION) for name in logged})]


def _unknown(name: str, logged: set[str]) -> Panel:
    traces = tuple(trace for trace in (_batch(name), _held_out(_VALIDATION + name)) if trace.metric in logged)
    return Panel(name.replace("_", " ").capitalize(), "", traces)


def chart(panel: Panel, lines: Lines) -> str:
    """Return a panel as SVG."""
    series = {trace.label: points for trace in panel.traces if (points := _points(trace, lines))}
    return curve(
        series,
        title=panel.title,
        x_label="step",
        y_label=panel.unit,
        log_y=panel.log_y,
        smooth=[trace.label for trace in panel.traces if trace.kind == "noisy"],
        markers=[trace.label for trace in panel.traces if trace.kind == "measured"],
        x_range=(0, max(line["step"] for line in lines)),
    )


def _points(trace: Trace, lines: Lines) -> list[Point]:
    """Return a metric over the steps; where the log holds no number for it, y is NaN."""
    found = [(line["step"], line[trace.metric]) for line in lines if trace.metric in line]
    return [(step, value * trace.scale if isinstance(value, int | float) else math.nan) for step, value in found]
