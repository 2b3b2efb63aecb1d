"""Which metrics of the log share a chart, and what they are called there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trencadis.config.losses import LOSS_TERMS
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
    """

    metric: str
    label: str
    kind: Literal["noisy", "measured", "exact"]
    scale: float = 1.0


@dataclass(frozen=True)
class Panel:
    """One chart.

    Args:
        title: What it shows.
        unit: Of its values; may be empty.
        traces: Its metrics; those that were not logged are left out.
        log_y: Equal factors at equal distances.
    """

    title: str
    unit: str
    traces: tuple[Trace, ...]
    log_y: bool = False


_BITS = 1 / math.log(2)
_PANELS_BY_STAGE: dict[str, tuple[Panel, ...]] = {
    "image": (
        Panel(
            "Reconstruction",
            "PSNR in dB",
            (Trace("psnr", "training", "noisy"), Trace("validation_psnr", "held out", "measured")),
        ),
        Panel("Structural similarity", "SSIM, held out", (Trace("validation_ssim", "held out", "measured"),)),
        Panel("Loss", "all terms, weighted", (Trace("loss", "training", "noisy"),)),
        *(Panel(term.title, term.unit, (Trace(name, "training", "noisy"),)) for name, term in LOSS_TERMS.items()),
        Panel("Discriminator", "hinge loss", (Trace("discriminator", "training", "noisy"),)),
        Panel("Adaptive weight", "of the generator's term", (Trace("adaptive_weight", "weight", "noisy"),), log_y=True),
        Panel("Codes in use", "% of all", (Trace("code_use", "in use", "measured", 100.0),)),
        Panel("Code perplexity", "equally frequent codes", (Trace("code_perplexity", "perplexity", "measured"),)),
        Panel("Relaxation temperature", "", (Trace("relaxation_temperature", "τ", "exact"),), log_y=True),
        Panel("KL weight", "", (Trace("kl_weight", "β", "exact"),)),
    ),
    "transformer": (
        Panel(
            "Image tokens",
            "bits a token",
            (
                Trace("image_loss", "training", "noisy", _BITS),
                Trace("validation_bits_per_image_token", "held out", "measured"),
            ),
        ),
        Panel(
            "Text tokens",
            "nats a token",
            (Trace("text_loss", "training", "noisy"), Trace("validation_text_loss", "held out", "measured")),
        ),
        Panel("Loss", "text and image, weighted", (Trace("loss", "training", "noisy"),)),
    ),
    "ranker": (
        Panel(
            "Loss",
            "nats a pair",
            (Trace("loss", "training", "noisy"), Trace("validation_loss", "held out", "measured")),
        ),
        Panel(
            "Own caption found",
            "% of held-out pictures",
            (
                Trace("validation_accuracy", "first", "measured", 100.0),
                Trace("validation_accuracy_at_10", "among ten", "measured", 100.0),
            ),
        ),
        Panel("Logit scale", "", (Trace("logit_scale", "logit scale", "exact"),)),
    ),
}
_OF_EVERY_STAGE = (
    Panel("Learning rate", "", (Trace("learning_rate", "learning rate", "exact"),)),
    Panel("Gradient norm", "before clipping", (Trace("gradient_norm", "norm", "noisy"),), log_y=True),
    Panel("Updates skipped", "in a row", (Trace("skipped", "skipped", "exact"),)),
)
_HELD_OUT = "validation_"
_NO_METRICS = ("stage", "step", "elapsed_s")


def panels_of(stage: str, lines: Lines) -> list[Panel]:
    """Return the charts of a stage whose log holds these lines; a metric that nobody foresaw has one of its own."""
    logged = {name for line in lines for name in line if name not in _NO_METRICS}
    if not any(line.get("skipped") for line in lines):
        logged.discard("skipped")
    foreseen = _PANELS_BY_STAGE.get(stage, ()) + _OF_EVERY_STAGE
    shown = [panel for panel in foreseen if any(trace.metric in logged for trace in panel.traces)]
    logged -= {"skipped", *(trace.metric for panel in foreseen for trace in panel.traces)}
    return shown + [_unforeseen(name, logged) for name in sorted({name.removeprefix(_HELD_OUT) for name in logged})]


def _unforeseen(name: str, logged: set[str]) -> Panel:
    traces = (Trace(name, "training", "noisy"), Trace(_HELD_OUT + name, "held out", "measured"))
    logged_traces = tuple(trace for trace in traces if trace.metric in logged)
    return Panel(name.replace("_", " ").capitalize(), "", logged_traces)


def points_of(trace: Trace, lines: Lines) -> list[Point]:
    """Return a metric over the steps; where the log holds no number for it, y is NaN."""
    found = [(line["step"], line[trace.metric]) for line in lines if trace.metric in line]
    return [(step, value * trace.scale if isinstance(value, int | float) else math.nan) for step, value in found]


def chart(panel: Panel, lines: Lines) -> str:
    """Return a panel as SVG."""
    series = {trace.label: points for trace in panel.traces if (points := points_of(trace, lines))}
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
