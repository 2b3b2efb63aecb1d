"""OpenAI's discrete VAE: `encoder.pkl` and `decoder.pkl`, modules of the package `dall_e` pickled whole.

Source: Ramesh et al. 2021; the names are those of the published code.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from pathlib import Path

from torch import Tensor

from trencadis.config import DiscreteVAEConfig, PublishedConfig
from trencadis.image import DiscreteVAE
from trencadis.importers.assembly import assemble, checked_weights, count_prefixes, shape_of, shapes_of
from trencadis.importers.checkpoint_files import named_tensors, read_checkpoint
from trencadis.importers.refusal import refusal
from trencadis.importers.tensors import Tensors

_KERNEL_SIZES = {(7, 7): "encoder", (1, 1): "decoder"}  # of the first convolution
_CONVOLUTIONS = 4  # of a block's residual path


def read_openai_dvae(paths: Sequence[Path], image_size: tuple[int, int] = (256, 256)) -> DiscreteVAE:
    """Return the discrete VAE of two published files, each a pickled module or its state dict.

    Args:
        paths: The encoder's file and the decoder's, in either order, or the folder that holds them.
        image_size: Height and width in pixels of the images that it is meant for; the files do not say.

    Raises:
        ModelError: A file is unsafe, damaged, or of another kind; or the two do not belong together.
        ConfigError: No model has these sizes.
    """
    parts = _parts(published_files(paths))
    config = _config(parts, image_size)
    wanted, latent_dim, weights = shapes_of(config), config.latent_dim, dict[str, Tensor]()
    input_shapes = {"blocks.input.w": (latent_dim, config.image_vocab_size, 1, 1), "blocks.input.b": (latent_dim,)}
    for part, (path, tensors) in parts.items():
        more = input_shapes if part == "decoder" else None
        weights |= checked_weights(tensors, path, _names(config, part), wanted, more)
    # The decoder's first layer is a 1×1 convolution over one-hot codes: a column and the bias for each code.
    columns, bias = weights.pop("blocks.input.w")[:, :, 0, 0], weights.pop("blocks.input.b")
    weights["bottleneck.codebook"] = (columns + bias[:, None]).T.contiguous()
    return assemble(config, weights)


def published_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of an import: a folder stands for `encoder.pkl` and `decoder.pkl` in it."""
    names = ("encoder.pkl", "decoder.pkl")
    return [file for path in paths for file in ([path / name for name in names] if path.is_dir() else [path])]


def _parts(paths: Sequence[Path]) -> dict[str, tuple[Path, Tensors]]:
    """Return path and tensors of `encoder` and `decoder`; the files must be one of each."""
    expected, remedy = "an encoder's file and a decoder's, or their folder", "name both"
    if len(paths) != 2:
        raise refusal(paths[0], f"is 1 of {len(paths)} files", expected=expected, remedy=remedy)
    parts = {}
    for path in paths:
        tensors = named_tensors(read_checkpoint(path))
        kernel_size = shape_of(tensors, "blocks.input.w", path)[2:]
        if kernel_size not in _KERNEL_SIZES:
            raise refusal(path, f"begins with a convolution of {kernel_size}", expected="7×7 or 1×1")
        parts[_KERNEL_SIZES[kernel_size]] = path, tensors
    if len(parts) < 2:
        raise refusal(paths[1], f"and {paths[0]} are both {next(iter(parts))}s", expected=expected, remedy=remedy)
    return parts


def _config(parts: dict[str, tuple[Path, Tensors]], image_size: tuple[int, int]) -> DiscreteVAEConfig:
    """Return the sizes that the tensors' shapes say."""
    (encoder_path, encoder), (decoder_path, decoder) = parts["encoder"], parts["decoder"]
    groups = count_prefixes(encoder, lambda group: f"blocks.group_{group}.", first=1)
    last = f"block_1.res_path.conv_{_CONVOLUTIONS}.w"
    names = [f"blocks.group_{group}.{last}" for group in range(1, max(groups, 1) + 1)]
    widths = [shape_of(encoder, name, encoder_path)[0] for name in names]
    vocab_size = shape_of(encoder, "blocks.output.conv.w", encoder_path)[0]
    latent_dim, decoder_vocab_size = shape_of(decoder, "blocks.input.w", decoder_path)[:2]
    if decoder_vocab_size != vocab_size:
        given, expected = f"has {decoder_vocab_size:,} codes", f"{vocab_size:,}, as the encoder has"
        raise refusal(decoder_path, given, expected=expected, remedy="name files of one model")
    return DiscreteVAEConfig(
        image_size=image_size,
        image_vocab_size=vocab_size,
        latent_dim=latent_dim,
        pixels="logit_laplace",
        architecture=PublishedConfig(
            hidden_dim=gcd(*widths),
            width_multipliers=tuple(width // gcd(*widths) for width in widths),
            blocks_per_group=count_prefixes(encoder, lambda block: f"blocks.group_1.block_{block}.", first=1),
        ),
    )


def _names(config: DiscreteVAEConfig, part: str) -> Iterator[tuple[str, str]]:
    """Yield our name and the publisher's for each weight of one file; not every identity exists."""
    layers = [("bottleneck.to_logits" if part == "encoder" else "decoder.output", "blocks.output.conv")]
    if part == "encoder":
        layers.append(("encoder.input", "blocks.input"))
    architecture = config.architecture
    assert isinstance(architecture, PublishedConfig)
    for group in range(len(architecture.width_multipliers)):
        for block in range(architecture.blocks_per_group):
            ours, theirs = f"{part}.groups.{group}.{block}", f"blocks.group_{group + 1}.block_{block + 1}"
            layers.append((f"{ours}.identity", f"{theirs}.id_path"))
            for index in range(_CONVOLUTIONS):
                layers.append((f"{ours}.convolutions.{index}", f"{theirs}.res_path.conv_{index + 1}"))
    for ours, theirs in layers:
        yield f"{ours}.weight", f"{theirs}.w"
        yield f"{ours}.bias", f"{theirs}.b"
