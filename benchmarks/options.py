"""The arguments that all benchmarks share, and how a benchmark runs."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from trencadis.cli.arguments import existing_directory, existing_file, integer, is_output_file, path_that
from trencadis.cli.faults import reported
from trencadis.cli.parser import CommandParser
from trencadis.config import DesignConfig, TransformerConfig
from trencadis.config.plain import merge
from trencadis.data.prefetch import available_cores
from trencadis.errors import ConfigError
from trencadis.recipes import MODERN_DESIGN

DESIGNS = {"paper": DesignConfig(), "modern": MODERN_DESIGN}
STDOUT = Path("-")
PEERS = ("minDALL-E", "DALLE-pytorch")
TOKENIZER_PEERS = ("openai-DALL-E",)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another project's code, measured beside ours.

    Args:
        name: One of `PEERS` or `TOKENIZER_PEERS`.
        path: A checkout of it.
        python: Its interpreter, with its dependencies installed.
        own_loop: Draw with its own top-level function, even if we know a faster use of its parts.
    """

    name: str
    path: Path
    python: Path
    own_loop: bool = False


def run_command(
    name: str,
    sentence: str,
    add_arguments: Callable[[jsonargparse.ArgumentParser], None],
    run: Callable[[jsonargparse.Namespace], None],
    argv: list[str] | None = None,
) -> int:
    """Parse the arguments, run the benchmark, and return the exit code: 0 done, 1 failed, 2 wrong arguments."""
    # As in the command line of trencadis, for the same reason; the contenders' processes inherit it.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = CommandParser(prog=f"python -m benchmarks.{name}", description=sentence)
    add_arguments(parser)
    parser.add_argument("--threads", type=integer(1), help="CPU threads per contender (default: the number of cores)")
    parser.add_argument("--repeats", type=integer(1), default=3, help="number of measurements of each figure")
    output = path_that(lambda path: path == STDOUT or is_output_file(path), "a file or -", metavar="FILE")
    parser.add_argument("--json", type=output, help="output file for the figures as JSON; - for stdout")

    def command() -> int:
        arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
        arguments.threads = arguments.threads or available_cores()
        run(arguments)
        return 0

    return reported(command)


def add_shape(parser: jsonargparse.ArgumentParser, default: TransformerConfig, *, grid: bool = True) -> None:
    """Declare the sizes of the transformer, without `grid` if the benchmark sets it."""
    add = parser.add_argument
    size = integer(1)
    add("--layers", type=size, default=default.num_layers, help="residual layers")
    add("--heads", type=size, default=default.num_heads, help="attention heads per layer")
    add("--head-dim", type=size, default=default.head_dim, help="width of a head")
    if grid:
        add("--grid", type=size, default=default.grid_size[0], help="rows and columns of image tokens")
    add("--text-len", type=size, default=default.text_len, help="text positions")
    add("--image-vocab", type=size, default=default.image_vocab_size, help="size of the image vocabulary")
    add("--text-vocab", type=size, default=default.text_vocab_size, help="size of the text vocabulary")
    if grid:
        add("--attention", choices=["full", "sparse"], default=default.attention, help="attention pattern")
    add("--design", choices=list(DESIGNS), default="paper", help="design of the layers")


def config_of(arguments: jsonargparse.Namespace, **given: Any) -> TransformerConfig:
    """Return the config from the arguments of `add_shape`.

    Args:
        arguments: The parsed arguments.
        **given: Fields that the benchmark sets itself.
    """
    sizes: dict[str, Any] = {
        "num_layers": arguments.layers,
        "num_heads": arguments.heads,
        "head_dim": arguments.head_dim,
        "text_len": arguments.text_len,
        "image_vocab_size": arguments.image_vocab,
        "text_vocab_size": arguments.text_vocab,
        "design": DESIGNS[arguments.design],
    }
    if "grid" in arguments:
        sizes |= {"grid_size": (arguments.grid, arguments.grid), "attention": arguments.attention}
    return TransformerConfig(**{**sizes, **given})


# Width 512, 12 layers, 8 heads of 64, a caption of 64 tokens and a picture of 256.
DEFAULT_SHAPE = TransformerConfig(
    num_layers=12,
    num_heads=8,
    head_dim=64,
    grid_size=(16, 16),
    text_len=64,
    image_vocab_size=8192,
    text_vocab_size=16384,
    attention="full",
)


def add_peer(parser: jsonargparse.ArgumentParser, peers: Sequence[str] = PEERS) -> None:
    """Declare the options to measure another project, one of `peers`, beside ours."""
    add = parser.add_argument
    add("--peer", choices=list(peers), help="another project to measure beside ours")
    add("--peer-path", type=existing_directory(), help="a checkout of it")
    add("--peer-python", type=existing_file(), help="its interpreter, with its dependencies (default: this one)")
    if "DALLE-pytorch" in peers:
        add(
            "--peer-own-loop",
            action="store_true",
            help="draw with DALLE-pytorch's generate_images, which drops its cache",
        )


def peer_of(arguments: jsonargparse.Namespace, peers: Sequence[str] = PEERS) -> Peer | None:
    """Return the requested peer, or None.

    Raises:
        ConfigError: Only one of `--peer` and `--peer-path` is given.
    """
    name, path = arguments.peer, arguments.peer_path
    if name is None and path is None:
        return None
    if name is None or path is None:
        missing = "--peer" if name is None else "--peer-path"
        remedy = f"name one of {', '.join(peers)}" if name is None else f"name the folder of a checkout of {name}"
        raise ConfigError(f"no {missing}", expected="both --peer and --peer-path", remedy=remedy)
    # Not resolved: a virtual environment's interpreter is a link, and its target ignores the environment.
    python = Path(arguments.peer_python or sys.executable).absolute()
    return Peer(name=name, path=path.resolve(), python=python, own_loop=arguments.get("peer_own_loop", False))


def nested_settings(changes: str) -> dict[str, Any]:
    """Parse a text such as `model.hidden_dim=16,batch_size=8` into nested settings; values are YAML."""
    settings: dict[str, Any] = {}
    for change in filter(None, re.split(r",(?=[\w.]+=)", changes)):  # not at a comma of a list
        path, _, text = change.partition("=")
        nested: Any = yaml.safe_load(text)
        for part in reversed(path.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    return settings
