"""VQ-GAN of taming-transformers: a Lightning checkpoint, with euclidean or Gumbel codes.

Source: Esser et al. 2021; the names are those of the published code.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from pathlib import Path
from typing import Literal

from torch import Tensor

from trencadis.config import AttentiveConfig, CategoricalCodes, DiscreteVAEConfig, NearestCodes
from trencadis.image import DiscreteVAE
from trencadis.importers.assembly import CHECK_FAMILY, assemble, checked_weights, count_prefixes, shape_of, shapes_of
from trencadis.importers.checkpoint_files import named_tensors, read_checkpoint
from trencadis.importers.refusal import refusal, shown
from trencadis.importers.tensors import Tensors

NORM_GROUPS = 32
# The VQ-GAN's prefix inside a larger model: latent diffusion, and wrappers.
_PREFIXES = ("", "first_stage_model.", "model.")
# Used in training only: discriminator and perceptual loss, a projection for plots, moving averages.
_DROPPED = ("loss.", "colorize", "model_ema.", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg")
# Names of the bottleneck in the file, by ours.
_EUCLIDEAN = {
    "bottleneck.to_codes.weight": "quant_conv.weight",
    "bottleneck.to_codes.bias": "quant_conv.bias",
    "bottleneck.codebook": "quantize.embedding.weight",
    "bottleneck.from_codes.weight": "post_quant_conv.weight",
    "bottleneck.from_codes.bias": "post_quant_conv.bias",
}


def read_taming_vqgan(paths: Sequence[Path], image_size: tuple[int, int] = (256, 256)) -> DiscreteVAE:
    """Return the VQ-GAN of a published checkpoint, alone or in one of latent diffusion.

    Args:
        paths: One file: a checkpoint with its tensors under `state_dict`, or the state dict itself.
        image_size: Height and width in pixels of the images that it is meant for; the file does not say.

    Raises:
        ModelError: The file is unsafe, damaged, or of another kind.
        ConfigError: No model has these sizes.
    """
    if len(paths) != 1:
        raise refusal(paths[1], "is a second file", expected="one checkpoint", remedy="import one at a time")
    path = paths[0]
    tensors = _model_tensors(named_tensors(read_checkpoint(path)), path)
    config = _config(tensors, path, image_size)
    wanted = shapes_of(config)
    if not isinstance(config.codes, CategoricalCodes):
        return assemble(config, checked_weights(tensors, path, [*_names(config), *_EUCLIDEAN.items()], wanted))
    bottleneck = _gumbel_shapes(config, shape_of(tensors, "quantize.embed.weight", path, dimensions=2)[1])
    weights = checked_weights(tensors, path, _names(config), wanted, bottleneck)
    published = {name: weights.pop(name) for name in bottleneck}
    return assemble(config, weights | _folded(published))


def _model_tensors(tensors: Tensors, path: Path) -> Tensors:
    """Return the tensors of the VQ-GAN itself, by the names of taming-transformers."""
    probe = "encoder.conv_in.weight"
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}{probe}" in tensors), None)
    if prefix is None:
        raise refusal(path, f"has no {probe}", expected="a VQ-GAN of taming-transformers", remedy=CHECK_FAMILY)
    named = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return {name: tensor for name, tensor in named.items() if not name.startswith(_DROPPED)}


def _config(tensors: Tensors, path: Path, image_size: tuple[int, int]) -> DiscreteVAEConfig:
    """Return the sizes that the tensors' shapes say."""
    groups = count_prefixes(tensors, lambda group: f"encoder.down.{group}.")
    blocks = count_prefixes(tensors, lambda block: f"encoder.down.0.block.{block}.")
    first = "block.0.conv1.weight"
    widths = [shape_of(tensors, f"encoder.down.{group}.{first}", path)[0] for group in range(max(groups, 1))]
    inputs = shape_of(tensors, "encoder.conv_in.weight", path)[:2]
    if inputs != (widths[0], 3) or any(width % NORM_GROUPS for width in widths):
        given = f"has an input layer of {inputs[0]} by {inputs[1]} channels and groups of {widths}"
        expected = f"3 input channels, and widths in multiples of {NORM_GROUPS} that begin with the input layer's"
        raise refusal(path, given, expected=expected, remedy="import another")
    is_gumbel = "quantize.proj.weight" in tensors
    codebook = "quantize.embed.weight" if is_gumbel else "quantize.embedding.weight"
    vocab_size, codebook_dim = shape_of(tensors, codebook, path, dimensions=2)
    return DiscreteVAEConfig(
        image_size=image_size,
        image_vocab_size=vocab_size,
        latent_dim=shape_of(tensors, "decoder.conv_in.weight", path)[1],
        pixels="signed",
        architecture=AttentiveConfig(
            hidden_dim=gcd(*widths),
            width_multipliers=tuple(width // gcd(*widths) for width in widths),
            blocks_per_group=blocks,
            attention=_attention(tensors, path, groups, blocks),
        ),
        codes=CategoricalCodes() if is_gumbel else NearestCodes(codebook_dim=codebook_dim),
    )


def _attention(tensors: Tensors, path: Path, groups: int, blocks: int) -> Literal["none", "middle", "last"]:
    """Return which blocks have attention; only three choices can be had here."""
    found = {name.rsplit(".", 2)[0] for name in tensors if ".attn" in name}
    middle = {"encoder.mid.attn_1", "decoder.mid.attn_1"}
    last = {f"encoder.down.{groups - 1}.attn.{block}" for block in range(blocks)}
    last |= {f"decoder.up.{groups - 1}.attn.{block}" for block in range(blocks + 1)}
    if found in (set(), middle, middle | last):
        return "none" if not found else "middle" if found == middle else "last"
    odd = min(found ^ (middle | last))
    verb = "has" if odd in found else "has no"
    expected = "attention in the middle, and in all or no blocks of the smallest group"
    raise refusal(path, f"{verb} {shown(odd)}", expected=expected, remedy="import another")


def _names(config: DiscreteVAEConfig) -> Iterator[tuple[str, str]]:
    """Yield our name and the publisher's for each weight that encoder and decoder can have."""
    for ours, theirs in _layers(config):
        yield f"{ours}.weight", f"{theirs}.weight"
        yield f"{ours}.bias", f"{theirs}.bias"


def _layers(config: DiscreteVAEConfig) -> Iterator[tuple[str, str]]:
    architecture = config.architecture
    assert isinstance(architecture, AttentiveConfig)
    groups = len(architecture.width_multipliers)
    for part, way, resize, more in (("encoder", "down", "downsample", 0), ("decoder", "up", "upsample", 1)):
        yield f"{part}.input", f"{part}.conv_in"
        yield f"{part}.norm", f"{part}.norm_out"
        yield f"{part}.output", f"{part}.conv_out"
        yield from _block(f"{part}.middle.before", f"{part}.mid.block_1")
        yield from _attended(f"{part}.middle.attention", f"{part}.mid.attn_1")
        yield from _block(f"{part}.middle.after", f"{part}.mid.block_2")
        for group in range(groups):
            # The published decoder counts its groups from the largest grid, and runs them from the smallest.
            ours = f"{part}.groups.{groups - 1 - group if part == 'decoder' else group}"
            theirs = f"{part}.{way}.{group}"
            yield f"{ours}.resize", f"{theirs}.{resize}.conv"
            for block in range(architecture.blocks_per_group + more):
                yield from _block(f"{ours}.blocks.{block}", f"{theirs}.block.{block}")
                yield from _attended(f"{ours}.attentions.{block}", f"{theirs}.attn.{block}")


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for index in (1, 2):
        yield f"{ours}.norm_{index}", f"{theirs}.norm{index}"
        yield f"{ours}.convolution_{index}", f"{theirs}.conv{index}"
    yield f"{ours}.identity", f"{theirs}.nin_shortcut"


def _attended(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.norm", f"{theirs}.norm"
    for name, published in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "proj_out")):
        yield f"{ours}.{name}", f"{theirs}.{published}"


