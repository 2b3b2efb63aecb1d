"""Draws the figures of `relaxation.md` and measures their numbers: `python docs/draw_relaxation.py --model DIR`."""

import argparse
import html
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor

from trencadis import DALLE
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow, to_tensor
from trencadis.image import Categorical, DiscreteVAE, psnr, relax, standard_gumbel
from trencadis.report.charts import Point, curve
from trencadis.storage import write_picture, write_whole

IMAGES = Path(__file__).parent / "images"
LOGITS = torch.tensor([1.2, 0.4, 2.0, -0.5, 0.9, -1.5, 1.5, 0.0])
DRAWS, SAMPLES, SEED = 10_000, 6, 7
TEMPERATURES = {"4": 4.0, "1": 1.0, "1/4": 1 / 4, "1/16": 1 / 16}
TALL = 56  # pixels of a bar that has all of it
PICTURES, SIDE = 16, 64
PAINTS = ("#dd2e44", "#f4900c", "#ffcc4d", "#78b159", "#3b88c3", "#8e5bb0", "#8a4b38", "#31373d")

# A card of its own, in the reader's scheme: it looks the same on pages of either.
STYLE = """<style>
.card{--paper:#ffffff;--ink:#24292f;--muted:#5c636b;--line:#a8a59f;--grid:#e7e5e0;--a:#0072b2;--b:#c74e00;--box:#f4f1eb}
@media (prefers-color-scheme:dark){.card{--paper:#16181c;--ink:#e8e6e3;--muted:#a3a7ad;--line:#5b616a;--grid:#2b2f35;--a:#56b4e9;--b:#f0803c;--box:#22262c}}
.card{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;font-variant-numeric:tabular-nums}
.card text{fill:var(--muted)}.card .ink{fill:var(--ink)}.card .name{fill:var(--ink);font-size:14px;font-weight:600}
.card .small{font-size:10px}.card .middle{text-anchor:middle}.card .end{text-anchor:end}
</style>"""  # noqa: E501


def main() -> None:
    """Write all of them."""
    parser = argparse.ArgumentParser(description="Draws the figures of relaxation.md.")
    parser.add_argument("--model", required=True, help="a model directory whose image tokenizer has categorical codes")
    model = parser.parse_args().model
    write_whole(IMAGES / "gumbel-max.svg", gumbel_max())
    write_whole(IMAGES / "gumbel-softmax.svg", gumbel_softmax())
    write_whole(IMAGES / "gradients.svg", gradients())
    tokenizer, originals = DALLE.from_pretrained(model).image_tokenizer, drawings()
    write_whole(IMAGES / "relaxed-psnr.svg", relaxed_psnr(tokenizer, originals))
    write_picture(IMAGES / "relaxed.png", relaxed_pictures(tokenizer, originals[:3]))


# Gumbel-max


def frequencies(seed: int, relaxation_temperature: float | None = None) -> Float[Tensor, " codes"]:
    """Return how often each code is sampled; with a temperature, how often it is the largest of a relaxed choice."""
    noise = standard_gumbel((DRAWS, len(LOGITS)), generator=torch.Generator().manual_seed(seed))
    logits = LOGITS.expand(DRAWS, -1)
    if relaxation_temperature is None:
        tokens = (logits + noise).argmax(dim=-1)
    else:
        tokens = relax(logits, noise, relaxation_temperature).argmax(dim=-1)
    return torch.bincount(tokens, minlength=len(LOGITS)) / DRAWS


def chi_square(observed: Float[Tensor, " codes"]) -> tuple[float, float]:
    """Return the chi-square statistic of sampled frequencies, and its p-value."""
    expected = LOGITS.double().softmax(dim=0)
    statistic = DRAWS * ((observed.double() - expected).square() / expected).sum()
    freedom = torch.tensor((len(LOGITS) - 1) / 2, dtype=torch.float64)
    return float(statistic), float(torch.special.gammaincc(freedom, statistic / 2))


