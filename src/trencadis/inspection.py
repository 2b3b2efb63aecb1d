"""What a directory of ours holds, read from configs and the headers of its tensors; no weight is loaded."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from trencadis.errors import ModelError
from trencadis.model_directory import find_model
from trencadis.pretrained import read_json

PARTS = ("text", "image", "transformer", "ranker")
BYTES_OF_FLOAT32 = 4


@dataclass(frozen=True)
class Part:
    """One group of tensors.

    Args:
        name: Of its folder or file.
        parameters: Numbers in its tensors.
        size_bytes: On disk.
        facts: Sizes from its config.
    """

    name: str
    parameters: int
    size_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """What a directory holds.

    Args:
        path: The directory.
        kind: Model, part of a model, checkpoint or run.
        facts: What is true of the whole.
        parts: Its groups of tensors.
    """

    path: Path
    kind: str
    facts: dict[str, Any]
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {**asdict(self), "path": str(self.path)}


def inspect(name: str) -> Found:
    """Return what a model, a part of one, a checkpoint or a run holds.

    Raises:
        ModelError: There is nothing of that name, or it is none of these.
    """
    directory = find_model(name)
    if (directory / "config.yaml").is_file():
        return _run(directory)
    if (directory / "manifest.json").is_file():
        meta = read_json(directory / "meta.json")
        parts = tuple(_part(path.stem, [path], {}) for path in sorted(directory.glob("*.safetensors")))
        return Found(directory, "checkpoint", meta, parts)
    settings = read_json(directory / "config.json")
    if "format" in settings:
        return _model(directory, settings)
    if "kind" in settings:
        return Found(directory, f"part of a model: {settings['kind']}", {}, (_folder(directory),))
    raise ModelError(f"{directory} is of an unknown kind", expected="a model or a part of one", remedy="check the path")


def _model(directory: Path, settings: dict[str, Any]) -> Found:
    """Describe a whole model, with the memory that drawing takes: weights, and each candidate's keys and values."""
    parts = tuple(_folder(directory / name) for name in PARTS if (directory / name).is_dir())
    config = read_json(directory / "transformer" / "config.json")
    weights_bytes = sum(part.parameters for part in parts) * BYTES_OF_FLOAT32
    width = config["num_heads"] * config["head_dim"]
    # Keys and values, with the caption and without; the captions' own are shared by all candidates.
    candidate_bytes = 2 * 2 * config["num_layers"] * math.prod(config["grid_size"]) * width * BYTES_OF_FLOAT32
    facts = {
        "name": settings.get("name", ""),
        "parameters": f"{sum(part.parameters for part in parts):,}",
        "on disk": f"{sum(part.size_bytes for part in parts) / 1e6:.1f} MB",
        "memory to draw": f"{weights_bytes / 1e6:.0f} MB, and {candidate_bytes / 1e6:.1f} MB a candidate of a batch",
        "draws by default with": ", ".join(f"{key} {value}" for key, value in settings.get("sampling", {}).items()),
    }
    return Found(directory, "model", facts, parts)


def _run(directory: Path) -> Found:
    """Describe a run: its plan, how far each stage has come, and its newest checkpoints."""
    try:
        config = yaml.safe_load((directory / "config.yaml").read_text("utf-8"))
        stages = {name: config[name]["steps"] for name in PARTS[1:]}
        pretrained = config["image"].get("pretrained")
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ModelError(
            f"{directory}/config.yaml cannot be read", expected="a run's plan", remedy="restore it"
        ) from error
    facts: dict[str, Any] = {"recipe": config.get("recipe"), "data": config["data"]["path"], "hours": config["hours"]}
    parts = []
    for stage, steps in stages.items():
        if stage == "image" and pretrained is not None:
            facts[stage] = f"given: {pretrained}"
            continue
        latest = directory / "checkpoints" / stage / "latest"
        if not latest.is_file():
            facts[stage] = f"not begun, of {steps} steps"
            continue
        checkpoint = latest.parent / latest.read_text("utf-8").strip()
        facts[stage] = f"step {int(checkpoint.name.removeprefix('step-'))} of {steps}"
        parts.append(_part(f"{stage}/{checkpoint.name}", sorted(checkpoint.glob("*.safetensors")), {}))
    facts["model"] = str(directory / "model") if (directory / "model" / "config.json").is_file() else "not finished"
    return Found(directory, "run", facts, tuple(parts))


def _folder(directory: Path) -> Part:
    """Describe a part of a model by its config and its tensors' headers."""
    tokenizer = directory / "tokenizer.json"
    if tokenizer.is_file():
        vocab = json.loads(tokenizer.read_text("utf-8"))["model"]["vocab"]
        return Part(directory.name, 0, tokenizer.stat().st_size, {"vocab_size": len(vocab)})
    config = read_json(directory / "config.json")
    return _part(directory.name, sorted(directory.glob("*.safetensors")), config)


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
