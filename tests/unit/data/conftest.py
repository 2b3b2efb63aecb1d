"""Small datasets of every kind that the reader knows."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

Members = Sequence[tuple[str, bytes]]


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """Return a maker of picture files: one colour each."""

    def make(size: tuple[int, int] = (32, 32), colour: str = "red", kind: str = "PNG", **options: object) -> bytes:
        raw = io.BytesIO()
        Image.new("RGB", size, colour).save(raw, kind, **options)
        return raw.getvalue()

    return make


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., bytes]) -> Path:
    """Return a folder with three captioned pictures of three kinds, one of them in a subfolder."""
    root = tmp_path / "pairs"
    (root / "more").mkdir(parents=True)
    for name, kind, colour in (("b.PNG", "PNG", "red"), ("a.jpg", "JPEG", "lime"), ("more/c.webp", "WEBP", "blue")):
        (root / name).write_bytes(picture(colour=colour, kind=kind))
        (root / name).with_suffix(".txt").write_text(f"a {colour} square\n\n  the colour {colour}  \n", "utf-8")
    return root


@pytest.fixture
def tar() -> Callable[..., Path]:
    """Return a maker of shards from names and contents."""

    def make(path: Path, members: Members, mode: str = "w") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return make


@pytest.fixture
def table(tmp_path: Path, picture: Callable[..., bytes]) -> Callable[..., Path]:
    """Return a maker of `metadata.jsonl` beside the pictures a.png and b.png."""

    def make(*rows: object, name: str = "metadata.jsonl") -> Path:
        for picture_name in ("a.png", "b.png"):
            (tmp_path / picture_name).write_bytes(picture())
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return make
