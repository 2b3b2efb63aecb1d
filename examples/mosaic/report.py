"""An evaluation as tables."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from intervals import Figure

from mosaic.claims import CLAIMS

NAMES = {
    "clip": "best by CLIP", "likelihood": "best by likelihood", "both": "best by both", "any": "any (knows the answer)"
}  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """Return the tables of a report: shares in per cent, with 95 % intervals."""
    settings = ", ".join(f"{name} {value}" for name, value in report["settings"].items() if value is not None)
    lines = [f"# {report['model']} in the mosaic world", "", f"Model {report['model_sha256'][:12]}; {settings}.", ""]
    lines += ["Drawings that are right, in per cent, with 95 % intervals over captions.", ""]
    for ranking in dict.fromkeys(row["ranking"] for row in report["shares"]):
        lines += [f"## {NAMES[ranking]}, by number of candidates", "", *_by_candidates(report, ranking), ""]
    lines += ["## What single drawings have of what was asked", "", *table(["claim", "of it", "share"])]
    lines += [row([_title(one["claim"]), one["part"], _text(one["share"])]) for one in report["parts"]]
    lines += ["", "## Variety of what the shape alone leaves open", ""]
    lines += ["Entropy over that of real pictures, in per cent.", "", *table(["attribute", "variety"])]
    lines += [row([name, _text(figure)]) for name, figure in report["variety"].items()]
    lines += ["", "## The judge", "", *judge_table(report["judge"])]
    return "\n".join(lines) + "\n"


def _by_candidates(report: dict[str, Any], ranking: str) -> list[str]:
    rows = [one for one in report["shares"] if one["ranking"] == ranking]
    counts = sorted({one["candidates"] for one in rows})
    figures = {(one["claim"], one["candidates"]): one["share"] for one in rows}
    lines = table(["claim", "captions", *map(str, counts)])
    for claim in dict.fromkeys(one["claim"] for one in rows):
        cells = [figures[claim, count] for count in counts]
        lines.append(row([_title(claim), str(cells[0].count), *map(str, cells)]))
    return lines


def judge_table(judged: dict[str, Any]) -> list[str]:
    """Return how well the judge reads whole scenes, and the confusions of each attribute."""
    lines = table(["pictures", "dB", "scenes read without a fault", "confusions"])
    for name, one in judged.items():
        decibels = "" if one["decibels"] is None else f"{one['decibels']:.1f}"
        lines.append(row([name, decibels, _precise(one["share"]), confusions(one["confused"])]))
    return lines


def confusions(confused: Counter[tuple[str, str, str]]) -> str:
    """Return the confusions in words, the most frequent first."""
    totals = Counter((name, was) for name, was, _ in confused.elements())
    wrong = [(count, key) for key, count in confused.most_common() if key[1] != key[2]]
    return ", ".join(f"{name} {was} → {now} {count}/{totals[name, was]}" for count, (name, was, now) in wrong) or "none"


def table(cells: Sequence[str]) -> list[str]:
    return [row(cells), row(["---"] * len(cells))]


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _title(claim: str) -> str:
    held = CLAIMS[claim].held
    return CLAIMS[claim].title + (", never seen" if held else "")


def _precise(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{100 * figure.value:.1f} ({100 * figure.low:.1f}–{100 * figure.high:.1f})"


def _text(figure: Figure | None) -> str:
    return "–" if figure is None else str(figure)
