"""The report of a run: one HTML page that holds all it shows, written again and again as the run goes on."""

import html
import math
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

from trencadis.report import forgetting
from trencadis.report.axis import number_text
from trencadis.report.charts import curve
from trencadis.report.panels import chart, figures_of, panels_of
from trencadis.report.pictures import Picture, read_picture
from trencadis.report.stage_records import StageRecord, is_number, read_stages
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole

_STAGES = {
    "text": ("Text tokenizer", "Byte-pair encoding turns a caption into text tokens."),
    "image": ("Image tokenizer", "It turns a picture into a grid of tokens, and the tokens into a picture."),
    "decoder": ("Decoder", "The image tokenizer's decoder alone, trained on codes that stay."),
    "transformer": ("Transformer", "One decoder models text tokens and image tokens as a single stream."),
    "ranker": ("Ranker", "CLIP tells how well a picture fits a caption, and puts candidates in order."),
}
_MOST_POINTS = 1000  # of the codes' chart; no screen shows more


def write_report(run: RunDirectory) -> Path:
    """Write `report.html`, self-contained, from what the run holds so far; what is missing or damaged is left out."""
    write_whole(run.report, _page(run))
    return run.report


def _page(run: RunDirectory) -> str:
    import torch

    folder, config, data = Path(__file__).parent, run.read_config(), run.read_data()
    stages = read_stages(run, config)
    sections = [_plan(run, config), _data(run, data), *(_stage(stage, run) for stage in stages), _forgetting(run)]
    return Template((folder / "page.html").read_text("utf-8")).substitute(
        name=html.escape(run.name),
        style=(folder / "report.css").read_text("utf-8"),
        summary=_summary(config, data, stages),
        sections="".join(sections),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=f"Trencadís {version('trencadis')}, PyTorch {torch.__version__}, Python {platform.python_version()}",
    )


def _summary(config: dict[str, Any], data: dict[str, Any], stages: Sequence[StageRecord]) -> str:
    facts = [f"Recipe {config['recipe']}"] if "recipe" in config else []
    facts += [f"{data['kept']:,} captioned pictures"] if isinstance(data.get("kept"), int) else []
    facts += [f"planned for {duration(config['hours'] * 3600)}"] if is_number(config.get("hours")) else []
    lead = f"<p class=lead>{html.escape(', '.join(facts))}.</p>" if facts else ""
    if not stages:
        return f"{lead}<p class=note>Nothing has been trained yet.</p>"
    rows = [
        (_STAGES.get(stage.name, (stage.name, ""))[0], stage.state, _steps(stage), duration(stage.elapsed_s))
        for stage in stages
    ]
    total = ("All stages", "", "", duration(sum(stage.elapsed_s for stage in stages)))
    classes = ("", "", "number", "number")
    return lead + _table(("Stage", "State", "Steps", "Time"), [*rows, total], classes, stacked=False)


def _steps(stage: StageRecord) -> str:
    if not stage.lines or stage.last_step == 0:
        return f"{stage.steps:,}" if stage.steps else ""
    return f"{stage.last_step:,} of {stage.steps:,}" if stage.steps else f"{stage.last_step:,}"


def _plan(run: RunDirectory, config: dict[str, Any]) -> str:
    rows, source = [tuple(choice.values()) for choice in run.read_choices()], html.escape(run.config_text())
    if not rows and not config:
        return ""
    table = _table(("What", "Value", "Why"), rows, ("what", "", "why")) if rows else ""
    details = f"<details><summary>The whole config</summary><pre>{source}</pre></details>" if source else ""
    return f"<section><h2>Plan</h2><p>What the run follows.</p>{table}{details}</section>\n"


def _data(run: RunDirectory, data: dict[str, Any]) -> str:
    counts = {name: value for name, value in data.items() if isinstance(value, int)}
    dropped = data.get("dropped")
    reasons = dropped if isinstance(dropped, dict) and all(map(is_number, dropped.values())) else {}
    sheet = read_picture(run.training_pictures)
    if not counts and not reasons and sheet is None:
        return ""
    names = {"kept": "kept", "train": "for training", "validation": "held out"}
    figures = [(names.get(name, name.replace("_", " ")), f"{value:,}", "") for name, value in counts.items()]
    if reasons:
        figures.append(("left out", f"{sum(reasons.values()):,}", ""))
    most = max(reasons.values(), default=0)
    rows = [
        (reason, f"{count:,}", f'<span class=bar style="width:{100 * count / max(most, 1):.1f}%"></span>')
        for reason, count in sorted(reasons.items(), key=lambda item: -item[1])
    ]
    table = _table(("Left out because", "Pairs", ""), rows, ("", "number", "share")) if rows else ""
    note = "What training sees of some pictures: each beside its centre crop, for validation, and random crops."
    shown = f"<h3>Crops</h3>{_sheet(sheet, note, 'What training sees')}" if sheet is not None else ""
    return f"<section><h2>Data</h2>{_figures(figures)}{table}{shown}</section>\n"


def _stage(stage: StageRecord, run: RunDirectory) -> str:
    codes = _codes(run) if stage.name == "image" else ""
    # An image tokenizer that a run was given has codes and no steps.
    if not stage.lines and not codes:
        return ""
    title, purpose = _STAGES.get(stage.name, (stage.name.capitalize(), ""))
    figures = [
        (trace.figure[0], number_text(trace.scale * value), trace.figure[1])
        for trace in figures_of(stage.name)
        if (value := stage.last(trace.metric)) is not None
    ]
    panels = panels_of(stage.name, stage.lines)
    if stage.last_step == 0:
        # A stage without steps, such as byte-pair encoding, has numbers and no curves.
        unforeseen = [(panel.title.lower(), stage.last(panel.traces[0].metric)) for panel in panels]
        figures += [(title, f"{value:,}", "") for title, value in unforeseen if value is not None]
        panels = []
    charts = "".join(f"<div>{chart(panel, stage.lines)}</div>" for panel in panels)
    return (
        f'<section id="{html.escape(stage.name)}"><h2>{html.escape(title)}</h2><p>{purpose}</p>{_figures(figures)}'
        f"{_pictures(stage, run)}{f'<h3>Curves</h3><div class=charts>{charts}</div>' if charts else ''}"
        f"{codes}</section>\n"
    )


