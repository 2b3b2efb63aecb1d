"""`trencadis data`: looks at a dataset."""

from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import integer, real
from trencadis.config import FilterConfig

HELP = "reads a dataset, counts, and shows what would be dropped and why"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Declare `check` and its arguments."""
    parser.add_argument("action", choices=["check"], help="what to do: check counts, and changes nothing")
    parser.add_argument("path", type=str, help="a folder, a metadata table, or tar shards by path, glob or range")
    defaults = FilterConfig()
    parser.add_argument("--language", type=str, default=None, help="ISO 639 code of the captions to keep, such as en")
    parser.add_argument(
        "--min-caption-chars", type=integer(low=0), default=defaults.min_caption_chars, help="shortest caption kept"
    )
    parser.add_argument("--keep-boilerplate", action="store_true", help='keeps captions such as "taken on 3 May 2011"')
    ratio = real(low=0, low_open=True)
    parser.add_argument(
        "--min-aspect-ratio", type=ratio, default=defaults.min_aspect_ratio, help="narrowest picture, width over height"
    )
    parser.add_argument("--max-aspect-ratio", type=ratio, default=defaults.max_aspect_ratio, help="widest picture kept")
    parser.add_argument(
        "--min-image-side", type=integer(low=1), default=defaults.min_image_side, help="smallest short edge, in pixels"
    )
    parser.add_argument(
        "--max-image-pixels", type=integer(low=1), default=defaults.max_image_pixels, help="largest picture, in pixels"
    )
    parser.add_argument(
        "--out", type=str, default="data-check.png", help="where the contact sheet goes: a .png or folder"
    )
    parser.add_argument("--json", action="store_true", help="prints the figures as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    """Print the figures, write the contact sheet, and refuse a dataset of which nothing is left."""
    import json
    from dataclasses import asdict
    from io import BytesIO

    from trencadis.data import open_source
    from trencadis.data.check import report_lines, report_of, sheet_of
    from trencadis.data.curation import examine, require_kept
    from trencadis.storage import write_whole

    filters = FilterConfig(
        min_caption_chars=arguments.min_caption_chars,
        language=arguments.language,
        boilerplate=not arguments.keep_boilerplate,
        min_aspect_ratio=arguments.min_aspect_ratio,
        max_aspect_ratio=arguments.max_aspect_ratio,
        min_image_side=arguments.min_image_side,
        max_image_pixels=arguments.max_image_pixels,
    )
    source = open_source(arguments.path)
    curated = examine(source, filters, progress=True)
    report, out = report_of(curated), _sheet_path(Path(arguments.out))
    drawn = BytesIO()
    sheet_of(source, curated, filters).save(drawn, "PNG")
    write_whole(out, drawn.getvalue())
    if arguments.json:
        print(json.dumps({"path": arguments.path, **asdict(report), "contact_sheet": str(out)}, indent=2))
    else:
        print("\n".join([*report_lines(report, arguments.path), "", f"contact sheet: {out}"]))
    require_kept(curated)
    return 0


def _sheet_path(out: Path) -> Path:
    """Return the file for the contact sheet where a file or a folder may be named."""
    out = out.expanduser()
    return out if out.suffix.lower() == ".png" and not out.is_dir() else out / "data-check.png"