def _gumbel_shapes(config: DiscreteVAEConfig, embed_dim: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the published Gumbel bottleneck, by the publisher's names."""
    vocab_size, latent_dim = config.image_vocab_size, config.latent_dim
    return {
        "quant_conv.weight": (embed_dim, latent_dim, 1, 1),
        "quant_conv.bias": (embed_dim,),
        "quantize.proj.weight": (vocab_size, embed_dim, 1, 1),
        "quantize.proj.bias": (vocab_size,),
        "quantize.embed.weight": (vocab_size, embed_dim),
        "post_quant_conv.weight": (latent_dim, embed_dim, 1, 1),
        "post_quant_conv.bias": (latent_dim,),
    }


def _folded(read: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return our bottleneck from the published Gumbel one, which has one more linear layer at either end.

    Two linear layers in a row are one; in float64, so that folding them rounds less than running them.
    """
    before, project, after = (
        read[f"{name}.weight"].double()[:, :, 0, 0] for name in ("quant_conv", "quantize.proj", "post_quant_conv")
    )
    weight = project @ before
    bias = project @ read["quant_conv.bias"].double() + read["quantize.proj.bias"].double()
    codebook = read["quantize.embed.weight"].double() @ after.T + read["post_quant_conv.bias"].double()
    return {
        "bottleneck.to_logits.weight": weight.float()[:, :, None, None],
        "bottleneck.to_logits.bias": bias.float(),
        "bottleneck.codebook": codebook.float(),
    }
