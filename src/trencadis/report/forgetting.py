"""What a tuned model has forgotten, as a section of the report."""

import html
from typing import Any

from trencadis.report.pictures import read_picture
from trencadis.report.stage_records import is_number
from trencadis.run_directory import RunDirectory

MOST_ROWS = 10


def figures(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the numbers of `forgetting.json`: name, value and unit; none where it is damaged."""
    numbers = [float(found[name]) for name in ("bits_before", "bits_after", "error_bits") if is_number(found.get(name))]
    if len(numbers) < 3:
        return []
    before, after, error = numbers
    return [
        ("before", f"{before:.3f}", "bits/token"),
        ("after", f"{after:.3f}", "bits/token"),
        ("forgotten", f"{after - before:.3f} ± {error:.3f}", "bits/token"),
    ]


def most_forgotten(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the captions whose drawings gained most bits, with these bits."""
    gained = found.get("gained_by_caption")
    rows = [(name, bits) for name, bits in gained.items() if is_number(bits)] if isinstance(gained, dict) else []
    rows.sort(key=lambda row: -row[1])
    return [(caption, f"{bits:+.3f}") for caption, bits in rows[:MOST_ROWS]]


def sheets(run: RunDirectory) -> str:
    """Return drawings of old captions before and after, where they are there."""
    shown = []
    for title, path in (("before", run.old_before), ("after", run.old_after)):
        if (picture := read_picture(path)) is not None:
            image = f'<img src="{picture.data_uri}" width="{picture.width}" height="{picture.height}" alt="{title}">'
            shown.append(f"<figure>{image}<figcaption>{html.escape(title)}</figcaption></figure>")
    return f'<div class="pictures strip">{"".join(shown)}</div>' if shown else ""
