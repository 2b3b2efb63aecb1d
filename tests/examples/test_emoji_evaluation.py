"""The measurement: right drawings are called right, and a judge that cannot see gives no figures that look good."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cases
import choose_sampling
import evaluate
import judges
import measures
import pytest
import torch
from candidates import SCORES, Artist, log_probabilities, text_tokens
from cases import Picture
from intervals import gain, share
from judges import Judge, NetworkJudge, PixelJudge, nearest_ratio, places
from PIL import Image
from torch import Tensor

from tests.shapes import draw_shape
from trencadis import DALLE
from trencadis.data.pixels import to_tensor
from trencadis.errors import DataError
from trencadis.image.efficientnet_lite import EfficientNetLite

OTHERS = 9
STYLES = ("flat", "noto")
GROUPS = ("seen",) * 8 + ("role_cell", "colour_cell", "style_cell", "concept")


class Blind:
    """A judge that sees nothing: all pictures are one to it."""

    name = "blind"

    def features(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 4)


@pytest.fixture(autouse=True)
def few_others() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "OTHERS", OTHERS)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset like a build of the example: two styles, and something in every group."""
    folder = tmp_path_factory.mktemp("emoji")
    rows: dict[str, list[str]] = {"train": [], "heldout": []}
    for number in range(72):
        side = "train" if (group := GROUPS[number // 2 % len(GROUPS)]) == "seen" else "heldout"
        style, picture = STYLES[number % 2], draw_shape(number, 32)[0]
        (folder / side / "images").mkdir(parents=True, exist_ok=True)
        name = f"images/{style}-{number}.webp"
        picture.save(folder / side / name, lossless=True)
        row = {"file_name": name, "captions": [f"a ring {number}", f"ring {number}, {style} style"], "weight": 1.0}
        row |= {"style": style, "concept": f"thing {number // 2}"} | ({} if group == "seen" else {"split": group})
        rows[side].append(json.dumps(row) + "\n")
    for side, lines in rows.items():
        (folder / side / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pictures(data: Path) -> list[Picture]:
    return cases.read_dataset(data)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> DALLE:
    return DALLE.from_pretrained(tiny_model)


def drawings(count: int, side: int) -> Tensor:
    return torch.stack([to_tensor(draw_shape(seed, side)[0]) for seed in range(count)])


@pytest.mark.parametrize("side", [32, 96, 128])
def test_a_picture_is_nearest_to_itself_at_any_side(side: int) -> None:
    judge = PixelJudge()
    real, drawn = judge.features(drawings(20, 64)), judge.features(drawings(20, side))
    others = [torch.cat([real[:at], real[at + 1 :]]) for at in range(20)]
    assert [int(places(drawn[at : at + 1], real[at], others[at])[0]) for at in range(20)] == [0] * 20


def test_places_count_what_is_as_near_or_nearer() -> None:
    target, others = torch.tensor([0.0]), torch.tensor([[1.0], [2.0], [3.0]])
    drawn = torch.tensor([[0.1], [0.5], [1.2], [9.0]])
    assert places(drawn, target, others).tolist() == [0, 1, 2, 3]


def test_pixels_are_means_of_areas() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :4] = 1
    features = PixelJudge().features(picture).view(3, 16, 16)
    torch.testing.assert_close(features[0, 0], torch.ones(16), atol=0.1, rtol=0)
    assert float(features[:, 2:].abs().max()) < 0.05
    assert float(features[1:].abs().max()) == 0


def test_a_network_judges_whatever_the_side_of_a_picture() -> None:
    torch.manual_seed(1)
    judge = NetworkJudge(EfficientNetLite("lite1"))
    small, large = judge.features(drawings(4, 64)), judge.features(drawings(4, 128))
    assert small.norm(dim=1).tolist() == pytest.approx([1] * 4, abs=1e-5)
    assert torch.cdist(small, large).argmin(1).tolist() == [0, 1, 2, 3]


def test_captions_are_spread_and_those_of_a_small_run_come_first(pictures: list[Picture]) -> None:
    few, many = (cases.choose(pictures, ["seen"], count) for count in (6, 12))
    assert many[:6] == few
    assert len({pictures[at].concept for at in many}) == 12
    assert [sum(pictures[at].style == style for at in many) for style in STYLES] == [6, 6]
    chosen = cases.chosen(pictures, 6)
    assert {group: len(members) for group, members in chosen.items()} == {
        "seen": 6, "role_cell": 2, "colour_cell": 2, "style_cell": 2, "concept": 2
    }  # fmt: skip
    assert all(pictures[at].group == group for group, members in chosen.items() for at in members)
    assert all(pictures[at].caption.endswith(f"{pictures[at].style} style") for at in chosen["seen"])


def test_others_are_of_the_style_of_other_concepts_and_other_drawings(pictures: list[Picture]) -> None:
    judge = PixelJudge()
    pixels = judge.features(judges.read_pictures([one.path for one in pictures], (64, 64)))
    twin = next(at for at, one in enumerate(pictures) if at and one.style == pictures[0].style)
    pixels[twin] = pixels[0]
    of = cases.features_by_index(range(len(pictures)), pixels)
    pool = cases.pool(pictures)[pictures[0].style]
    case = cases.make_case(pictures, 0, pool, of)
    assert len(set(case.others)) == OTHERS
    assert not {0, twin} & set(case.others)
    assert {pictures[at].style for at in case.others} == {pictures[0].style}
    assert pictures[0].concept not in {pictures[at].concept for at in case.others}
    with pytest.raises(DataError, match=f"expected {OTHERS} or more"):
        cases.make_case(pictures, 0, pool[: OTHERS - 1], of)


def test_wilson_s_interval() -> None:
    # The figures of Newcombe 1998, table I: 81 of 263, and 0 of 20.
    found, none = share([1.0] * 81 + [0.0] * 182), share([0.0] * 20)
    assert found is not None
    assert none is not None
    assert [found.low, found.high] == pytest.approx([0.2553, 0.3662], abs=1e-4)
    assert [none.low, none.high] == pytest.approx([0, 0.1611], abs=1e-4)
    assert share([]) is None


def test_a_gain_s_interval_is_of_pairs() -> None:
    base = [0.0, 1.0] * 50
    same, better = gain(base, base), gain([1.0] * 100, base)
    assert same is not None
    assert better is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert better.value == 0.5
    assert 0.35 < better.low < 0.5 < better.high < 0.65


def test_a_copy_is_found_even_beside_its_twin() -> None:
    known = PixelJudge().features(drawings(20, 64))
    known = torch.cat([known, known[3:4] + 1e-3])
    drawn = torch.stack([known[3] + 2e-3, (known[5] + known[6]) / 2])
    ratios, nearest = nearest_ratio(drawn, known, same=cases.SAME)
    assert int(nearest[0]) in (3, 20)
    assert float(ratios[0]) < measures.COPY_RATIO < float(ratios[1])


def test_log_probabilities_are_those_of_the_training_loss(model: DALLE) -> None:
    text = text_tokens(model, "a red square")
    tokens = torch.randint(model.image_tokenizer.image_vocab_size, (3, *model.image_tokenizer.grid_size))
    found = log_probabilities(model, text[0], tokens)
    with torch.no_grad():
        losses = model.transformer.losses(text.expand(3, -1), tokens)
    assert float(found.sum()) == pytest.approx(-float(losses.image), rel=1e-4)
    without = log_probabilities(model, text_tokens(model, "")[0], tokens)
    images = torch.zeros(3, 3, *model.image_tokenizer.drawn_size)
    ranked = model.ranker_by("likelihood", tokens).score(images, "a red square")
    torch.testing.assert_close(ranked, (found - without) / tokens[0].numel(), atol=1e-4, rtol=1e-4)


def test_drawings_are_those_of_the_model_and_are_drawn_once(
    model: DALLE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def artist() -> Artist:
        return Artist(model, weights="float32", candidates=2, judges=[PixelJudge()], folder=tmp_path)

    caption, other = "a red square", "a blue ring"
    drawn = artist().draw([caption])[caption]
    seed = cases.first_seed(caption)
    expected = model.draw([caption] * 2, [seed, seed + 1])
    torch.testing.assert_close(artist().images(drawn.tokens), expected, atol=1e-5, rtol=0)
    assert model.ranker is not None
    assert drawn.scores.keys() == set(SCORES)
    kept = model.generate(caption, candidates=2, keep=2, seed=seed, ranking="both")
    assert kept.seeds[0] - seed == int(drawn.scores["both"].argmax())
    torch.testing.assert_close(drawn.scores["clip"], model.ranker.score(expected, caption), atol=1e-4, rtol=0)

    asked: list[str] = []
    draw: Callable[..., object] = Artist._drawn

    def listed(self: Artist, captions: list[str]) -> object:
        asked.extend(captions)
        return draw(self, captions)

    monkeypatch.setattr(Artist, "_drawn", listed)
    both = artist().draw([caption, other])
    assert asked == [other]
    torch.testing.assert_close(both[caption].tokens, drawn.tokens)
    torch.testing.assert_close(both[caption].features["pixels"], drawn.features["pixels"], atol=1e-3, rtol=0)
    next(path for path in tmp_path.rglob("*.npz")).write_bytes(b"PK damaged")
    asked.clear()
    artist().draw([caption, other])
    assert len(asked) == 1


def test_a_report_of_a_model(model: DALLE, data: Path, tmp_path: Path) -> None:
    judges_of_it: list[Judge] = [PixelJudge(), Blind()]
    tables = evaluate.evaluate(model, data, tmp_path, captions=6, candidates=2, weights="float32", judges=judges_of_it)
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert (tmp_path / "evaluation.md").read_text() == tables
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500
    assert len(report["captions"]) == 14
    shares = {(row["judge"], row["group"], row["choice"], row["top"]): row["share"] for row in report["shares"]}
    assert shares["pixels", "seen", "first", 1]["count"] == shares["pixels", "cells", "any", 5]["count"] == 6
    for judge, group in [("pixels", "seen"), ("pixels", "cells")]:
        values = {choice: shares[judge, group, choice, 5]["value"] for choice in ("first", "mean", "clip", "any")}
        assert values["any"] >= max(values.values())
    # A judge that sees nothing is noticed: real pictures are not right either.
    assert report["ceiling"]["pixels"]["value"] > 0
    assert report["ceiling"]["blind"]["value"] == 0
    assert all(shares["blind", "seen", choice, 5]["value"] == 0 for choice in ("first", "any"))
    assert set(report["bits_per_token"]) == set(cases.GROUPS)
    assert all(0 < bits < 20 for bits in report["bits_per_token"].values())
    assert report["copies"]["real held-out pictures"]["count"] == 24
    assert "| seen captions | 6 |" in tables


@pytest.mark.parametrize(("seen", "least", "most"), [("itself", 1, 1), ("another", 0, 0.1), ("noise", 0, 0.3)])
def test_the_ceiling_says_whether_a_judge_and_a_tokenizer_see(
    pictures: list[Picture], seen: str, least: float, most: float
) -> None:
    everything = range(len(pictures))
    features = PixelJudge().features(judges.read_pictures([one.path for one in pictures], (64, 64)))
    of = cases.features_by_index(everything, features)
    pool = cases.pool(pictures)
    made = [cases.make_case(pictures, at, pool[pictures[at].style], of) for at in everything]
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(72, 768, generator=generator)
    shown = {"itself": features, "another": features.roll(2, 0), "noise": noise}[seen]
    rebuilt = cases.features_by_index(everything, shown)
    found = measures.ceiling(made, pictures, {"pixels": of}, lambda indices: {"pixels": rebuilt(indices)})["pixels"]
    assert found is not None
    assert least <= found.value <= most


def test_the_command_prints_the_tables(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "default_judges", lambda: [PixelJudge()])
    folders = ["--data", str(data), "--out", str(tmp_path)]
    assert evaluate.main([str(tiny_model), *folders, "--captions", "3", "--candidates", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "evaluation.md").read_text()
    assert "| seen captions | 3 |" in printed


def test_settings_are_compared_on_captions_that_no_evaluation_draws(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choose_sampling, "default_judges", lambda: [PixelJudge()])
    monkeypatch.setattr(cases, "MOST_EVALUATED", 6)
    everything = cases.read_dataset(data)
    spare = cases.spare(everything, 3)
    assert {everything[at].group for at in spare} == {"seen"}
    assert not {*spare} & {*cases.chosen(everything, 6)["seen"]}
    settings = ["--guidance-scale", "1", "3", "--top-p", "0.5", "1", "--captions", "3", "--candidates", "2"]
    assert choose_sampling.main([str(tiny_model), "--data", str(data), "--out", str(tmp_path), *settings]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        [scale, top_p, "1"] for scale in ("1", "3") for top_p in ("0.5", "1")
    ]
    # Each setting has drawings of its own.
    assert len([path for path in (tmp_path / "drawings").iterdir() if path.is_dir()]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--captions", "2"], "--captions is 2"), (["--candidates", "0"], "--candidates is 0")],
)
def test_numbers_out_of_range_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        evaluate.main(["emoji", "--data", str(tmp_path), "--out", str(tmp_path), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_dataset_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "default_judges", list)
    assert evaluate.main(["emoji", "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "metadata.jsonl is not there; expected a folder with train/ and heldout/" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
