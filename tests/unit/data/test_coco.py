import json
from collections.abc import Callable
from pathlib import Path

import pytest

from trencadis.data import ListedSource, open_source
from trencadis.data.pairs import NO_FOLDER, UNLISTED
from trencadis.errors import DataError


@pytest.fixture
def coco(tmp_path: Path, picture: Callable[..., bytes]) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2014").mkdir()
    for number in (1, 2):
        (tmp_path / "val2014" / f"{number}.jpg").write_bytes(picture(kind="JPEG"))
    content = {
        "images": [{"id": 7, "file_name": "1.jpg"}, {"id": 8, "file_name": "2.jpg"}],
        "annotations": [{"image_id": 7, "caption": "one\n"}, {"image_id": 7, "caption": "uno"}],
    }
    (tmp_path / "annotations" / "captions_val2014.json").write_text(json.dumps(content))
    return tmp_path


def test_coco(coco: Path) -> None:
    source = open_source(str(coco))
    assert [source.sample_id(index) for index in range(2)] == ["val2014/1.jpg", "val2014/2.jpg"]
    assert (source.captions(0), source.captions(1)) == (("one", "uno"), ())
    assert source.image_bytes(0) == (coco / "val2014" / "1.jpg").read_bytes()


def test_coco_pictures_in_images(coco: Path) -> None:
    (coco / "val2014").rename(coco / "images")
    assert open_source(str(coco)).sample_id(0) == "images/1.jpg"


def test_coco_names_stay_in_the_folder(coco: Path) -> None:
    content = {"images": [{"id": 1, "file_name": "../../../etc/passwd"}], "annotations": []}
    (coco / "annotations" / "captions_val2014.json").write_text(json.dumps(content))
    assert open_source(str(coco)).sample_id(0) == "val2014/passwd"


def other_split(coco: Path) -> Path:
    content = {"images": [{"id": 1, "file_name": "9.jpg"}], "annotations": [{"image_id": 1, "caption": "nine"}]}
    path = coco / "annotations" / "captions_train2014.json"
    path.write_text(json.dumps(content))
    return path


def test_one_split_of_coco_suffices(coco: Path) -> None:
    other_split(coco)
    source = open_source(str(coco))
    assert [source.sample_id(index) for index in range(len(source))] == ["val2014/1.jpg", "val2014/2.jpg"]
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [("annotations/captions_train2014.json", NO_FOLDER)]
    assert not source.held_out


def test_cocos_own_split_is_held_out(coco: Path, picture: Callable[..., bytes]) -> None:
    other_split(coco)
    (coco / "train2014").mkdir()
    (coco / "train2014" / "9.jpg").write_bytes(picture())
    (coco / "val2014" / "3.jpg").write_bytes(picture())
    source = open_source(str(coco))
    assert isinstance(source, ListedSource)
    assert [source.sample_id(index) for index in sorted(source.held_out)] == ["val2014/1.jpg", "val2014/2.jpg"]
    assert [(one.name, one.reason) for one in source.omitted] == [("val2014/3.jpg", UNLISTED)]


def test_what_is_damaged_in_coco_is_left_out(coco: Path) -> None:
    other_split(coco).write_text("{")
    (coco / "train2014").mkdir()
    path = coco / "annotations" / "captions_val2014.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 9})
    content["annotations"].append(7)
    path.write_text(json.dumps(content))
    source = open_source(str(coco))
    assert len(source) == 2
    assert isinstance(source, ListedSource)
    assert [(one.name, one.reason) for one in source.omitted] == [
        ("annotations/captions_train2014.json", "damaged table"),
        ("annotations/captions_val2014.json, annotation 3", "broken row"),
        ("annotations/captions_val2014.json, image 3", "broken row"),
    ]


def test_coco_without_its_pictures_is_refused(coco: Path) -> None:
    for path in (coco / "val2014").iterdir():
        path.unlink()
    (coco / "val2014").rmdir()
    with pytest.raises(DataError, match="no pictures of val2014"):
        open_source(str(coco))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"images": [{}], "annotations": []}'])
def test_damaged_coco_is_refused(coco: Path, content: str) -> None:
    (coco / "annotations" / "captions_val2014.json").write_text(content)
    with pytest.raises(DataError, match=r"captions_val2014\.json cannot be read"):
        open_source(str(coco))


@pytest.mark.parametrize("captions", ["text_c10", "text/text_c10", "text"])
def test_cub(tmp_path: Path, picture: Callable[..., bytes], captions: str) -> None:
    for root in (tmp_path / "images", tmp_path / captions):
        (root / "001.Albatross").mkdir(parents=True)
    (tmp_path / "images" / "001.Albatross" / "bird_0.1.jpg").write_bytes(picture(kind="JPEG"))
    (tmp_path / captions / "001.Albatross" / "bird_0.1.txt").write_text("a bird\na large bird\n")
    source = open_source(str(tmp_path))
    assert source.sample_id(0) == "001.Albatross/bird_0.1.jpg"
    assert source.captions(0) == ("a bird", "a large bird")
