"""`trencadis data`: looks at a dataset."""

import dataclasses
import re
import typing
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import dataset, integer, is_output_sheet, output_sheet
from trencadis.config import DataConfig, FilterConfig, ReadingConfig
from trencadis.config.base import Config
from trencadis.config.data import Fit
from trencadis.console import say, say_json

HELP = "reads a dataset, counts, and shows what would be dropped and what training sees"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=["check"], help="what to do: check counts, and changes nothing")
    add("path", type=dataset(), help="a folder, a metadata table, or tar shards by path, glob or range")
    for config in (ReadingConfig, FilterConfig):
        _add_settings(parser, config)
    add("--fit", choices=typing.get_args(Fit), default=DataConfig.fit, help="how pictures are cropped")
    add("--image-size", type=integer(low=8, high=1024), default=64, help="side of the crops, in pixels")
    about = (
        "where the contact sheet goes: a .png or folder, outside of the data (default: data-check.png, here or above)"
    )
    add("--out", type=output_sheet(or_directory=True), help=about)
    add("--json", action="store_true", help="prints the figures as JSON")


def _add_settings(parser: jsonargparse.ArgumentParser, config: type[Config]) -> None:
    """Add an option for each setting of a config; its docstring says what it means."""
    meanings = dict(re.findall(r"^ +(\w+): (.+)\.$", config.__doc__ or "", re.MULTILINE))
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        option, help_text = f"--{field.name.replace('_', '-')}", meanings[field.name]
        help_text = re.sub(r"^[A-Z](?=[a-z])", lambda letter: letter[0].lower(), help_text)
        if field.default is False:
            parser.add_argument(option, action="store_true", help=help_text)
        else:
            parser.add_argument(option, type=hints[field.name], default=field.default, help=help_text)


def _config(arguments: jsonargparse.Namespace) -> DataConfig:
    filters, reading = (
        {field.name: arguments[field.name] for field in dataclasses.fields(config)}
        for config in (FilterConfig, ReadingConfig)
    )
    return DataConfig(path=arguments.path, fit=arguments.fit, filters=FilterConfig(**filters), **reading)


def run(arguments: jsonargparse.Namespace) -> int:
    from dataclasses import asdict

    from trencadis.data import open_source
    from trencadis.data.check import page_of, report_lines, report_of, sections_of, sheet_of
    from trencadis.data.curation import examine, require_kept, require_whole
    from trencadis.storage import write_sheet, write_whole

    config = _config(arguments)
    out = _sheet_path(arguments.out, arguments.path)
    source = open_source(arguments.path, config)
    curated = examine(source, config.filters, progress=True)
    report = report_of(curated)
    sections = sections_of(source, curated, config.filters)
    write_sheet(out, sheet_of(sections, source, curated, config, (arguments.image_size, arguments.image_size)))
    sheets, beside, page = [out], out.with_suffix(".html"), page_of(sections)
    if page is None:
        beside.unlink(missing_ok=True)  # of an earlier check
    else:
        write_whole(beside, page)
        sheets.append(beside)
    if arguments.json:
        written = {"contact_sheet": str(out), "page": None if page is None else str(beside)}
        say_json({"path": arguments.path, **asdict(report), **written}, indent=2)
    else:
        say(*report_lines(report, arguments.path), "", f"contact sheet: {' and '.join(map(str, sheets))}")
    require_kept(curated)
    if config.strict:
        require_whole(curated)
    return 0


def _sheet_path(given: Path | None, data: str) -> Path:
    """Return where the sheet goes. It is never among the data, where it would be one more picture."""
    from trencadis.data.folders import SHEET_NAME
    from trencadis.data.sources import data_folders
    from trencadis.errors import ConfigError

    folders = data_folders(data)
    out = given or Path(SHEET_NAME)
    out = out if out.suffix.lower() == ".png" and not out.is_dir() else out / SHEET_NAME
    around = [folder for folder in folders if out.resolve().is_relative_to(folder)]
    above = min(around, key=lambda folder: len(folder.parts)).parent / SHEET_NAME if around else out
    if around and (given is not None or any(above.is_relative_to(folder) for folder in folders)):
        raise ConfigError(
            f"the contact sheet {out} would lie among the data in {around[0]}",
            expected="a place outside of it",
            remedy="choose another --out",
        )
    for sheet in (above, above.with_suffix(".html")):
        if not is_output_sheet(sheet):
            expected = "an older contact sheet"
            raise ConfigError(f"{sheet} is another file", expected=expected, remedy="choose another --out")
    return above
