"""Datasets made at random out of what people have, each with the pairs that are kept and what is left out."""

import csv
import io
import json
import random
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from PIL import Image

from trencadis.data import curation, pairs
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole

FOLDERS = ("", "", "more", "a b/c.d", "déjà vu", "10_fox", "猫/🐈")
STEMS = ("x", "a.b", "été", "with space", "猫", "IMG", "c:d", "it's")
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".JPEG": "JPEG", ".webp": "WEBP", ".PNG": "PNG", ".Jpg": "JPEG"}
OTHER_SUFFIXES = (".svg", ".psd", ".jxl", ".cr2", ".TGA")
CAPTION_SUFFIXES = (".txt", ".TXT", ".caption", ".json")


@dataclass
class OddData:
    """A dataset below `root`, and what is right of it."""

    root: Path
    random: random.Random
    kept: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    count: int = 0

    def name(self) -> str:
        """Return a new name without a suffix, in one of some folders."""
        self.count += 1
        folder, stem = self.random.choice(FOLDERS), self.random.choice(STEMS)
        return f"{folder}/{stem}{self.count}".removeprefix("/")

    def caption(self) -> str:
        return f"a drawing of number {self.count}"

    def write(self, name: str, content: bytes | str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    def picture(self, suffix: str | None = None) -> str:
        suffix = suffix or self.random.choice([*FORMATS])
        return self.write(f"{self.name()}{suffix}", self.pixels(FORMATS.get(suffix, "PNG")))

    def pixels(self, kind: str = "PNG") -> bytes:
        raw = io.BytesIO()
        colour = tuple(self.random.randrange(256) for _ in range(3))
        Image.new("RGB", (self.random.randrange(20, 30), 24), colour).save(raw, kind)
        return raw.getvalue()

    def caption_file(self, picture: str, content: bytes | str | None = None) -> None:
        """Write a caption under one of the names that it may have."""
        stem, _, suffix = picture.rpartition(".")
        base = self.random.choice([stem, f"{stem}.{suffix}"])
        if self.random.random() < 0.2:
            base = unicodedata.normalize("NFD", base)
        ending = self.random.choice(CAPTION_SUFFIXES)
        text = content or self.caption()
        if ending == ".json":
            text = json.dumps({"url": "u", "text": text}) if isinstance(text, str) else b'{"text": "' + text + b'"}'
        self.write(base + ending, text)

    def fill(self, *steps: Callable[[], None]) -> "OddData":
        """Take each step once, then some of them again, in any order."""
        chosen = [*steps, *self.random.choices(steps, k=self.random.randrange(12))]
        self.random.shuffle(chosen)
        for step in chosen:
            step()
        return self

    def no_data(self) -> None:
        """Write what is neither a picture nor a caption of anybody."""
        run = RunDirectory(self.root / "run")
        write_whole(run.config, "")
        write_whole(run.plan, "{}")
        inside = self.random.choice(["run/samples", "__MACOSX", ".cache", "more/@eaDir"])
        self.write(f"{inside}/{self.random.choice(['image-00000001', '._a'])}.png", self.pixels())
        for name in (
            ".DS_Store",
            "Thumbs.db",
            ".hidden.png",
            "data-check.png",
            "README.txt",
            "notes.json",
            "00000.parquet",
        ):
            if self.random.random() < 0.3:
                self.write(name, b"{}" if name.endswith("json") else b"content")

    def lone_caption(self) -> None:
        self.write(self.name() + self.random.choice([".txt", ".caption"]), self.caption())
        self.left_out[pairs.LONE_CAPTION] += 1

    def other_format(self) -> None:
        name = self.picture(self.random.choice(OTHER_SUFFIXES))
        if self.random.random() < 0.5:
            self.caption_file(name)
        self.left_out[pairs.OTHER_FORMAT] += 1


def odd_folder(root: Path, seed: int) -> OddData:
    """Return a folder with captions beside the pictures."""
    data = OddData(root, random.Random(seed))

    def whole() -> None:
        name = data.picture()
        data.caption_file(name)
        data.kept.add(name)

    def without_caption() -> None:
        data.picture()
        data.left_out[curation.NO_CAPTION] += 1

    def damaged() -> None:
        name = data.write(data.name() + ".png", data.pixels()[:40])
        data.caption_file(name)
        data.left_out[curation.UNREADABLE_PICTURE] += 1

    def caption_in_latin() -> None:
        data.caption_file(data.picture(), "ein König".encode("latin-1"))
        data.left_out[curation.UNREADABLE_CAPTION] += 1

    steps = [whole, without_caption, damaged, caption_in_latin, data.lone_caption, data.other_format, data.no_data]
    data.fill(*steps)
    if data.random.random() < 0.3:
        # Inside a folder: at the top, a shard would be the dataset.
        data.write("more/old.tar", b"")
        data.left_out[pairs.OTHER_DATASET] += 1
    return data


def odd_table(root: Path, seed: int) -> OddData:
    """Return a folder with a table of its pictures."""
    data = OddData(root, random.Random(seed))
    suffix = data.random.choice([".jsonl", ".csv", ".tsv", ".parquet"])
    rows: list[dict[str, Any] | str] = []
    columns = data.random.choice(["file_name", "Image", " path "]), data.random.choice(["caption", "PROMPT", "title "])

    def row(name: str, caption: str | None = None, weight: object = "") -> None:
        rows.append(
            {columns[0]: name, columns[1]: data.caption() if caption is None else caption, "weight": str(weight)}
        )

    def whole() -> None:
        name = data.picture()
        data.kept.add(name)
        spellings = [name, f"./{name}", name.replace("/", "\\"), f"{data.root}/{name}", f"x/../{name}"]
        row(data.random.choice([*spellings, unicodedata.normalize("NFD", name), f"'{name}'"]))

    def gone() -> None:
        row(f"{data.name()}.png")
        data.left_out[curation.NO_PICTURE] += 1

    def without_caption() -> None:
        row(data.picture(), " ")
        data.left_out[curation.NO_CAPTION] += 1

    def unsafe() -> None:
        row(data.random.choice(["../x.png", "/etc/passwd", "C:\\x.png", "https://a.org/x.png", "..\\x.png"]))
        data.left_out[pairs.BROKEN_ROW] += 1

    def bad_weight() -> None:
        row(data.picture(), weight=data.random.choice(["-1", "2", "much", "nan"]))
        data.left_out[pairs.BROKEN_ROW] += 1

    def no_row() -> None:
        if suffix != ".parquet":
            rows.append('{"file_name": ' if suffix == ".jsonl" else '"a" b')
            data.left_out[pairs.BROKEN_ROW] += 1

    def unlisted() -> None:
        name = data.picture()
        if data.random.random() < 0.5:
            data.caption_file(name)
        data.left_out[pairs.UNLISTED] += 1

    def other_format_in_a_row() -> None:
        row(data.write(f"{data.name()}.svg", "<svg/>"))
        data.left_out[curation.UNREADABLE_PICTURE] += 1

    steps = [whole, gone, without_caption, unsafe, bad_weight, no_row, unlisted, other_format_in_a_row]
    data.fill(*steps, data.lone_caption, data.other_format, data.no_data)
    _write_table(data, suffix, rows, (*columns, "weight"))
    return data


def _write_table(data: OddData, suffix: str, rows: list[dict[str, Any] | str], columns: tuple[str, ...]) -> None:
    path = data.root / f"metadata{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    elif suffix == ".parquet":
        whole = [row for row in rows if isinstance(row, dict)]
        table = pyarrow.table({column: [row[column] for row in whole] for column in columns})
        pyarrow.parquet.write_table(table, path, row_group_size=3)
    else:
        with open(path, "w", encoding=data.random.choice(["utf-8", "utf-8-sig"]), newline="") as file:
            delimiter = "\t" if suffix == ".tsv" else data.random.choice(",;")
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(columns)
            for row in rows:
                if isinstance(row, str):
                    file.write(f"{row}\n")
                else:
                    writer.writerow([row[column] for column in columns])


def odd_shards(root: Path, seed: int) -> OddData:
    """Return a folder of shards."""
    data = OddData(root, random.Random(seed))
    members: list[tuple[str, bytes]] = []

    def whole() -> None:
        data.count += 1
        key = f"{data.count:06}"
        members.extend([(f"{key}.jpg", data.pixels("JPEG")), (f"{key}.txt", data.caption().encode())])
        data.kept.add(key)

    def loose() -> None:
        data.picture()
        data.left_out[pairs.LOOSE_PICTURE] += 1

    data.fill(whole, whole, loose, data.lone_caption, data.other_format, data.no_data)
    keys = sorted(data.kept)
    data.kept.clear()
    for number in range(2):
        name = f"{number:05}.tar"
        with tarfile.open(data.root / name, "w") as archive:
            for key in keys[number::2]:
                data.kept.add(f"{name}/{key}")
                for member, content in members:
                    if member.startswith(key):
                        info = tarfile.TarInfo(member)
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))
    return data


def odd_splits(root: Path, seed: int) -> OddData:
    """Return a folder with a table for each of two splits."""
    data = OddData(root, random.Random(seed))
    names = ("train", data.random.choice(["val", "validation", "test"]))
    for number, name in enumerate(names):
        part = odd_table(root / name, 2 * seed + number)
        data.kept |= {f"{name}/{kept}" for kept in part.kept}
        data.left_out += part.left_out
    return data
