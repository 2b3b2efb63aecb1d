"""`trencadis plan`: what a training would be, and what it would reach, before it is begun."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import dataset, existing_directory, integer, one_of, output_file, real
from trencadis.cli.run_settings import add_settings, read_overrides
from trencadis.console import say, say_json
from trencadis.training.accelerators import ACCELERATORS

if TYPE_CHECKING:
    from trencadis.training.elsewhere import Elsewhere
    from trencadis.training.forecast import Forecast
    from trencadis.training.planning import PlannedRun, StageEstimate

HELP = "says what `train` would choose, how long it takes, and what it would reach"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", type=dataset(), help="folder, shards or metadata file, as `trencadis data check` reads them")
    add("--hours", type=real(1e-4, 100_000, example=1), default=1.0, help="time budget")
    add_settings(parser, one_of("cpu", "cuda", *ACCELERATORS))
    add("--gpus", type=integer(1, 100_000), default=1, help="how many devices of the kind that --device names")
    add("--watts", type=real(0, low_open=True, example=700), help="power of the whole machine, for the energy")
    add("--price", type=real(0, low_open=True, example=2.5), help="price of an hour of it, for the price")
    about = "runs of the same sizes, whose logs the forecast is fitted to"
    add("--probe", nargs="+", metavar="RUN", type=existing_directory(), help=about)
    about = "time for short trainings here that the forecast is fitted to (default: none are made)"
    add("--probe-minutes", type=real(0.01, 100_000, example=5), help=about)
    add("--chart", type=output_file(), help="where a chart of the forecast goes, as SVG")
    add("--json", action="store_true", help="print it as JSON")
    parser.epilog = "Every setting of a run's config.yaml is an option too, as of `trencadis train`."


def run(arguments: jsonargparse.Namespace) -> int:
    import tempfile
    import time

    from trencadis.run_directory import RunDirectory
    from trencadis.training.planning import estimates, plan_run, time_every_stage

    began_s = time.monotonic()
    _check(arguments)
    elsewhere = _elsewhere(arguments)
    overrides = read_overrides(arguments)
    recipe = overrides.pop("recipe", None)
    overrides.pop("hours", None)
    if elsewhere is not None:
        overrides.pop("device", None)
    with tempfile.TemporaryDirectory() as directory:
        notes: list[str] = []
        planned = plan_run(
            RunDirectory(Path(directory)),
            overrides,
            recipe,
            arguments.hours,
            began_s,
            notes.append,
            elsewhere=elsewhere,
            measure=time_every_stage if elsewhere is None else elsewhere.timing,
        )
        forecast = _forecast(arguments, planned, notes)
    _print(arguments, planned, estimates(planned), forecast, notes, elsewhere)
    if forecast is not None and arguments.chart is not None:
        from trencadis.storage import write_whole

        write_whole(arguments.chart, forecast.chart())
    return 0


def _check(arguments: jsonargparse.Namespace) -> None:
    """Refuse options that do not go together, before anything is read."""
    from trencadis.errors import ConfigError

    named = arguments.device in ACCELERATORS
    faults = {
        f"--gpus {arguments.gpus}": (arguments.gpus > 1 and not named, f"--device {' or '.join(ACCELERATORS)}"),
        f"--probe-minutes for {arguments.device}": (arguments.probe_minutes and named, "probes of this machine"),
        "--chart": (arguments.chart and not (arguments.probe or arguments.probe_minutes), "--probe or --probe-minutes"),
        "--probe-minutes with --from": (arguments.probe_minutes and arguments.start_model, "a run from nothing"),
        "--probe-minutes with --probe": (arguments.probe_minutes and arguments.probe, "one of the two"),
    }
    for given, (is_fault, expected) in faults.items():
        if is_fault:
            raise ConfigError(given, expected=expected, remedy="see `trencadis plan --help`")


def _elsewhere(arguments: jsonargparse.Namespace) -> "Elsewhere | None":
    """Return the machine that is named; None is this one."""
    if arguments.device not in ACCELERATORS:
        return None
    from trencadis.training.elsewhere import Elsewhere

    return Elsewhere(arguments.device, ACCELERATORS[arguments.device], arguments.gpus)


def _forecast(arguments: jsonargparse.Namespace, planned: "PlannedRun", notes: list[str]) -> "Forecast | None":
    from trencadis.run_directory import RunDirectory
    from trencadis.training.forecast import forecast
    from trencadis.training.probes import read_probe, train_probes

    config, pairs = planned.config, planned.pairs
    if arguments.probe_minutes:
        points = train_probes(config, pairs, planned.timing, arguments.probe_minutes, notes.append)
    elif arguments.probe:
        notes.append("a run's learning rate falls towards its end: a forecast from the log before that is too high")
        points = tuple(point for path in arguments.probe for point in read_probe(RunDirectory(path), config))
    else:
        return None
    seen = float((config.transformer.steps or 0) * config.transformer.batch_size)
    return forecast(points, seen=seen, pictures=float(len(pairs.train)), hours=config.hours)


def _print(
    arguments: jsonargparse.Namespace,
    planned: "PlannedRun",
    stages: "list[StageEstimate]",
    forecast: "Forecast | None",
    notes: list[str],
    elsewhere: "Elsewhere | None",
) -> None:
    hours = sum(stage.hours for stage in stages)
    totals: dict[str, float] = {"hours": hours}
    if arguments.watts:
        totals["energy_kwh"] = hours * arguments.watts / 1000
    if arguments.price:
        totals["price"] = hours * arguments.price
    if arguments.json:
        say_json(_as_json(planned, stages, totals, forecast, notes), indent=2)
        return
    say(*notes, *planned.plan.lines(), "")
    say(f"{'stage':<12}{'updates':>10}{'ms each':>10}{'time':>12}{'memory, about':>16}")
    for stage in stages:
        memory = f"{stage.memory_bytes / 1e9:.2f} GB"
        say(f"{stage.stage:<12}{stage.steps:>10,}{stage.step_s * 1000:>10.1f}{_time(stage.hours):>12}{memory:>16}")
        if elsewhere is not None and stage.memory_bytes > elsewhere.kind.memory_bytes:
            say(f"{'':<12}more than one has: raise {stage.stage}.microbatches, or shard the model over several")
    parts = [f"in all {_time(hours)}"]
    if "energy_kwh" in totals:
        parts.append(f"{totals['energy_kwh']:.3g} kWh")
    if "price" in totals:
        parts.append(f"at a price of {totals['price']:.2f}")
    say(", ".join(parts))
    if elsewhere is not None:
        say(*_assumptions())
    if forecast is not None:
        say("", *forecast.lines())


def _as_json(
    planned: "PlannedRun",
    stages: "list[StageEstimate]",
    totals: dict[str, float],
    forecast: "Forecast | None",
    notes: list[str],
) -> dict[str, Any]:
    from dataclasses import asdict

    from trencadis.config.plain import to_plain

    shown: dict[str, Any] = {"notes": notes, "choices": planned.plan.choices, "timed": planned.timing.where}
    shown |= {"stages": [asdict(stage) for stage in stages], "totals": totals}
    if forecast is not None:
        by_hours = [{"hours": hours, **interval._asdict()} for hours, interval in forecast.by_hours]
        shown["forecast"] = {"metric": "bits of a held-out image token", "by_hours": by_hours}
        shown["forecast"]["verdict"] = forecast.verdict
    return shown | {"config": to_plain(planned.config)}


def _assumptions() -> list[str]:
    from trencadis.training.accelerators import BANDWIDTH_SHARE, KERNEL_S, UTILISATION

    return [
        f"computed, not timed: products at {UTILISATION:.0%} of the peak, memory at {BANDWIDTH_SHARE:.0%} of its "
        f"bandwidth, at least {KERNEL_S * 1e6:.0f} µs an operation; reading pictures is left out"
    ]


def _time(hours: float) -> str:
    from trencadis.report.page import duration

    return duration(3600 * hours)