def gumbel_max() -> str:
    """Return bars of the softmax and of the frequencies beside it."""
    observed, expected = frequencies(SEED), LOGITS.softmax(dim=0)
    statistic, exceeded = chi_square(observed)
    width, bottom, tall, slot = 720, 290, 178, 82
    freedom = f"{len(LOGITS) - 1} degrees of freedom"
    said = f"χ² = {statistic:.2f} with {freedom}; {100 * exceeded:.0f} % of exact samples exceed that"
    parts = [
        text(24, 34, f"The arg max of logits with Gumbel noise, {DRAWS:,} times", "name"),
        text(24, 54, said),
        *legend(24, 76, (("a", "softmax(logits)"), ("b", "frequency of the arg max"))),
        line(24, bottom, width - 24, bottom),
    ]
    for code, (share, frequency) in enumerate(zip(expected.tolist(), observed.tolist(), strict=True)):
        left = 36 + code * slot
        for offset, value, colour in ((0, share, "a"), (33, frequency, "b")):
            height = tall * value / max(expected.tolist() + observed.tolist())
            parts.append(bar(left + offset, bottom - height, 30, height, colour))
            parts.append(text(left + offset + 15, bottom - height - 4, f"{value:.3f}", "small middle"))
        parts.append(text(left + 31, bottom + 17, f"code {code}", "ink middle"))
        parts.append(text(left + 31, bottom + 32, f"logit {LOGITS[code]:.1f}".replace("-", "−"), "small middle"))
    return card(width, 338, "Frequencies of the arg max of logits with Gumbel noise, beside the softmax", parts)


# Gumbel-softmax


def gumbel_softmax() -> str:
    """Return a few relaxed choices at each temperature, with the same noise in each column, and their arg max."""
    noise = standard_gumbel((SAMPLES, len(LOGITS)), generator=torch.Generator().manual_seed(SEED))
    width, row, cell = 880, 92, 96
    last = 96 + SAMPLES * cell + 26
    parts = [
        text(24, 34, "Relaxed choices: softmax((logits + noise) / τ)", "name"),
        text(96, 60, "six samples, each column with the same noise"),
        *legend(96, 80, (("b", "the largest code"), ("a", "the others"))),
        text(last, 60, f"arg max of {DRAWS:,} samples"),
        *legend(last, 80, (("b", "frequency"), ("a", "softmax"))),
    ]
    for number, (name, temperature) in enumerate(TEMPERATURES.items()):
        bottom = 162 + number * row
        parts.append(text(24, bottom - TALL / 2 + 4, f"τ = {name}", "ink"))
        points = relax(LOGITS.expand(SAMPLES, -1), noise, temperature)
        for sample, point in enumerate(points.tolist()):
            parts += point_bars(96 + sample * cell, bottom, point)
        parts += arg_max_bars(last, bottom, frequencies(SEED + 1 + number, temperature))
    return card(width, 162 + 3 * row + 34, "Samples of the relaxed choice at four temperatures", parts)


def point_bars(left: float, bottom: float, point: list[float]) -> list[str]:
    """Return bars of one relaxed choice; a share of 1 reaches the top, and the largest has its own colour."""
    largest = max(range(len(point)), key=point.__getitem__)
    parts = [line(left, bottom, left + 10 * len(point), bottom)]
    for code, value in enumerate(point):
        parts.append(bar(left + 10 * code, bottom - TALL * value, 8, TALL * value, "b" if code == largest else "a"))
    top = bottom - TALL * point[largest]
    return [*parts, text(left + 10 * largest + 4, top - 3, f"{point[largest]:.2f}", "small middle")]


def arg_max_bars(left: float, bottom: float, observed: Float[Tensor, " codes"]) -> list[str]:
    """Return how often each code was the largest, with marks at the softmax."""
    statistic, _ = chi_square(observed)
    scale = TALL / 0.45
    parts = [
        line(left, bottom, left + 14 * len(observed), bottom),
        text(left, bottom + 15, f"χ² = {statistic:.2f}", "small"),
    ]
    for code, (share, frequency) in enumerate(zip(LOGITS.softmax(dim=0).tolist(), observed.tolist(), strict=True)):
        x, mark = left + 14 * code, bottom - scale * share
        parts.append(bar(x, bottom - scale * frequency, 11, scale * frequency, "b"))
        parts.append(line(x - 1, mark, x + 12, mark, "a", 2))
    return parts


# The three ways of the gradient


