"""What a directory of ours holds, read from configs and the headers of its tensors; no weight is loaded."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trencadis.config import TransformerConfig
from trencadis.errors import ModelError
from trencadis.model_directory import find_model
from trencadis.pretrained import config_from_dict, read_json
from trencadis.run_directory import MANIFEST, META, STAGES, RunDirectory, checkpoint_step
from trencadis.transformer import adapter, slot_bytes

BYTES_OF_FLOAT32 = 4


@dataclass(frozen=True)
class Part:
    """One group of tensors."""

    name: str  # of its folder or file
    parameters: int  # numbers in its tensors
    size_bytes: int  # on disk
    facts: dict[str, Any] = field(default_factory=dict)  # from its config


@dataclass(frozen=True)
class Found:
    """What a directory holds."""

    path: Path
    kind: str  # model, part of a model, adapter, checkpoint or run
    facts: dict[str, Any]  # of the whole
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def inspect(name: str) -> Found:
    """Return what a model, a part of one, an adapter, a checkpoint or a run holds.

    Raises:
        ModelError: There is nothing of that name, or it is none of these.
    """
    directory = find_model(name)
    if (run := RunDirectory(directory)).has_begun:
        return _run(run)
    if (directory / MANIFEST).is_file():
        meta = read_json(directory / META)
        parts = tuple(_part(path.stem, [path], {}) for path in sorted(directory.glob("*.safetensors")))
        return Found(directory, "checkpoint", meta, parts)
    if (directory / adapter.SETTINGS).is_file():
        parts = (_part("updates", [directory / adapter.TENSORS], {}),)
        return Found(directory, "adapter", read_json(directory / adapter.SETTINGS), parts)
    settings = read_json(directory / "config.json")
    if "format" in settings:
        return _model(directory, settings)
    if "kind" in settings:
        return Found(directory, f"part of a model: {settings['kind']}", {}, (_folder(directory),))
    raise ModelError(f"{directory} is of an unknown kind", expected="a model or a part of one", remedy="check the path")


def _model(directory: Path, settings: dict[str, Any]) -> Found:
    """Describe a whole model, with the memory that drawing takes: weights, and each candidate's keys and values."""
    parts = tuple(_folder(directory / name) for name in STAGES if (directory / name).is_dir())
    weights_bytes = sum(part.parameters for part in parts) * BYTES_OF_FLOAT32
    config = read_json(directory / "transformer" / "config.json")
    config.pop("kind", None)
    candidate_bytes = 2 * slot_bytes(config_from_dict(TransformerConfig, config))  # guidance needs two slots
    facts = {
        "name": settings.get("name", ""),
        "parameters": f"{sum(part.parameters for part in parts):,}",
        "on disk": f"{sum(part.size_bytes for part in parts) / 1e6:.1f} MB",
        "memory to draw": f"{weights_bytes / 1e6:.0f} MB, and {candidate_bytes / 1e6:.1f} MB a candidate of a batch",
        "draws by default with": ", ".join(f"{key} {value}" for key, value in settings.get("sampling", {}).items()),
    }
    return Found(directory, "model", facts, parts)


def _run(run: RunDirectory) -> Found:
    try:
        config = run.read_config()
        steps = {name: config[name]["steps"] for name in STAGES[1:] if name != "decoder" or config.get(name)}
        if steps.get("decoder") == 0:  # none was asked for; 0 steps of another part keep it as it was
            del steps["decoder"]
        pretrained = config["image"].get("pretrained")
        facts = {"recipe": config.get("recipe"), "data": config["data"]["path"], "hours": config["hours"]}
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{run.config} cannot be read", expected="a run's plan", remedy="restore it") from error
    parts = []
    for stage in steps:
        if stage == "image" and pretrained is not None:
            facts[stage] = f"given: {pretrained}"
        elif steps[stage] == 0:
            facts[stage] = f"as in {config['start']['model']}"
        elif (checkpoint := run.latest_checkpoint(stage)) is None:
            facts[stage] = f"not begun, of {steps[stage]:,} steps"
        else:
            facts[stage] = f"step {checkpoint_step(checkpoint):,} of {steps[stage]:,}"
            parts.append(_part(f"{stage}/{checkpoint.name}", sorted(checkpoint.glob("*.safetensors")), {}))
    facts["model"] = str(run.model) if run.is_finished else "not finished"
    return Found(run.path, "run", facts, tuple(parts))


def _folder(directory: Path) -> Part:
    tokenizer = directory / "tokenizer.json"
    if tokenizer.is_file():
        vocab = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
        return Part(directory.name, 0, tokenizer.stat().st_size, {"vocab_size": len(vocab)})
    return _part(directory.name, sorted(directory.glob("*.safetensors")), read_json(directory / "config.json"))


def _part(name: str, files: list[Path], facts: dict[str, Any]) -> Part:
    parameters = 0
    for path in files:
        try:
            with safe_open(path, framework="pt") as tensors:
                parameters += sum(math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            remedy = "save it again, or copy the directory whole"
            raise ModelError(f"{path}: {error}", expected="a whole safetensors file", remedy=remedy) from error
    return Part(name, parameters, sum(path.stat().st_size for path in files), facts)
