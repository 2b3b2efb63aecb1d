"""`trencadis data`: looks at a dataset."""

import dataclasses
import re
import typing
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import dataset, integer, output_sheet_or_directory
from trencadis.config import DataConfig, FilterConfig
from trencadis.config.data import Fit
from trencadis.console import say, say_json

HELP = "reads a dataset, counts, and shows what would be dropped and what training sees"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=["check"], help="what to do: check counts, and changes nothing")
    add("path", type=dataset(), help="a folder, a metadata table, or tar shards by path, glob or range")
    meanings = dict(re.findall(r"^ +(\w+): (.+)\.$", FilterConfig.__doc__ or "", re.MULTILINE))
    for field in dataclasses.fields(FilterConfig):
        option, kind = f"--{field.name.replace('_', '-')}", typing.get_type_hints(FilterConfig)[field.name]
        help_text = re.sub(r"^[A-Z](?=[a-z])", lambda letter: letter[0].lower(), meanings[field.name])
        add(option, type=kind, default=field.default, help=help_text)
    add("--fit", choices=typing.get_args(Fit), default=DataConfig.fit, help="how pictures are cropped")
    add("--image-size", type=integer(low=8, high=1024), default=64, help="side of the crops, in pixels")
    add(
        "--out",
        type=output_sheet_or_directory(),
        default="data-check.png",
        help="where the contact sheet goes: a .png or folder",
    )
    add("--json", action="store_true", help="prints the figures as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from dataclasses import asdict

    from trencadis.data import open_source
    from trencadis.data.check import report_lines, report_of, sheet_of
    from trencadis.data.curation import examine, require_kept
    from trencadis.storage import write_sheet

    filters = FilterConfig(**{field.name: arguments[field.name] for field in dataclasses.fields(FilterConfig)})
    config = DataConfig(path=arguments.path, fit=arguments.fit, filters=filters)
    source = open_source(arguments.path)
    curated = examine(source, filters, progress=True)
    report, out = report_of(curated), _sheet_path(arguments.out)
    write_sheet(out, sheet_of(source, curated, config, (arguments.image_size, arguments.image_size)))
    if arguments.json:
        say_json({"path": arguments.path, **asdict(report), "contact_sheet": str(out)}, indent=2)
    else:
        say(*report_lines(report, arguments.path), "", f"contact sheet: {out}")
    require_kept(curated)
    return 0


def _sheet_path(out: Path) -> Path:
    return out if out.suffix.lower() == ".png" and not out.is_dir() else out / "data-check.png"
