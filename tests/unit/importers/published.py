"""Small files in the containers of their publishers, and what the publishers' models make of pictures.

Nothing here is the publishers' code: modules of the same names hold parameters of the same names and shapes, and the
models are written out as functions of the state dict.
"""

import sys
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

State = Mapping[str, Tensor]
EPS = 0.1  # of the published map of pixels


def mosaic(count: int, *, rows: int, columns: int) -> Tensor:
    """Return pictures of tiles of 8×8 pixels, each of another colour, with some noise."""
    generator = torch.Generator().manual_seed(1)
    tiles = F.interpolate(torch.rand(count, 3, rows, columns, generator=generator), scale_factor=8.0)
    return (tiles + torch.randn(tiles.shape, generator=generator) / 10).clamp(0, 1)


def save(content: object, path: Path, *, legacy: bool = False) -> Path:
    """Save in torch's format, or in the one before 1.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older format looks for the source of every class
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@contextmanager
def published_classes(places: Mapping[type, str]) -> Iterator[None]:
    """Let pickle find classes under the names of modules that are not installed; afterwards they are not there."""
    modules: dict[str, ModuleType] = {}
    for cls, module_name in places.items():
        parts = module_name.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            modules.setdefault(name, ModuleType(name))
        cls.__module__, cls.__qualname__ = module_name, cls.__name__
        setattr(modules[module_name], cls.__name__, cls)
    assert not modules.keys() & sys.modules.keys()
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class Conv2d(nn.Module):
    """The published convolution: `.w` and `.b`; weights that do not lie in order."""

    def __init__(self, n_in: int, n_out: int, kw: int) -> None:
        super().__init__()
        self.n_in, self.n_out, self.kw = n_in, n_out, kw
        self.use_float16, self.device = True, torch.device("cpu")
        drawn = torch.randn(kw, kw, n_in, n_out) * (2 / (n_in * kw**2)) ** 0.5
        self.w = nn.Parameter(drawn.permute(3, 2, 0, 1), requires_grad=False)
        self.b = nn.Parameter(torch.randn(n_out) / 20, requires_grad=False)
        assert kw * n_in == 1 or not self.w.is_contiguous()


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.n_in, self.n_out, self.n_hid = n_in, n_out, n_out // 4
        widths = [n_in, self.n_hid, self.n_hid, self.n_hid, n_out]
        self.id_path = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        layers: list[tuple[str, nn.Module]] = []
        for index, kernel in enumerate(kernels):
            layers.append((f"relu_{index + 1}", nn.ReLU()))
            layers.append((f"conv_{index + 1}", Conv2d(widths[index], widths[index + 1], kernel)))
        self.res_path = nn.Sequential(OrderedDict(layers))


class EncoderBlock(_Block):
    """Of the encoder."""


class DecoderBlock(_Block):
    """Of the decoder."""


def _groups(
    block: type[_Block], widths: list[int], blocks: int, kernels: tuple[int, ...], between: tuple[str, nn.Module]
) -> list[tuple[str, nn.Module]]:
    groups: list[tuple[str, nn.Module]] = []
    for group in range(1, len(widths)):
        layers: list[tuple[str, nn.Module]] = [
            (f"block_{i + 1}", block(widths[group - 1 if i == 0 else group], widths[group], kernels))
            for i in range(blocks)
        ]
        groups.append((f"group_{group}", nn.Sequential(OrderedDict([*layers, between]))))
    return groups


class Encoder(nn.Module):
    """The published encoder, of any sizes."""

    def __init__(self, widths: list[int], blocks: int, vocab: int) -> None:
        super().__init__()
        groups = _groups(EncoderBlock, [widths[0], *widths], blocks, (3, 3, 3, 1), ("pool", nn.MaxPool2d(2)))
        output = nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", Conv2d(widths[-1], vocab, 1))]))
        layers: list[tuple[str, nn.Module]] = [("input", Conv2d(3, widths[0], 7)), *groups, ("output", output)]
        self.blocks = nn.Sequential(OrderedDict(layers))


class Decoder(nn.Module):
    """The published decoder, of any sizes."""

    def __init__(self, widths: list[int], blocks: int, vocab: int, n_init: int) -> None:
        super().__init__()
        up = ("upsample", nn.Upsample(scale_factor=2, mode="nearest"))
        groups = _groups(DecoderBlock, [n_init, *widths[::-1]], blocks, (1, 3, 3, 3), up)
        output = nn.Sequential(OrderedDict([("relu", nn.ReLU()), ("conv", Conv2d(widths[0], 6, 1))]))
        layers: list[tuple[str, nn.Module]] = [("input", Conv2d(vocab, n_init, 1)), *groups, ("output", output)]
        self.blocks = nn.Sequential(OrderedDict(layers))


OPENAI_PLACES: dict[type, str] = {
    Encoder: "dall_e.encoder",
    EncoderBlock: "dall_e.encoder",
    Decoder: "dall_e.decoder",
    DecoderBlock: "dall_e.decoder",
    Conv2d: "dall_e.utils",
}


def openai_modules(
    widths: tuple[int, ...] = (8, 16, 32, 64), blocks: int = 2, vocab: int = 40, n_init: int = 12
) -> tuple[Encoder, Decoder]:
    torch.manual_seed(3)
    return Encoder(list(widths), blocks, vocab), Decoder(list(widths), blocks, vocab, n_init)


def save_openai(folder: Path, *, legacy: bool = False, **sizes: Any) -> tuple[State, State]:
    """Write `encoder.pkl` and `decoder.pkl` as they are published; returns their state dicts."""
    folder.mkdir(parents=True, exist_ok=True)
    with published_classes(OPENAI_PLACES):
        modules = openai_modules(**sizes)
        for name, module in zip(("encoder", "decoder"), modules, strict=True):
            save(module, folder / f"{name}.pkl", legacy=legacy)
    return modules[0].state_dict(), modules[1].state_dict()


def _openai_convolution(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.w"]
    return F.conv2d(x, weight, state[f"{name}.b"], padding=weight.shape[-1] // 2)


def _openai_groups(state: State, x: Tensor, *, is_encoder: bool) -> Tensor:
    groups = len({name.split(".")[1] for name in state if ".block_" in name})
    blocks = len({name.split(".")[2] for name in state if ".block_" in name})
    for group in range(1, groups + 1):
        for block in range(1, blocks + 1):
            name = f"blocks.group_{group}.block_{block}"
            residual = x
            for index in range(1, 5):
                residual = _openai_convolution(state, f"{name}.res_path.conv_{index}", F.relu(residual))
            identity = _openai_convolution(state, f"{name}.id_path", x) if f"{name}.id_path.w" in state else x
            x = identity + residual / (groups * blocks) ** 2
        if group < groups:
            x = F.max_pool2d(x, 2) if is_encoder else F.interpolate(x, scale_factor=2, mode="nearest")
    return _openai_convolution(state, "blocks.output.conv", F.relu(x))


def openai_tokens(encoder: State, images: Tensor) -> Tensor:
    """Return what the published encoder makes of pictures in [0, 1]."""
    pixels = (1 - 2 * EPS) * images + EPS
    x = _openai_convolution(encoder, "blocks.input", pixels)
    return _openai_groups(encoder, x, is_encoder=True).argmax(1)


def openai_pictures(decoder: State, tokens: Tensor) -> Tensor:
    """Return what the published decoder makes of tokens."""
    vocab = decoder["blocks.input.w"].shape[1]
    one_hot = F.one_hot(tokens, vocab).permute(0, 3, 1, 2).float()
    maps = _openai_groups(decoder, _openai_convolution(decoder, "blocks.input", one_hot), is_encoder=False)
    return ((maps[:, :3].sigmoid() - EPS) / (1 - 2 * EPS)).clamp(0, 1)


class ModelCheckpoint:
    """What Lightning leaves in its checkpoints."""

    def __init__(self) -> None:
        self.best_model_path, self.monitor = "/somewhere/best.ckpt", "val/rec_loss"


LIGHTNING_PLACES: dict[type, str] = {ModelCheckpoint: "pytorch_lightning.callbacks.model_checkpoint"}


def taming_state(
    *,
    multipliers: tuple[int, ...] = (1, 2, 2),
    blocks: int = 1,
    attention: str = "last",
    gumbel: bool = False,
    channels: int = 32,
    z_channels: int = 6,
    embed_dim: int = 5,
    vocab: int = 30,
) -> dict[str, Tensor]:
    """Return a state dict with the published names and shapes, and weights that make many codes used."""
    torch.manual_seed(5)
    state: dict[str, Tensor] = {}
    embed_dim = z_channels if gumbel else embed_dim

    def convolution(name: str, before: int, after: int, kernel: int = 1) -> None:
        state[f"{name}.weight"] = torch.randn(after, before, kernel, kernel) * (before * kernel**2) ** -0.5
        state[f"{name}.bias"] = torch.randn(after) / 5

    def norm(name: str, width: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = 1 + torch.randn(width) / 5, torch.randn(width) / 5

    def block(name: str, before: int, after: int) -> None:
        norm(f"{name}.norm1", before)
        convolution(f"{name}.conv1", before, after, 3)
        norm(f"{name}.norm2", after)
        convolution(f"{name}.conv2", after, after, 3)
        if before != after:
            convolution(f"{name}.nin_shortcut", before, after)

    def attend(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        for layer in ("q", "k", "v", "proj_out"):
            convolution(f"{name}.{layer}", width, width)

    widths = [channels * multiplier for multiplier in multipliers]
    last = len(widths) - 1
    for part in ("encoder", "decoder"):
        is_encoder = part == "encoder"
        convolution(f"{part}.conv_in", 3 if is_encoder else z_channels, widths[0 if is_encoder else -1], 3)
        way, resize, count = ("down", "downsample", blocks) if is_encoder else ("up", "upsample", blocks + 1)
        before = widths[0 if is_encoder else -1]
        for group in range(len(widths)) if is_encoder else reversed(range(len(widths))):
            for index in range(count):
                block(f"{part}.{way}.{group}.block.{index}", before, widths[group])
                before = widths[group]
                if attention == "last" and group == last:
                    attend(f"{part}.{way}.{group}.attn.{index}", before)
            if group != (last if is_encoder else 0):
                convolution(f"{part}.{way}.{group}.{resize}.conv", before, before, 3)
        block(f"{part}.mid.block_1", widths[-1], widths[-1])
        if attention != "none":
            attend(f"{part}.mid.attn_1", widths[-1])
        block(f"{part}.mid.block_2", widths[-1], widths[-1])
        norm(f"{part}.norm_out", before)
        convolution(f"{part}.conv_out", before, z_channels if is_encoder else 3, 3)
    convolution("quant_conv", z_channels, embed_dim)
    convolution("post_quant_conv", embed_dim, z_channels)
    if gumbel:
        convolution("quantize.proj", z_channels, vocab)
        state["quantize.embed.weight"] = torch.randn(vocab, embed_dim)
    else:
        state["quantize.embedding.weight"] = torch.randn(vocab, embed_dim) / 3
    return state


def save_taming(path: Path, state: State, *, legacy: bool = False) -> Path:
    """Write a checkpoint as Lightning does, with what only training needs beside the weights."""
    with published_classes(LIGHTNING_PLACES):
        content = {
            "epoch": 7,
            "global_step": 1234,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5), "callback": ModelCheckpoint()}},
            "optimizer_states": [
                {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
            ],
            "lr_schedulers": [],
            "state_dict": OrderedDict({**state, "loss.discriminator.main.0.weight": torch.zeros(4, 3, 4, 4)}),
        }
        return save(content, path, legacy=legacy)


def _convolve(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    return F.conv2d(
        x, weight, state[f"{name}.bias"], stride=stride, padding=weight.shape[-1] // 2 if stride == 1 else 0
    )


def _swished_norm(state: State, name: str, x: Tensor, *, swish: bool = True) -> Tensor:
    normed = F.group_norm(x, 32, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)
    return normed * torch.sigmoid(normed) if swish else normed


def _taming_block(state: State, name: str, x: Tensor) -> Tensor:
    residual = _convolve(state, f"{name}.conv1", _swished_norm(state, f"{name}.norm1", x))
    residual = _convolve(state, f"{name}.conv2", _swished_norm(state, f"{name}.norm2", residual))
    return (_convolve(state, f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x) + residual


def _taming_attention(state: State, name: str, x: Tensor) -> Tensor:
    if f"{name}.norm.weight" not in state:
        return x
    normed = _swished_norm(state, f"{name}.norm", x, swish=False)
    query, key, value = (_convolve(state, f"{name}.{layer}", normed).flatten(2) for layer in "qkv")
    weights = (torch.bmm(query.transpose(1, 2), key) * x.shape[1] ** -0.5).softmax(dim=2)
    read = torch.bmm(value, weights.transpose(1, 2)).view(x.shape)
    return x + _convolve(state, f"{name}.proj_out", read)


def _taming_part(state: State, part: str, x: Tensor) -> Tensor:
    is_encoder = part == "encoder"
    way = "down" if is_encoder else "up"
    groups = sorted({int(name.split(".")[2]) for name in state if name.startswith(f"{part}.{way}.")})
    blocks = len({name.split(".")[4] for name in state if name.startswith(f"{part}.{way}.0.block.")})

    def middle(x: Tensor) -> Tensor:
        x = _taming_block(state, f"{part}.mid.block_1", x)
        return _taming_block(state, f"{part}.mid.block_2", _taming_attention(state, f"{part}.mid.attn_1", x))

    x = _convolve(state, f"{part}.conv_in", x)
    x = x if is_encoder else middle(x)
    for group in groups if is_encoder else reversed(groups):
        name = f"{part}.{way}.{group}"
        for index in range(blocks):
            x = _taming_attention(state, f"{name}.attn.{index}", _taming_block(state, f"{name}.block.{index}", x))
        if is_encoder and group < groups[-1]:
            x = _convolve(state, f"{name}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
        elif not is_encoder and group > 0:
            x = _convolve(state, f"{name}.upsample.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
    x = middle(x) if is_encoder else x
    return _convolve(state, f"{part}.conv_out", _swished_norm(state, f"{part}.norm_out", x))


def taming_tokens(state: State, images: Tensor) -> Tensor:
    """Return what the published model makes of pictures in [0, 1]; of Gumbel's codes, the likeliest."""
    z = _convolve(state, "quant_conv", _taming_part(state, "encoder", 2 * images - 1))
    if "quantize.proj.weight" in state:
        return _convolve(state, "quantize.proj", z).argmax(1)
    vectors, codebook = z.permute(0, 2, 3, 1), state["quantize.embedding.weight"]
    distances = (vectors**2).sum(-1, keepdim=True) + (codebook**2).sum(-1) - 2 * vectors @ codebook.T
    return distances.argmin(-1)


def taming_pictures(state: State, tokens: Tensor) -> Tensor:
    """Return what the published model makes of tokens, in [0, 1]."""
    name = "quantize.embed.weight" if "quantize.embed.weight" in state else "quantize.embedding.weight"
    z = _convolve(state, "post_quant_conv", state[name][tokens].permute(0, 3, 1, 2))
    return ((_taming_part(state, "decoder", z) + 1) / 2).clamp(0, 1)
