"""A run that starts from a model: its tokenizers are kept, its transformer and CLIP are trained further.

The run gets a copy of the model before anything is trained. From then on the model that it started from is not needed.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from trencadis.config import AdapterConfig, CLIPConfig, LoRAConfig, RunConfig, StartConfig, TransformerConfig
from trencadis.config.plain import Settings, differing, merge, nest, overlay, to_plain
from trencadis.errors import ConfigError, ModelError
from trencadis.image import DiscreteVAE
from trencadis.model_directory import find_model, load_model, model_card, save_settings
from trencadis.pipeline import DALLE
from trencadis.ranking import CLIP, CLIPRanker
from trencadis.run_directory import RunDirectory
from trencadis.storage import whole_directory
from trencadis.text import CaptionTokenizer
from trencadis.training.forgetting import draw_before, read_captions
from trencadis.training.plan import LENGTH_SAMPLE, Plan, draft
from trencadis.training.run_pairs import RunPairs
from trencadis.training.text import cut_captions
from trencadis.transformer import Adapter, Transformer
from trencadis.transformer.lora import plain_name, take_updates

TUNING_RECIPE = "pocket"
"""Its batches and optimizers are taken where no recipe is asked for; those of all sizes are alike."""

PEAK = 0.3
"""Peaks of the learning rates, as a share of the recipe's: see docs/log.md."""

_FIXED = ("text.vocab_size", "text.text_len", "image.model", "transformer.model", "ranker.model", "ranker.image_size")
_RATES = ("learning_rate", "muon_learning_rate")


