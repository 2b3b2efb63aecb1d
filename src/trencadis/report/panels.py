"""The metrics of the log: their charts, names, units and scales, in one table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from trencadis.config.losses import LOSS_TERMS
from trencadis.report.charts import Point, curve

Lines = Sequence[Mapping[str, Any]]


class Trace(NamedTuple):
    """One metric of a chart."""

    metric: str  # its name in the log
    label: str  # its name in the legend
    kind: Literal["noisy", "measured", "exact"]  # smoothed; marked; drawn as it is
    scale: float = 1.0  # what the logged value is multiplied by
    figure: tuple[str, ...] = ()  # name and unit of its last value, where that is shown above the charts too


class Panel:
    """One chart; metrics that were not logged are left out. The unit may be empty."""

    def __init__(self, title: str, unit: str, *traces: Trace, log_y: bool = False) -> None:
        self.title, self.unit, self.traces, self.log_y = title, unit, traces, log_y


def _batch(metric: str, label: str = "training", scale: float = 1.0) -> Trace:
    return Trace(metric, label, "noisy", scale)


def _measured(metric: str, label: str, *figure: str, scale: float = 1.0) -> Trace:
    return Trace(metric, label, "measured", scale, figure)


def _held_out(name: str, *figure: str) -> Trace:
    return _measured(_VALIDATION + name, "held out", *figure)


def _exact(metric: str, label: str) -> Trace:
    return Trace(metric, label, "exact")


_VALIDATION = "validation_"
_BITS = 1 / math.log(2)
_PICTURES = (
    Panel("Reconstruction", "PSNR in dB", _batch("psnr"), _held_out("psnr", "PSNR, held out", "dB")),
    Panel("Structural similarity", "SSIM, held out", _held_out("ssim", "SSIM, held out", "")),
    Panel("Loss", "all terms, weighted", _batch("loss")),
    *(Panel(term.title, term.unit, _batch(name), _held_out(name)) for name, term in LOSS_TERMS.items()),
    Panel("Discriminator", "hinge loss", _batch("discriminator")),
    Panel("Adaptive weight", "of the generator's term", _batch("adaptive_weight", "weight"), log_y=True),
)
_PANELS_BY_STAGE: dict[str, tuple[Panel, ...]] = {
    "image": (
        *_PICTURES,
        Panel(
            "Codes in use", "% of all", _measured("code_use", "in use", "codes in use, last epoch", "%", scale=100.0)
        ),
        Panel(
            "Code perplexity",
            "equally frequent codes",
            _measured("code_perplexity", "perplexity", "code perplexity, last epoch", "codes"),
        ),
        Panel("Relaxation temperature", "", _exact("relaxation_temperature", "τ"), log_y=True),
        Panel("KL weight", "", _exact("kl_weight", "β")),
    ),
    "decoder": _PICTURES,
    "transformer": (
        Panel(
            "Image tokens",
            "bits a token",
            _batch("image_loss", scale=_BITS),
            _held_out("bits_per_image_token", "image token, held out", "bits"),
        ),
        Panel(
            "Text tokens", "nats a token", _batch("text_loss"), _held_out("text_loss", "text token, held out", "nats")
        ),
        Panel("Loss", "text and image, weighted", _batch("loss")),
    ),
    "ranker": (
        Panel("Loss", "nats a pair", _batch("loss"), _held_out("loss")),
        Panel(
            "Own caption found",
            "% of held-out pictures",
            _measured("validation_accuracy", "first", "own caption first", "%", scale=100.0),
            _measured("validation_accuracy_at_10", "among ten", "among the first ten", "%", scale=100.0),
        ),
        Panel("Logit scale", "", _exact("logit_scale", "logit scale")),
    ),
}
_OF_EVERY_STAGE = (
    Panel(
        "Weights kept",
        "step of the best validation",
        Trace("best_step", "step", "exact", figure=("step of the weights that are kept", "")),
    ),
    Panel("Learning rate", "", _exact("learning_rate", "learning rate")),
    Panel("Gradient norm", "before clipping", _batch("gradient_norm", "norm"), log_y=True),
    Panel("Updates skipped", "in a row", _exact("skipped", "skipped")),
)


def figures_of(stage: str) -> list[Trace]:
    """Return the metrics of a stage whose last values are shown above its charts."""
    panels = _PANELS_BY_STAGE.get(stage, ()) + _OF_EVERY_STAGE
    return [trace for panel in panels for trace in panel.traces if trace.figure]


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
    traces = [_batch(name), _held_out(name)]
    return Panel(name.replace("_", " ").capitalize(), "", *(trace for trace in traces if trace.metric in logged))


def chart(panel: Panel, lines: Lines) -> str:
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
