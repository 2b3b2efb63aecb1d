"""What a model forgets while it is tuned, measured without its data: on what it drew of old captions before.

Drawings are samples of the model's own distribution. The bits of their tokens before tuning estimate its entropy, and
the bits that they gain by tuning the Kullback-Leibler divergence from the model before to the tuned one. It is 0 where
nothing about these captions has changed. New pictures do not enter.
"""

import json
import math
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.pixels import to_pillow
from trencadis.errors import CheckpointError, DataError
from trencadis.image import DiscreteVAE
from trencadis.pipeline import DALLE
from trencadis.progress import track
from trencadis.randomness import derive_seed
from trencadis.run_directory import RunDirectory
from trencadis.sampling import Sampling, sample_image_tokens
from trencadis.storage import write_picture, write_whole
from trencadis.text import CaptionTokenizer
from trencadis.transformer import KVDecoder, Transformer

MOST_CAPTIONS = 64
DRAWN_OF_EACH = 4
AT_ONCE = 32
SHOWN = 8
OWN = Sampling(temperature=1.0, guidance_scale=1.0, ranking="none")
"""How drawings are sampled: from the distribution that the model has learnt, as it is."""


def read_captions(path: str) -> tuple[str, ...]:
    """Return the captions of a text file, one a line; empty lines are left out.

    Raises:
        DataError: It cannot be read, or holds no caption or more than 64.
    """
    expected = f"a text file with 1..{MOST_CAPTIONS} captions, one a line"
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", expected=expected, remedy="check start.old_captions"
        ) from error
    captions = tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not 1 <= len(captions) <= MOST_CAPTIONS:
        given = f"{path} with {len(captions)} different captions"
        raise DataError(given, expected=expected, remedy="choose some that stand for what the model should not forget")
    return captions


def draw_before(model: DALLE, captions: tuple[str, ...], run: RunDirectory, *, seed: int) -> None:
    """Draw old captions before anything is trained, and keep the tokens and a sheet of some drawings in the run.

    Raises:
        StorageError: The run's directory cannot be written.
    """
    names = [(caption, number) for caption in captions for number in range(DRAWN_OF_EACH)]
    seeds = [derive_seed(seed, "old captions", *name) for name in names]
    text_tokens = torch.cat([padded(model, caption) for caption, _ in names])
    decoder, drawn = KVDecoder(model.transformer), []
    for start in track(range(0, len(names), AT_ONCE), "drawing old captions"):
        end = start + AT_ONCE
        drawn.append(sample_image_tokens(decoder, text_tokens[start:end], seeds[start:end], OWN))
    image_tokens = rearrange(
        torch.cat(drawn), "(captions drawings) r c -> captions drawings r c", drawings=DRAWN_OF_EACH
    )
    shown = seeds[::DRAWN_OF_EACH]
    write_picture(run.old_before, sheet(model, captions, shown))
    meta = {"captions": captions, "seeds": shown, "bits": bits_of(model, captions, image_tokens).tolist()}
    write_whole(run.old_tokens, save({"image_tokens": image_tokens.int().cpu()}, {"old": json.dumps(meta)}))


def measure_after(transformer: Transformer, run: RunDirectory, sampling: Sampling) -> str:
    """Measure the drawings of `draw_before` with the tuned transformer, write what has changed, and say it in one line.

    Args:
        sampling: How the model draws by default.

    Raises:
        CheckpointError: What was drawn before cannot be read.
    """
    try:
        with safe_open(run.old_tokens, "pt") as file:
            old = json.loads((file.metadata() or {})["old"])
            image_tokens = file.get_tensor("image_tokens").long()
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        remedy = "remove it, and nothing is measured"
        raise CheckpointError(f"{run.old_tokens} cannot be read: {error}; {remedy}") from error
    model = DALLE(
        text_tokenizer=CaptionTokenizer.from_pretrained(run.part("text")),
        image_tokenizer=DiscreteVAE.from_pretrained(run.part("image")).to(transformer.image_head.weight.device),
        transformer=transformer,
        sampling=sampling,
    )
    captions = tuple(old["captions"])
    before, after = torch.tensor(old["bits"]), bits_of(model, captions, image_tokens)
    write_picture(run.old_after, sheet(model, captions, old["seeds"]))
    gained = after - before
    error_bits = 1.96 * float(gained.std()) / math.sqrt(len(gained)) if len(gained) > 1 else 0.0
    found = {
        "captions": len(captions),
        "drawings": image_tokens.shape[0] * image_tokens.shape[1],
        "bits_before": float(before.mean()),
        "bits_after": float(after.mean()),
        "error_bits": error_bits,  # half of the 95 % interval of what is gained, over captions
        "gained_by_caption": dict(zip(captions, gained.tolist(), strict=True)),
    }
    write_whole(run.forgetting, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return (
        f"forgetting   what the model drew of {len(captions)} old captions has {found['bits_after']:.3f} bits a token, "
        f"{found['bits_before']:.3f} before"
    )


def bits_of(
    model: DALLE, captions: tuple[str, ...], image_tokens: Int[Tensor, "captions drawings rows columns"]
) -> Float[Tensor, " captions"]:
    """Return the bits of an image token, as the mean over the drawings of each caption."""
    transformer, bits = model.transformer, []
    with torch.no_grad():
        for caption, drawings in zip(captions, image_tokens, strict=True):
            text_tokens = padded(model, caption).expand(len(drawings), -1)
            losses = transformer.losses(text_tokens, drawings.to(text_tokens.device))
            bits.append(float(losses.image) / losses.image_count / math.log(2))
    return torch.tensor(bits)


def padded(model: DALLE, caption: str) -> Int[Tensor, "1 text_len"]:
    """Return a caption's tokens as the transformer reads them."""
    stream = model.transformer.stream
    tokens = model.text_tokenizer.encode(caption, max_len=stream.text_len)
    return stream.pad_captions([tokens]).to(model.transformer.image_head.weight.device)


def sheet(model: DALLE, captions: tuple[str, ...], seeds: list[int]) -> Image.Image:
    """Return a drawing of each of the first captions, as the model draws by default."""
    shown = captions[:SHOWN]
    images = to_pillow(model.draw(shown, seeds[:SHOWN], weights="float32"))
    return contact_sheet(images, shown, len(shown))