@dataclass(frozen=True)
class Start:
    """A model that a run starts from.

    Args:
        name: As the user calls it.
        directory: Where it is.
        sha256: Of the parts that pictures depend on.
        clip: Its CLIP; None where it has none that can be trained further.
        old_captions: Those of which it is measured what the model forgets.
        tunes_image: Whether its image tokenizer is trained further.
    """

    name: str
    directory: Path
    model: DALLE
    sha256: str
    clip: CLIP | None
    old_captions: tuple[str, ...] = ()
    tunes_image: bool = False

    @property
    def trained(self) -> tuple[str, ...]:
        """The stages that go on from the model's weights."""
        image = ("image",) if self.tunes_image else ()
        return (*image, "transformer", *(() if self.clip is None else ("ranker",)))

    @property
    def run(self) -> RunDirectory | None:
        """The run that the model is of, if it lies in one."""
        return RunDirectory(self.directory.parent) if RunDirectory.is_run(self.directory.parent) else None

    def settings(self, overrides: Settings, recipe: str) -> Settings:
        """Return the settings of a run with the model's sizes, and learning rates that change it little.

        Args:
            overrides: Of the user; they are kept. A longer text than the model's is one of them.
            recipe: What the learning rates are a share of.

        Raises:
            ConfigError: A setting contradicts the model, or there is no such recipe.
        """
        asked = self._asked(overrides)
        image = {name: value for name, value in _at(asked, "image").items() if name != "model"}
        text = {"text_len": self._text_len(asked), "fit_captions": False}
        settings = merge(merge(asked, self._sizes()), {"text": text})
        settings["image"] = image | ({"model": self._image_model()} if self.tunes_image else {"pretrained": self.name})
        settings["start"] = {**asked.get("start", {}), "model": self.name, "sha256": self.sha256}
        settings = merge(self._with_updates(asked), settings)
        planned = draft(settings, recipe)
        if self.clip is None and planned.ranker.steps == 0:
            expected, remedy = "1 or more: the model has no CLIP to keep", "raise ranker.steps, or drop it"
            raise ConfigError("ranker.steps 0", expected=expected, remedy=remedy)
        peaks = []
        for stage in self.trained:
            optimizer = getattr(planned, stage).optimizer
            given = _at(overrides, stage, "optimizer")
            peaks += [
                (f"{stage}.optimizer.{rate}", PEAK * getattr(optimizer, rate)) for rate in _RATES if rate not in given
            ]
        return merge(settings, nest(peaks))

    def _with_updates(self, asked: Settings) -> Settings:
        """Return the defaults of a run that trains low-rank updates: an adapter has no other weights, and no CLIP."""
        if not overlay(LoRAConfig(), _at(asked, "transformer", "lora"), "transformer.lora.").rank:
            return {}
        text_len, own = self._text_len(asked), self.model.transformer.config.text_len
        if text_len != own:
            expected = f"{own}, as {self.name} has: low-rank updates add no text positions"
            raise ConfigError(f"text.text_len {text_len}", expected=expected, remedy="drop it, or train without --lora")
        ranker = {} if self.clip is None else {"ranker": {"steps": 0}}
        return {"transformer": {"optimizer": {"muon": False}}, **ranker}

    def say(self, settings: Settings, pairs: RunPairs, plan: Plan) -> None:
        """Add to the plan what the run starts from."""
        plan.say("start", self.name, f"SHA-256 {self.sha256}; {self._kept()} kept")
        text_len = settings["text"]["text_len"]
        tokenizer = self.model.text_tokenizer
        assert isinstance(tokenizer, CaptionTokenizer), "checked when the model was read"
        cut = cut_captions(tokenizer, pairs.train[:LENGTH_SAMPLE], text_len)
        plan.say("text tokenizer", f"of {self.name}", f"{tokenizer.vocab_size:,} ids; {cut}")
        if rank := _at(settings, "transformer", "lora").get("rank"):
            why = "low-rank updates are trained, and no other weights of the transformer"
            plan.say("transformer.lora.rank", rank, why)
        for stage in dict.fromkeys((*self.trained, "transformer", "ranker")):
            if str(_at(settings, stage).get("steps")) == "0":
                plan.say(stage, "stays as it is in the model", "it makes no steps")
                continue
            how = "begins with the model's weights" if stage in self.trained else "begins anew"
            why = f"learning rates are {PEAK:.0%} of the recipe's, unless given"
            plan.say(stage, how, why if stage in self.trained else "the model has no CLIP that reads its text tokens")

    def copy_to(self, run: RunDirectory, config: RunConfig, pairs: RunPairs) -> None:
        """Make the model the run's own, which can be drawn with at once. Its text tokenizer comes last.

        Raises:
            StorageError: The run's directory cannot be written.
        """
        for stage in self.trained:
            run.mark_trained(stage, 0)
        if captions := self.old_captions:
            draw_before(self.model, captions, run, seed=config.seed)
        for part in dict.fromkeys(("image", *self.trained)):
            _copy(self.directory / part, run.part(part))
        sampling = self.model.sampling
        save_settings(run.model, name=run.name, sampling=sampling, card=self._card(run.name, config, pairs))
        _copy(self.directory / "text", run.part("text"))

    def _asked(self, overrides: Settings) -> Settings:
        """Return the user's settings but the image tokenizer; raise a `ConfigError` for what contradicts the model."""
        image = dict(_at(overrides, "image"))
        given = image.pop("pretrained", None)
        if given not in (None, self.name):
            expected, remedy = f"the one of {self.name}", "drop --image-tokenizer, or --from"
            raise ConfigError(f"the image tokenizer {given}", expected=expected, remedy=remedy)
        asked = overrides | {"image": image}
        sizes = {"image": {"pretrained": self.name, "model": self._image_model()}}
        own = overlay(RunConfig(), merge(self._sizes(), sizes) | {"start": {"model": self.name}})
        both = [to_plain(config) for config in (own, overlay(own, asked))]
        for setting in differing(*both):
            mine, theirs = (_leaf(plain, setting) for plain in both)
            is_longer = setting == "text.text_len" and theirs > mine
            if setting.startswith(self._fixed()) and theirs is not None and not is_longer:
                expected = f"{mine}{' or more' if setting == 'text.text_len' else ''}, as {self.name} has"
                remedy = f"drop {setting}, or train without --from"
                raise ConfigError(f"{setting} {theirs}", expected=expected, remedy=remedy)
        return asked

    def _image_model(self) -> Settings:
        vae = self.model.image_tokenizer
        assert isinstance(vae, DiscreteVAE), "checked when the model was read"
        plain: Settings = to_plain(vae.config)
        return plain

    def _fixed(self) -> tuple[str, ...]:
        return _FIXED if self.clip is not None else tuple(name for name in _FIXED if not name.startswith("ranker"))

    def _text_len(self, asked: Settings) -> int:
        return int(_at(asked, "text").get("text_len") or self.model.transformer.config.text_len)

    def _sizes(self) -> Settings:
        transformer = self.model.transformer.config
        sizes: Settings = {
            "text": {"vocab_size": transformer.text_vocab_size, "text_len": transformer.text_len},
            "transformer": {"model": _own_sizes(transformer, TransformerConfig)},
        }
        if self.clip is not None:
            clip = self.clip.config
            sizes["ranker"] = {"model": _own_sizes(clip, CLIPConfig), "image_size": list(clip.image_size)}
        return sizes

    def _kept(self) -> str:
        return "its text tokenizer is" if self.tunes_image else "its tokenizers are"

    def _card(self, name: str, config: RunConfig, pairs: RunPairs) -> str:
        """Return the README of the run's model, with that of the model that it started from."""
        with FakeTensorMode():  # tensors without numbers
            transformer = Transformer(config.transformer_model())
        card = model_card(name, transformer, self.model.image_tokenizer, is_ranked=True)
        before = self.directory / "README.md"
        lines = before.read_text("utf-8").splitlines() if before.is_file() else []
        end = lines.index("---", 1) if lines[:1] == ["---"] and "---" in lines[1:] else -1
        for line in lines[1:end] if end > 0 else ():
            if line.startswith("license:"):
                card = card.replace("---\n", f"---\n{line}\n", 1)
        quoted = "\n".join(f"> {line}".rstrip() for line in lines[end + 1 :]).strip()
        return (
            f"{card}\n## Trained further\n\nFrom `{self.name}` (SHA-256 {self.sha256}),\n"
            f"on {pairs.kept:,} pairs: {self._kept()} kept." + (f" Its card:\n\n{quoted}\n" if quoted else "\n")
        )


