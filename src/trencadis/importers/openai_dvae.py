"""OpenAI's discrete VAE: `encoder.pkl` and `decoder.pkl`, modules of the package `dall_e` pickled whole.

Source: Ramesh et al. 2021; the names are those of the published code.
"""

from collections.abc import Iterator, Sequence
from math import gcd
from pathlib import Path

from trencadis.config import DiscreteVAEConfig, PublishedConfig
from trencadis.image import DiscreteVAE
from trencadis.importers.assembly import Tensors, assemble, check_names, counted, shape_of, shapes_of
from trencadis.importers.checkpoint_files import named_tensors, read_checkpoint
from trencadis.importers.refusal import refusal
from trencadis.importers.tensors import read_tensors

_CODEBOOK = "bottleneck.codebook"
_ENCODER_KERNEL = 7
_CONVOLUTIONS = 4  # of a block's residual path


def read_openai_dvae(paths: Sequence[Path], image_size: tuple[int, int] = (256, 256)) -> DiscreteVAE:
    """Return the discrete VAE of two published files.

    Args:
        paths: The encoder's file and the decoder's, in either order, or the folder that holds them. Each is a pickled
            module or its state dict.
        image_size: Height and width of the pictures that it is meant for, in pixels; the files do not say.

    Raises:
        ModelError: A file is unsafe, damaged, or of another kind; or the two do not belong together.
        ConfigError: No model has these sizes.
    """
    (encoder_path, encoder), (decoder_path, decoder) = _told_apart(_pair(paths))
    config = _config(encoder, decoder, encoder_path, decoder_path, image_size)
    shapes = shapes_of(config)
    weights = {}
    for path, tensors, is_encoder in ((encoder_path, encoder, True), (decoder_path, decoder, False)):
        names = dict(_names(config, is_encoder=is_encoder))
        wanted = {theirs: shapes[ours] for ours, theirs in names.items() if ours in shapes}
        if not is_encoder:
            wanted |= {
                "blocks.input.w": (config.latent_dim, config.image_vocab_size, 1, 1),
                "blocks.input.b": (config.latent_dim,),
            }
        check_names(tensors, wanted, path)
        read = read_tensors(tensors)
        if not is_encoder:
            # Its first layer is a 1×1 convolution over one-hot codes: a column of it, and the bias, for each code.
            columns, bias = read.pop("blocks.input.w")[:, :, 0, 0], read.pop("blocks.input.b")
            weights[_CODEBOOK] = (columns + bias[:, None]).T.contiguous()
        weights |= {ours: read[theirs] for ours, theirs in names.items() if theirs in read}
    return assemble(config, weights)


def published_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are meant: a folder stands for `encoder.pkl` and `decoder.pkl` in it."""
    names = ("encoder.pkl", "decoder.pkl")
    return [file for path in paths for file in ([path / name for name in names] if path.is_dir() else [path])]


def _pair(paths: Sequence[Path]) -> list[Path]:
    """Return the two files that are meant.

    Raises:
        ModelError: There are not two.
    """
    files = published_files(paths)
    if len(files) != 2:
        given = "is one file" if len(files) == 1 else f"is the first of {len(files)} files"
        expected = "the encoder's file and the decoder's, or the folder that holds encoder.pkl and decoder.pkl"
        raise refusal(files[0], given, expected=expected, remedy="name both")
    return files


def _told_apart(paths: list[Path]) -> tuple[tuple[Path, Tensors], tuple[Path, Tensors]]:
    """Return the encoder's file and tensors, and the decoder's: the encoder begins with a 7×7 convolution."""
    found: dict[bool, tuple[Path, Tensors]] = {}
    for path in paths:
        tensors = named_tensors(read_checkpoint(path))
        kernel = shape_of(tensors, "blocks.input.w", path, dimensions=4)[2:]
        if kernel not in ((_ENCODER_KERNEL, _ENCODER_KERNEL), (1, 1)):
            raise refusal(path, f"begins with a convolution of {kernel}", expected="7×7 or 1×1")
        found[kernel[0] == _ENCODER_KERNEL] = path, tensors
    if len(found) < 2:
        kind = "encoders" if True in found else "decoders"
        raise refusal(paths[1], f"and {paths[0]} are both {kind}", expected="one of each", remedy="name the other file")
    return found[True], found[False]


def _config(
    encoder: Tensors, decoder: Tensors, encoder_path: Path, decoder_path: Path, image_size: tuple[int, int]
) -> DiscreteVAEConfig:
    """Return the sizes that the tensors' shapes say."""
    groups = counted(encoder, lambda group: f"blocks.group_{group}.", first=1)
    blocks = counted(encoder, lambda block: f"blocks.group_1.block_{block}.", first=1)
    last = f"res_path.conv_{_CONVOLUTIONS}.w"
    widths = [
        shape_of(encoder, f"blocks.group_{group}.block_1.{last}", encoder_path, dimensions=4)[0]
        for group in range(1, max(groups, 1) + 1)
    ]
    vocab_size = shape_of(encoder, "blocks.output.conv.w", encoder_path, dimensions=4)[0]
    latent_dim, decoder_vocab_size = shape_of(decoder, "blocks.input.w", decoder_path, dimensions=4)[:2]
    if decoder_vocab_size != vocab_size:
        expected = f"{vocab_size}, as the encoder has"
        given, remedy = f"has {decoder_vocab_size} codes", "name files of one model"
        raise refusal(decoder_path, given, expected=expected, remedy=remedy)
    hidden_dim = gcd(*widths)
    return DiscreteVAEConfig(
        image_size=image_size,
        image_vocab_size=vocab_size,
        latent_dim=latent_dim,
        pixels="logit_laplace",
        architecture=PublishedConfig(
            hidden_dim=hidden_dim,
            width_multipliers=tuple(width // hidden_dim for width in widths),
            blocks_per_group=blocks,
        ),
    )


def _names(config: DiscreteVAEConfig, *, is_encoder: bool) -> Iterator[tuple[str, str]]:
    """Yield our name and the publisher's for each weight of one file; some of the identities are not there."""
    part = "encoder" if is_encoder else "decoder"
    first, last = ("encoder.input", "bottleneck.to_logits") if is_encoder else (None, "decoder.output")
    layers = [(last, "blocks.output.conv"), *([(first, "blocks.input")] if first else [])]
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