def gradients() -> str:
    """Return the forward computation and the path of the gradient."""
    width, panel = 780, 250
    parts = [
        *legend(24, 30, (("a", "forward"), ("b", "gradient"))),
        *way(24, "gumbel", "the paper's", noise=True, hard=False),
        *way(24 + panel, "straight_through", "hard, with noise", noise=True, hard=True),
        *way(24 + 2 * panel, "ibq", "hard, without noise", noise=False, hard=True),
    ]
    return card(width, 372, "What the decoder is given forwards, and the way of the gradient back", parts)


def way(left: float, name: str, said: str, *, noise: bool, hard: bool) -> list[str]:
    """Return one relaxation: boxes from the logits down to the decoder, and arrows."""
    middle, top = left + 112, 66
    lanes = (left + 58, left + 166) if hard else (middle, middle)
    soft = "softmax(· / τ)" if noise else "softmax"
    first, second, third, fourth = top + 30, top + 96, top + 172, top + 248
    parts = [text(left, top, name, "name"), text(left, top + 17, said)]
    parts += box(middle, first, 116, "logits + noise" if noise else "logits")
    if hard:
        parts += box(lanes[0], second, 88, "arg max") + box(lanes[1], second, 104, soft)
        parts += box(lanes[0], third, 88, "a corner")
    else:
        parts += box(middle, second, 116, soft) + box(middle, third, 116, "a point")
    parts += box(middle, fourth, 150, "× codebook, decoder")
    down, up = ((lanes[0], middle - 30), (lanes[1], middle + 30)) if hard else ((middle - 14,) * 2, (middle + 14,) * 2)
    parts += [
        arrow(down[1], first + 32, down[0], second, "a"),
        arrow(down[0], second + 32, down[0], third, "a"),
        arrow(down[0], third + 32, down[1], fourth, "a"),
        arrow(up[0], second, up[1], first + 32, "b"),
    ]
    if hard:
        return [*parts, arrow(up[1], fourth, up[0], second + 32, "b")]
    return [*parts, arrow(up[0], third, up[0], second + 32, "b"), arrow(up[0], fourth, up[0], third + 32, "b")]


# A trained tokenizer