def read_start(config: StartConfig) -> Start | None:
    """Return the model that a run starts from; None where it starts from none.

    Raises:
        ModelError: There is no such model, it is damaged, or it is made of parts that cannot be trained further.
        ConfigError: It is another model than the one with the given sum.
        DataError: The old captions cannot be read.
    """
    if config.model is None:
        return None
    directory = find_model(config.model)
    model = DALLE(**load_model(config.model))
    for part, value, kind in (
        ("text", model.text_tokenizer, CaptionTokenizer),
        ("image", model.image_tokenizer, DiscreteVAE),
    ):
        if not isinstance(value, kind):
            given = f"{config.model}, whose {part} part is a {type(value).__name__}"
            raise ModelError(
                given, expected=f"a {kind.__name__}", remedy="start from a model that this package trained"
            )
    sha256 = model.digest()
    assert sha256 is not None, "both tokenizers have digests"
    if config.sha256 not in (None, sha256):
        given, expected = f"{config.model}, whose SHA-256 is {sha256}", f"{config.sha256}, as start.sha256 says"
        raise ConfigError(given, expected=expected, remedy="name the model that the run was planned with")
    captions = () if config.old_captions is None else read_captions(config.old_captions)
    return Start(config.model, directory, model, sha256, _further(model), captions, config.tune == "image")


def keep_adapter(model: Transformer, config: RunConfig, run: RunDirectory) -> None:
    """Write the low-rank updates of a trained model as the run's adapter, and merge them into its weights."""
    lora, start = config.transformer.lora, config.start
    assert start.sha256 is not None, "set by the plan"
    own = AdapterConfig(rank=lora.rank, alpha=lora.alpha, base=start.model or "", base_sha256=start.sha256)
    adapter = Adapter(own, take_updates(model))
    adapter.save_pretrained(run.adapter)
    adapter.add_to(model)


def _further(model: DALLE) -> CLIP | None:
    """Return the CLIP of a model, if it reads the text tokens that the transformer reads."""
    ranker, text = model.ranker, model.text_tokenizer
    if not isinstance(ranker, CLIPRanker) or not isinstance(ranker.text_tokenizer, CaptionTokenizer):
        return None
    assert isinstance(text, CaptionTokenizer), "checked when the model was read"
    is_same = ranker.text_tokenizer.digest() == text.digest()
    is_same &= ranker.clip.config.text_vocab_size == model.transformer.config.text_vocab_size
    return ranker.clip if is_same else None


@torch.no_grad()
def take_weights(model: nn.Module, directory: Path) -> None:
    """Give a model the weights of a part. Text positions that it has and the part has not begin as the part's last one.

    Raises:
        ModelError: The part is absent or damaged.
    """
    assert isinstance(model, DiscreteVAE | Transformer | CLIP), "the parts that are trained further"
    before, own = type(model).from_pretrained(directory).state_dict(), model.state_dict()
    plain = {name: plain_name(name) for name in own}  # low-rank updates are not in the part
    taken = {name: _as_long(before[of], own[name].shape) for name, of in plain.items() if of is not None}
    model.load_state_dict(own | taken)


def _as_long(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Return as many rows of a tensor as a shape has, with copies of the last one where they are more."""
    if tensor.shape == shape:
        return tensor
    missing = tensor[-1:].expand(max(0, shape[0] - len(tensor)), *tensor.shape[1:])
    return torch.cat([tensor[: shape[0]], missing])


def _own_sizes(config: TransformerConfig | CLIPConfig, kind: type[Any]) -> Settings:
    """Return the sizes of a part but for those that other parts have too."""
    shared = set(vars(kind())) - set(vars(kind.__bases__[0]()))
    return {name: value for name, value in to_plain(config).items() if name not in shared}


def _at(settings: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """Return the nested settings under some names; none where there are none."""
    for name in names:
        inner = settings.get(name)
        settings = inner if isinstance(inner, Mapping) else {}
    return settings


def _leaf(plain: Any, setting: str) -> Any:
    for name in setting.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain


def _copy(source: Path, target: Path) -> None:
    """Copy a part with new permissions: a model may lie where nothing can be written."""
    with whole_directory(target) as directory:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                place = directory / path.relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