def _pictures(stage: StageRecord, run: RunDirectory) -> str:
    if not stage.pictures:
        return ""
    captions = "".join(f"<li>{html.escape(caption)}</li>" for caption in run.read_captions())
    if stage.name == "transformer":
        note = "<p class=note>Drawn from held-out captions, with the same seeds each time.</p>"
        heading, shown = "Drawings", note + (f"<ol class=captions>{captions}</ol>" if captions else "")
    else:
        heading, shown = "Reconstructions", "<p class=note>Held-out pictures, and below them what the tokens keep.</p>"
    figures = "".join(
        f"<figure>{_image(picture, f'{heading} after step {picture.step:,}')}"
        f"<figcaption>step {picture.step:,}</figcaption></figure>"
        for picture in stage.pictures
    )
    strip = " strip" if stage.pictures[-1].is_wide else ""
    return f'<h3>{heading}</h3>{shown}<div class="pictures{strip}">{figures}</div>'


def _forgetting(run: RunDirectory) -> str:
    """Return what tuning made the model forget, where that is measured."""
    found = run.read_forgetting()
    if not (figures := forgetting.figures(found)):
        return ""
    note = (
        "Old captions were drawn before tuning, as the model had learnt them. The bits that the tokens of these "
        "drawings gain by tuning are what the model has forgotten: 0 where nothing has changed."
    )
    table = _table(
        ("Caption", "Forgotten, bits/token"), forgetting.most_forgotten(found), ("", "number"), stacked=False
    )
    return (
        f'<section id="forgetting"><h2>Forgetting</h2><p>{note}</p>{_figures(figures)}{forgetting.sheets(run)}'
        f"<h3>Most forgotten</h3>{table}</section>\n"
    )


def _image(picture: Picture, alt: str) -> str:
    return f'<img src="{picture.data_uri}" width="{picture.width}" height="{picture.height}" alt="{alt}">'


def _codes(run: RunDirectory) -> str:
    """Return how much of the codes the training set uses, and what the most used ones draw, where that is known."""
    histogram, sheet = _code_histogram(run.read_code_counts()), read_picture(run.code_portraits)
    note = (
        "What the most used codes draw, with their share of the tokens: on a grid that holds nothing else, and in "
        "training pictures as they are reconstructed, where the outlined square is the code's own token."
    )
    portraits = "" if sheet is None else _sheet(sheet, note, "What the codes draw")
    return f"<h3>Codes</h3>{histogram}{portraits}" if histogram or portraits else ""


def _code_histogram(code_counts: Sequence[int]) -> str:
    if not sum(code_counts):
        return ""
    import torch

    from trencadis.image.metrics import code_perplexity, code_use

    whole, counts = torch.tensor(code_counts), sorted(code_counts, reverse=True)
    figures = (
        ("codes in use, all training pictures", number_text(100 * code_use(whole)), "%"),
        ("code perplexity, all training pictures", number_text(code_perplexity(whole)), "codes"),
    )
    used = sum(count > 0 for count in counts)
    drawn = curve(
        {"uses": list(enumerate(counts, 1))[:: math.ceil(len(counts) / _MOST_POINTS)]},
        title="How often each code is used",
        x_label="codes, the most used first",
        y_label="uses",
        width=960,
        height=260,
        log_y=True,
        x_range=(0, len(counts)),
        last_values=False,
    )
    most = 100 * counts[0] / sum(counts)
    said = f"{used:,} of {len(counts):,} codes are in use; the most used one stands for {most:.2g} % of the tokens."
    return f"<p class=note>{said}</p>{_figures(figures)}<div class=wide>{drawn}</div>"


def _sheet(sheet: Picture, note: str, alt: str) -> str:
    return f"<p class=note>{note}</p><figure class=portraits>{_image(sheet, alt)}</figure>"


def _figures(figures: Sequence[tuple[str, str, str]]) -> str:
    """Return numbers in a row, each with its name and its unit."""
    cells = [
        f"<div><dd>{html.escape(value)}{f' <small>{html.escape(unit)}</small>' if unit else ''}</dd>"
        f"<dt>{html.escape(name)}</dt></div>"
        for name, value, unit in figures
    ]
    return f"<dl class=figures>{''.join(cells)}</dl>" if cells else ""


def _table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], classes: Sequence[str], *, stacked: bool = True
) -> str:
    """Return a table with a class a column: a `number` is aligned to the right, a `share` holds markup.

    If `stacked`, a narrow screen shows the cells of a row below each other.
    """

    def cells(tag: str, row: Sequence[str]) -> str:
        texts = (text if style == "share" else html.escape(text) for style, text in zip(classes, row, strict=True))
        return "".join(f'<{tag} class="{style}">{text}</{tag}>' for style, text in zip(classes, texts, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    kind = "stack" if stacked else ""
    head = f"<thead><tr>{cells('th', headings)}</tr></thead>"
    return f'<div class=scroll><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def duration(seconds: float | int) -> str:
    """Return a length of time as people say it, such as `3 h 05 min`; nothing for none."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds else ""
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes % 60 else f"{minutes // 60} h"
