"""The cache of image tokens that the transformer is trained on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor

from trencadis.config import DataConfig
from trencadis.data import CAPTIONED_CROPS, KeptPair, Pictures
from trencadis.data.prefetch import prefetch
from trencadis.errors import CheckpointError
from trencadis.memory import in_memory
from trencadis.progress import progress
from trencadis.protocols import Digested, ImageTokenizer
from trencadis.storage import write_whole
from trencadis.training import processes
from trencadis.training.run_pairs import RunPairs

SHARD = 2048  # pictures of a file; a kill loses at most this much work
_OWNER = "owner"
PIXELS_AT_ONCE = 64 * 64 * 64  # of a batch: 64 pictures of 64×64 pixels, 4 of 256×256


def cache_tokens(
    tokenizer: ImageTokenizer,
    pairs: RunPairs,
    data: DataConfig,
    directory: Path,
    *,
    variants: int,
    seed: int,
    device: torch.device,
) -> Int[Tensor, "variants pairs rows columns"]:
    """Return the tokens of every training picture; those that are not cached yet are computed and cached.

    Variant 0 is the centre crop, the others are random ones by `CAPTIONED_CROPS`. A file of the cache says which pairs
    and which image tokenizer it is of. It is written again if these are others, as in a run that is continued. Several
    processes share the files among them.

    Raises:
        CheckpointError: A file of the cache is damaged.
        StorageError: The cache cannot be written.
    """
    pictures = pairs.pictures(pairs.train, tokenizer.image_size, data)
    weights = tokenizer.digest() if isinstance(tokenizer, Digested) else ""
    shards = [(variant, start) for variant in range(variants) for start in range(0, len(pairs.train), SHARD)]
    paths = [directory / f"variant-{variant}" / f"{start:09d}.safetensors" for variant, start in shards]
    own = list(zip(shards, paths, strict=True))[processes.number() :: processes.count()]
    with progress("encoding pictures", len(pairs.train) * variants) as advance:
        for (variant, start), path in own:
            positions = range(start, min(start + SHARD, len(pairs.train)))
            owner = _owner(weights, pairs.train[positions.start : positions.stop])
            if path.exists() and _owner_of(path) == owner:
                advance(len(positions))
            else:
                tokens = _encode(tokenizer, pictures, positions, variant, seed, device, advance)
                content = {"image_tokens": tokens.to(torch.int32)}
                write_whole(path, safetensors.torch.save(content, {_OWNER: owner}))
    processes.wait()
    loaded = [_load(path) for path in paths]
    return rearrange(torch.cat(loaded), "(variants pairs) r c -> variants pairs r c", variants=variants)


def encode_middle(
    tokenizer: ImageTokenizer, pairs: RunPairs, kept: tuple[KeptPair, ...], data: DataConfig, device: torch.device
) -> Int[Tensor, "pairs rows columns"]:
    """Return the tokens of some pairs' centre crops."""
    pictures = pairs.pictures(kept, tokenizer.image_size, data)
    return _encode(tokenizer, pictures, range(len(kept)), 0, 0, device)


def _encode(
    tokenizer: ImageTokenizer,
    pictures: Pictures,
    positions: range,
    variant: int,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None] = lambda count: None,
) -> Int[Tensor, "pairs rows columns"]:
    height, width = tokenizer.image_size
    batch_size = max(1, PIXELS_AT_ONCE // (height * width))

    def crops(start: int) -> Tensor:
        batch = []
        for position in range(start, min(start + batch_size, positions.stop)):
            key = (seed, variant, pictures.pairs[position].sample_id) if variant else ()
            batch.append(pictures.crop(position, CAPTIONED_CROPS if variant else None, key))
        return torch.stack(batch)

    encoded = []
    for images in prefetch(crops, range(positions.start, positions.stop, batch_size)):
        encoded.append(tokenizer.encode(images.to(device)).cpu())
        advance(len(images))
    return torch.cat(encoded)


def _owner(weights: str, pairs: tuple[KeptPair, ...]) -> str:
    """Return a hash of an image tokenizer's weights and of pairs, with their order."""
    stamps = [(pair.sample_id, pair.stamp) for pair in pairs]
    return hashlib.sha256(repr((weights, stamps)).encode()).hexdigest()


def _owner_of(path: Path) -> str | None:
    """Return the `_owner` of a file of the cache."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(_OWNER)
    except (OSError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


@in_memory("loading image tokens")
def _load(path: Path) -> Int[Tensor, "pairs rows columns"]:
    try:
        return safetensors.torch.load_file(path)["image_tokens"]
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {error}; remove it and it is computed again")
