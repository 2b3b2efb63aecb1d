"""`trencadis verify`: draws pictures again from their records, and compares the pixels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from trencadis.cli.arguments import add_model, existing_file, model_name
from trencadis.console import say, say_json

if TYPE_CHECKING:
    from PIL import Image

    from trencadis.drawn import Record
    from trencadis.pipeline import DALLE
    from trencadis.transformer import Adapter, UsedAdapter

HELP = "draws a picture again from its record, and says whether it is the same, bit for bit"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", type=existing_file(), help="a PNG that was drawn")
    about = "(default: the one that the picture names, if it is shipped or in the hub's cache)"
    add_model(parser, default=None, about=f"a shipped model, a model directory, or a hub id {about}")
    about = "an adapter that pictures were drawn with, or its hub id; how strongly it acted is in their records"
    parser.add_argument("--adapter", action="append", metavar="DIR", type=model_name(), help=about)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.data import read_picture
    from trencadis.drawn import read_record
    from trencadis.progress import track
    from trencadis.transformer import Adapter

    paths: list[Path] = arguments.pictures
    records = [read_record(read_picture(path), str(path)) for path in paths]
    by_digest = {(own := Adapter.from_pretrained(name)).digest(): own for name in arguments.adapter or ()}
    keys = dict.fromkeys((record.model, record.adapters) for record in records)
    models = {key: _model(*key, by_digest, arguments) for key in keys}
    found = []
    for path, record in track(list(zip(paths, records, strict=True)), "drawing again"):
        found.append(
            {"path": str(path), **_compared(read_picture(path), record, models[record.model, record.adapters])}
        )
    is_verified = all(row["verified"] for row in found)
    if arguments.json:
        say_json({"verified": is_verified, "pictures": found})
    else:
        say(*(f"{row['path']}   {_sentence(row)}" for row in found))
    return 0 if is_verified else 1


def _model(
    name: str,
    adapters: "tuple[UsedAdapter, ...]",
    by_digest: "dict[str, Adapter]",
    arguments: jsonargparse.Namespace,
) -> "DALLE":
    """Return the model that is asked for, or else the one that a picture names, with the picture's adapters."""
    from trencadis.errors import ModelError

    model = _base(name, arguments)
    for used in adapters:
        if used.sha256 not in by_digest:
            given = f"a picture was drawn with the adapter {used.name} (SHA-256 {used.sha256[:12]}…)"
            raise ModelError(given, expected="that adapter", remedy="say where it is with --adapter")
        model.add_adapter(by_digest[used.sha256], used)
    return model


def _base(name: str, arguments: jsonargparse.Namespace) -> "DALLE":
    """Return the model that is asked for, or else the one that a picture names; a picture causes no download."""
    from trencadis.errors import ModelError
    from trencadis.pipeline import DALLE

    if arguments.model is not None:
        return DALLE.from_pretrained(arguments.model, revision=arguments.revision)
    try:
        return DALLE.from_pretrained(name, revision=arguments.revision, local_files_only=True)
    except ModelError as error:
        given = f"a picture names the model {name!r}: {error.given}"
        raise ModelError(given, expected="one on this machine", remedy="say which with --model") from error


def _compared(picture: "Image.Image", record: "Record", model: "DALLE") -> dict[str, Any]:
    import numpy as np
    import torch

    from trencadis.devices import usable_device

    model.to(usable_device("cpu" if record.device == "cpu" else None))
    again = model.redraw(record)
    pixels = different = again.width * again.height
    if picture.size == again.size:
        different = int((np.asarray(picture.convert("RGB")) != np.asarray(again.convert("RGB"))).any(axis=2).sum())
    return {
        "verified": different == 0,
        "different_pixels": different,
        "pixels": pixels,
        "model": record.model,
        "same_model": None if record.model_sha256 is None else record.model_sha256 == model.digest(),
        "drawn_with": {"trencadis": record.trencadis, "torch": record.torch, "device": record.device},
        "same_torch": record.torch == torch.__version__,
    }


def _sentence(row: dict[str, Any]) -> str:
    if row["verified"]:
        return "verified: drawn again, every pixel is the same"
    reasons = [f"differs in {row['different_pixels']:,} of {row['pixels']:,} pixels"]
    if row["same_model"] is not None:
        reasons.append("the model is the same" if row["same_model"] else "the model is another: its digest differs")
    if not row["same_torch"]:
        reasons.append(f"it was drawn with torch {row['drawn_with']['torch']}")
    return "; ".join(reasons)