def drawings() -> Float[Tensor, "pictures 3 height width"]:
    """Return simple drawings on white: a shape of one colour with a smaller one on it."""
    chance, scale, pictures = random.Random(SEED), 4, []
    for _ in range(PICTURES):
        picture = Image.new("RGB", (SIDE * scale, SIDE * scale), "white")
        pen = ImageDraw.Draw(picture)
        radii = chance.uniform(0.36, 0.46), chance.uniform(0.14, 0.22)
        for radius, colour in zip(radii, chance.sample(PAINTS, 2), strict=True):
            x, y = (SIDE * scale * chance.uniform(0.46, 0.54) for _ in range(2))
            reach, corners = radius * SIDE * scale, chance.choice((3, 4, 6, 0))
            if corners:
                pen.regular_polygon((x, y, reach), corners, rotation=chance.randrange(90), fill=colour)
            else:
                pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
        pictures.append(to_tensor(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
    return torch.stack(pictures)


@torch.no_grad()
def relaxed(
    tokenizer: DiscreteVAE, images: Float[Tensor, "pictures 3 height width"], temperature: float | None
) -> Float[Tensor, "pictures 3 height width"]:
    """Return reconstructions from relaxed codes, from hard draws at a τ of 0, and from the likeliest codes at None."""
    assert isinstance(tokenizer.bottleneck, Categorical)
    logits = tokenizer.latents(images)
    noise = standard_gumbel(logits.shape, generator=torch.Generator().manual_seed(SEED))
    if temperature:
        embedded = tokenizer.bottleneck.mix(relax(logits, noise, temperature))
        return tokenizer.picture(tokenizer.draw(embedded)).clamp(0, 1)
    return tokenizer.decode(tokenizer.encode(images) if temperature is None else (logits + noise).argmax(dim=-1))


def relaxed_psnr(tokenizer: DiscreteVAE, originals: Float[Tensor, "pictures 3 height width"]) -> str:
    """Return curves of the PSNR of relaxed and hard reconstructions as τ falls, and between the two."""
    hard, likeliest = relaxed(tokenizer, originals, 0.0), relaxed(tokenizer, originals, None)
    faithful: dict[str, list[Point]] = {"relaxed": [], "hard draw": [], "likeliest": []}
    meeting: list[Point] = []
    for halving in (number / 2 for number in range(-4, 13)):
        soft = relaxed(tokenizer, originals, 2.0**-halving)
        for points, pictures in zip(faithful.values(), (soft, hard, likeliest), strict=True):
            points.append((halving, float(psnr(pictures, originals).mean())))
        meeting.append((halving, float(psnr(soft, hard).mean())))
    charts = [
        chart(24, faithful, f"{len(originals)} drawings, reconstructed", "PSNR in dB, beside the drawing"),
        chart(436, {"relaxed": meeting}, "The relaxed beside the hard draw", "PSNR in dB, of one beside the other"),
    ]
    return card(832, 332, "PSNR of relaxed and of hard reconstructions over the relaxation temperature", charts)


def chart(left: float, series: dict[str, list[Point]], title: str, unit: str) -> str:
    """Return curves over τ, for a card."""
    label = "−log₂ τ: 0 is τ = 1, 4 is τ = 1/16"
    drawn = curve(series, title=title, x_label=label, y_label=unit, width=372, height=300, x_range=(-2, 6))
    # Alone it shrinks with the page; here the card does.
    return re.sub(r' style="max-width[^"]*"', f' x="{left:g}" y="16"', drawn, count=1)


def relaxed_pictures(tokenizer: DiscreteVAE, originals: Float[Tensor, "pictures 3 height width"]) -> Image.Image:
    """Return pictures beside their reconstructions at falling temperatures, and from hard codes."""
    columns = {"original": originals}
    columns |= {f"tau = {name}": relaxed(tokenizer, originals, value) for name, value in TEMPERATURES.items()}
    columns |= {"hard draw": relaxed(tokenizer, originals, 0.0), "likeliest codes": relaxed(tokenizer, originals, None)}
    rows = torch.stack(list(columns.values()), dim=1).flatten(0, 1)
    labels = [name if row == len(originals) - 1 else "" for row in range(len(originals)) for name in columns]
    return contact_sheet(to_pillow(rows), labels, len(columns), tile_size=96, label_lines=1, outlined=True)


# Marks


def card(width: float, height: float, name: str, parts: Sequence[str]) -> str:
    """Return an SVG with its own background."""
    label = html.escape(name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="card" role="img" aria-label="{label}" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">{STYLE}'
        f'<rect width="{width:g}" height="{height:g}" rx="8" fill="var(--paper)"/>{"".join(parts)}</svg>\n'
    )


def text(x: float, y: float, said: str, kind: str = "") -> str:
    """Return text whose baseline starts at x, y."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{html.escape(said)}</text>'


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Return a filled rectangle."""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="var(--{colour})"/>'


def line(x: float, y: float, to_x: float, to_y: float, colour: str = "line", weight: float = 1) -> str:
    """Return a straight line."""
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="var(--{colour})" stroke-width="{weight:g}"/>'


def legend(x: float, y: float, entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return a legend in one row."""
    parts = []
    for colour, said in entries:
        parts += [bar(x, y - 9, 10, 10, colour), text(x + 16, y, said)]
        x += 34 + 6.6 * len(said)
    return parts


def box(middle: float, top: float, width: float, said: str) -> list[str]:
    """Return text in a rounded box."""
    place = f'x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="32" rx="5"'
    return [f'<rect {place} fill="var(--box)" stroke="var(--line)"/>', text(middle, top + 20, said, "ink middle")]


def arrow(x: float, y: float, to_x: float, to_y: float, colour: str) -> str:
    """Return an arrow, dashed for the gradient, that ends just before its target."""
    length = math.hypot(to_x - x, to_y - y)
    along = (to_x - x) / length, (to_y - y) / length
    x, y, to_x, to_y = x + 3 * along[0], y + 3 * along[1], to_x - 3 * along[0], to_y - 3 * along[1]
    back = to_x - 8 * along[0], to_y - 8 * along[1]
    wings = [(back[0] + side * 4 * along[1], back[1] - side * 4 * along[0]) for side in (1, -1)]
    points = " ".join(f"{px:.1f},{py:.1f}" for px, py in ((to_x, to_y), *wings))
    dashes = ' stroke-dasharray="5 4"' if colour == "b" else ""
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{back[0]:.1f}" y2="{back[1]:.1f}" stroke="var(--{colour})" '
        f'stroke-width="2"{dashes}/><polygon points="{points}" fill="var(--{colour})"/>'
    )


if __name__ == "__main__":
    main()
