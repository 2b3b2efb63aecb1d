"""The arguments that every benchmark takes, and how one is run."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml

from trencadis.cli.arguments import Kind, existing_directory, existing_file, integer
from trencadis.cli.faults import reported
from trencadis.cli.parser import CommandParser
from trencadis.config import DesignConfig, TransformerConfig
from trencadis.config.plain import merge
from trencadis.data.prefetch import available_cores
from trencadis.errors import ConfigError
from trencadis.recipes import MODERN_DESIGN

DESIGNS = {"paper": DesignConfig(), "modern": MODERN_DESIGN}
PEERS = ("minDALL-E", "DALLE-pytorch")
TOKENIZER_PEERS = ("openai-DALL-E",)


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another project's code to measure beside ours.

    Args:
        name: One of `PEERS` or `TOKENIZER_PEERS`.
        path: A checkout of it.
        python: The interpreter that it runs in; what it imports must be there.
        own_loop: Draw with its own outermost function even where a faster use of its parts is known.
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
    """Parse the arguments, run the benchmark, and return the exit code: 0 done, 1 it failed, 2 asked wrongly."""
    # As the command line of trencadis does, for the same reason; the contenders' processes inherit it.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    parser = CommandParser(prog=f"python -m benchmarks.{name}", description=sentence)
    add_arguments(parser)
    parser.add_argument("--threads", type=integer(1), help="of every contender (default: the processor's cores)")
    parser.add_argument("--repeats", type=integer(1), default=3, help="times that everything is measured")
    parser.add_argument("--json", type=output_file(), help="where the figures go as JSON; - for stdout")

    def command() -> int:
        arguments = parser.parse_args(sys.argv[1:] if argv is None else argv)
        arguments.threads = arguments.threads or available_cores()
        run(arguments)
        return 0

    return reported(command)


def add_shape(parser: jsonargparse.ArgumentParser, default: TransformerConfig, *, grid: bool = True) -> None:
    """Declare the sizes of the transformer; `grid` is left out where the benchmark sets it."""
    add = parser.add_argument
    size = integer(1)
    add("--layers", type=size, default=default.num_layers, help="residual layers")
    add("--heads", type=size, default=default.num_heads, help="attention heads of a layer")
    add("--head-dim", type=size, default=default.head_dim, help="width of a head")
    if grid:
        add("--grid", type=size, default=default.grid_size[0], help="rows of image tokens, and columns")
    add("--text-len", type=size, default=default.text_len, help="text positions")
    add("--image-vocab", type=size, default=default.image_vocab_size, help="image ids")
    add("--text-vocab", type=size, default=default.text_vocab_size, help="text ids")
    if grid:
        add("--attention", choices=["full", "sparse"], default=default.attention, help="what image tokens see")
    add("--design", choices=list(DESIGNS), default="paper", help="how the layers are made")


def config_of(arguments: jsonargparse.Namespace, **given: Any) -> TransformerConfig:
    """Return the config that the arguments of `add_shape` ask for.

    Args:
        arguments: As parsed.
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
    """Declare how another project, one of `peers`, is measured beside ours."""
    add = parser.add_argument
    add("--peer", choices=list(peers), help="another project to measure in turns with ours")
    add("--peer-path", type=existing_directory(), help="a checkout of it")
    add("--peer-python", type=existing_file(), help="an interpreter that has what it imports (default: this one)")
    if "DALLE-pytorch" in peers:
        add(
            "--peer-own-loop",
            action="store_true",
            help="draw by DALLE-pytorch's generate_images, which drops its cache",
        )


def peer_of(arguments: jsonargparse.Namespace, peers: Sequence[str] = PEERS) -> Peer | None:
    """Return the peer that is asked for, or None.

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
    # Not resolved: an environment's interpreter is a link, and what it links to knows nothing of the environment.
    python = Path(arguments.peer_python or sys.executable).absolute()
    return Peer(name=name, path=path.resolve(), python=python, own_loop=arguments.get("peer_own_loop", False))


def nested_settings(changes: str) -> dict[str, Any]:
    """Return the settings that a text such as `model.hidden_dim=16,batch_size=8` stands for; values are YAML."""
    settings: dict[str, Any] = {}
    for change in filter(None, re.split(r",(?=[\w.]+=)", changes)):  # not at a comma of a list
        path, _, text = change.partition("=")
        nested: Any = yaml.safe_load(text)
        for part in reversed(path.split(".")):
            nested = {part: nested}
        settings = merge(settings, nested)
    return settings


def output_file() -> Kind[Path]:
    """Return the kind of paths that a file can be written to, and `-`; a long measurement is not to be lost."""

    def read(text: str) -> Path:
        path = Path(text).expanduser()
        if not text or path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
            raise ValueError(text)
        return path

    return Kind(read, expected="a file in a folder that can be written, or -", remedy="check the path", metavar="FILE")
