"""From what the user typed to pairs."""

from pathlib import Path

from trencadis.data.files import open_folder
from trencadis.data.table import TABLE_NAMES, open_table
from trencadis.errors import DataError
from trencadis.protocols import PairSource


def open_source(path: str) -> PairSource:
    """Return the pairs at a path."""
    place = Path(path)
    if place.is_dir():
        for name in TABLE_NAMES:
            if (place / name).is_file():
                return open_table(place / name)
        return open_folder(place)
    if place.name.lower().endswith((".jsonl", ".csv", ".parquet")):
        return open_table(place)
    raise DataError(f"nothing at {path}", expected="a folder", remedy="check the path")
