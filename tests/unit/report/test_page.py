import base64
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from PIL import Image

from trencadis.report.page import duration, write_report
from trencadis.report.panels import panels_of
from trencadis.report.pictures import chosen_pictures
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog

VOID = {"meta", "img", "br", "path", "circle", "rect"}


class Page(HTMLParser):
    """Reads a page, and fails where its tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text("utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data + "\n"

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def write_picture(run_directory: Path, stage: str, step: int, size: tuple[int, int] = (32, 8)) -> None:
    (run_directory / "samples").mkdir(exist_ok=True)
    Image.new("RGB", size, (step % 256, 80, 120)).save(run_directory / "samples" / f"{stage}-{step:08d}.png")


def write_log(run_directory: Path) -> None:
    # The lines are written as they stand so that the times are known.
    lines: list[dict[str, object]] = [{"stage": "text", "step": 0, "elapsed_s": 4.0, "vocab_size": 300}]
    for step in range(1, 41):
        lines.append({"stage": "image", "step": step, "elapsed_s": 4.0 + 30 * step, "loss": 2 / step, "psnr": 20.0})
    lines.append({"stage": "image", "step": 40, "elapsed_s": 1204.0, "validation_psnr": 23.456, "code_use": 0.875})
    lines.append({"stage": "transformer", "step": 1, "elapsed_s": 1264.0, "loss": None, "image_loss": math.log(2) * 9})
    (run_directory / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "tr')


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "cats & dogs <3"
    directory.mkdir()
    config = {"recipe": "tiny", "hours": 1.0, "text": {"vocab_size": 300}}
    config |= {"image": {"steps": 40}, "transformer": {"steps": 1000}, "ranker": {"steps": 500}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    choice = {"what": "recipe", "value": "tiny", "why": "it is <small>"}
    (directory / "plan.json").write_text(json.dumps({"choices": [choice]}))
    data = {"train": 1000, "validation": 20, "kept": 1020, "dropped": {"no caption": 5, "too small": 1500}}
    (directory / "data.json").write_text(json.dumps(data))
    write_log(directory)
    for step in range(1, 41):
        write_picture(directory, "image", step)
    write_picture(directory, "transformer", 1)
    (directory / "samples" / "captions.json").write_text(json.dumps(["a <b>red</b> heart"]))
    (directory / "samples" / "codes.json").write_text(json.dumps([5, 0, 15, 0]))
    Image.new("RGB", (24, 16), (9, 8, 7)).save(directory / "samples" / "codes.png")
    return directory


def test_the_page_tells_the_run(run_directory: Path) -> None:
    path = write_report(RunDirectory(run_directory))
    assert path == run_directory / "report.html"
    page = Page(path)
    for said in (
        "cats & dogs <3",
        "Recipe tiny, 1,020 captioned pictures, planned for 60 min.",
        "it is <small>",
        "1,505",  # left out
        "too small",
        "23.5",  # dB
        "87.5",  # % of the codes
        "a <b>red</b> heart",
        "2 of 4 codes are in use; the most used one stands for 75 % of the tokens.",
        "Image tokens",
    ):
        assert said in page.text, said
    rows = re.findall(r"<tr>(.*?)</tr>", page.source.partition("</header>")[0])
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows[1:]]
    assert cells == [
        ["Text tokenizer", "done", "", "4 s"],
        ["Image tokenizer", "done", "40 of 40", "20 min"],
        ["Transformer", "training", "1 of 1,000", "60 s"],
        ["Ranker", "to come", "500", ""],
        ["All stages", "", "", "21 min"],
    ]


def test_the_page_holds_all_it_shows(run_directory: Path) -> None:
    page = Page(write_report(RunDirectory(run_directory)))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    addresses = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(value is not None and value.startswith("data:image/") for value in addresses)
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page.source) == []
    for svg in re.findall(r"<svg xmlns.*?</svg>", page.source, re.DOTALL):
        ElementTree.fromstring(svg)


def test_pictures_are_the_first_some_between_and_the_last(run_directory: Path) -> None:
    page = Page(write_report(RunDirectory(run_directory)))
    said = [attributes["alt"] for attributes in page.named("img")]
    steps = (1, 11, 21, 30, 40)
    expected = ["What the codes draw", "Drawings after step 1"]
    assert said == [f"Reconstructions after step {step}" for step in steps] + expected
    first = page.named("img")[0]["src"]
    assert first is not None
    with Image.open(io.BytesIO(base64.b64decode(first.partition(",")[2]))) as image:
        assert image.size == (32, 8)
        assert image.getpixel((0, 0)) == (1, 80, 120)


def test_codes_are_shown_as_the_whole_training_set_uses_them(run_directory: Path) -> None:
    page = Page(write_report(RunDirectory(run_directory)))
    codes = page.text.partition("\nCodes\n")[2].partition("\nTransformer\n")[0]
    perplexity = math.exp(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    for said in ("50", "codes in use, all training pictures", f"{perplexity:.3g}", "code perplexity, all training"):
        assert said in codes, said
    (portraits,) = [image["src"] for image in page.named("img") if image["alt"] == "What the codes draw"]
    assert portraits is not None
    with Image.open(io.BytesIO(base64.b64decode(portraits.partition(",")[2]))) as image:
        assert (image.size, image.getpixel((0, 0))) == ((24, 16), (9, 8, 7))
    assert "the outlined square is the code's own token" in codes


def test_the_crops_that_training_sees_are_shown(run_directory: Path) -> None:
    Image.new("RGB", (24, 16), (1, 2, 3)).save(run_directory / "samples" / "training-pictures.png")
    page = Page(write_report(RunDirectory(run_directory)))
    assert page.named("img")[0]["alt"] == "What training sees"
    assert page.text.index("\nData\n") < page.text.index("\nCrops\n") < page.text.rindex("\nImage tokenizer\n")


def test_codes_are_shown_as_far_as_they_are_known(run_directory: Path) -> None:
    samples = run_directory / "samples"
    (samples / "codes.png").write_bytes((samples / "codes.png").read_bytes()[:40])
    text = Page(write_report(RunDirectory(run_directory))).text
    assert "all training pictures" in text
    assert "outlined" not in text
    (samples / "codes.json").unlink()
    assert "\nCodes\n" not in Page(write_report(RunDirectory(run_directory))).text
    Image.new("RGB", (4, 4)).save(samples / "codes.png")
    text = Page(write_report(RunDirectory(run_directory))).text
    assert "all training pictures" not in text
    assert "outlined" in text


def test_codes_are_shown_of_a_tokenizer_that_the_run_was_given(run_directory: Path) -> None:
    lines = (run_directory / "log.jsonl").read_text().splitlines()
    (run_directory / "log.jsonl").write_text("\n".join(line for line in lines if '"image"' not in line) + "\n")
    text = Page(write_report(RunDirectory(run_directory))).text
    assert "all training pictures" in text
    assert text.index("\nImage tokenizer\n") < text.index("\nCodes\n") < text.rindex("\nTransformer\n")


def test_large_pictures_are_packed(run_directory: Path) -> None:
    noise = Image.effect_noise((1000, 700), 90)
    noise.convert("RGB").save(run_directory / "samples" / "ranker-00000001.png")
    (picture,) = chosen_pictures(RunDirectory(run_directory), "ranker")
    assert picture.data_uri.startswith("data:image/webp;base64,")
    assert len(picture.data_uri) < (run_directory / "samples" / "ranker-00000001.png").stat().st_size
    assert (picture.width, picture.height, picture.is_wide) == (1000, 700, False)


def test_damaged_pictures_are_left_out(run_directory: Path) -> None:
    samples = run_directory / "samples"
    for path in samples.glob("image-*.png"):
        path.write_bytes(path.read_bytes()[:50])
    (samples / "image-00000099.png").mkdir()
    assert chosen_pictures(RunDirectory(run_directory), "image") == []
    assert chosen_pictures(RunDirectory(run_directory / "absent"), "image") == []
    assert [p.step for p in chosen_pictures(RunDirectory(run_directory), "transformer")] == [1]


def test_a_run_of_nothing_has_a_page(tmp_path: Path) -> None:
    assert "Nothing has been trained yet." in Page(write_report(RunDirectory(tmp_path))).text


NONSENSE = [None, b"", b"\xff\xfe\x00", b"[]", b"{}", b"null", b"3", b'"text"', b'{"choices": 3, "dropped": [1]}']
NONSENSE += [b'{"stage": "image", "step": "x", "elapsed_s": null}\n', b'{"image": {"steps": "many"}, "hours": .inf}']
NONSENSE += [b'{"choices": [1, {"what": null}], "kept": "all", "dropped": {"a": "b"}}', b"a: [", b"[null, -1, 2.5, {}]"]
NONSENSE += [b"[1, 1" + 30 * b"0" + b", true]"]


@pytest.mark.parametrize("content", NONSENSE)
@pytest.mark.parametrize(
    "name", ["config.yaml", "plan.json", "data.json", "log.jsonl", "samples/captions.json", "samples/codes.json"]
)
def test_nothing_that_is_missing_or_damaged_stops_it(run_directory: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (run_directory / name).unlink()
    else:
        (run_directory / name).write_bytes(content)
    assert "cats & dogs <3" in Page(write_report(RunDirectory(run_directory))).text


def test_it_is_written_again_as_the_run_goes_on(run_directory: Path) -> None:
    shutil.rmtree(run_directory / "samples")
    with RunLog(RunDirectory(run_directory)) as log:
        for step in range(2, 100):
            log.append("transformer", step, {"image_loss": 1.0, "skipped": 0.0})
            log.append("transformer", step, {"loss": math.nan})
            if step in (2, 99):
                write_report(RunDirectory(run_directory))
    assert "99 of 1,000" in Page(run_directory / "report.html").text


def test_metrics_share_charts_and_strangers_get_their_own() -> None:
    lines = [
        {"stage": "ranker", "step": 1, "elapsed_s": 1.0, "loss": 1.0, "skipped": 0.0, "my_metric": 2.0},
        {"stage": "ranker", "step": 1, "elapsed_s": 1.0, "validation_loss": 1.0, "validation_my_metric": 2.0},
    ]
    assert [panel.title for panel in panels_of("ranker", lines)] == ["Loss", "My metric"]
    assert [trace.metric for trace in panels_of("ranker", lines)[1].traces] == ["my_metric", "validation_my_metric"]
    skipped = [{**lines[0], "skipped": 2.0}]
    assert "Updates skipped" in [panel.title for panel in panels_of("ranker", skipped)]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, ""), (0.4, "0 s"), (89, "89 s"), (90, "2 min"), (7140, "119 min"), (7200, "2 h"), (11_100, "3 h 05 min")],
)
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
