"""Drawing the image tokens of some captions from beginning to end."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from trencadis.sampling.drawing import Drawing, Request
from trencadis.sampling.engine import Engine
from trencadis.sampling.options import ImagePrompt, Partial, Sampling
from trencadis.transformer.kv_decoder import KVDecoder


def sample_image_tokens(
    decoder: KVDecoder,
    text_tokens: Int[Tensor, "batch text_len"],
    seeds: Sequence[int],
    sampling: Sampling,
    *,
    negative_tokens: Int[Tensor, " text_len"] | None = None,
    image_prompt: ImagePrompt | None = None,
    callback: Callable[[Partial], None] | None = None,
) -> Int[Tensor, "batch rows columns"]:
    """Draw a grid of image tokens for each caption.

    Args:
        seeds: One seed a picture, in 0..2^63-1; a seed's picture does not depend on what else is in the batch.
        negative_tokens: A padded caption that guidance moves away from, in place of the empty one.
        image_prompt: Tokens that stay, the same for every picture. A token sees only what comes before it in raster
            order, so one drawn anew does not see kept ones below it or to its right.
        callback: Called after each pass: with the sequential decoder, after each token.
    """
    assert len(seeds) == len(text_tokens), f"{len(seeds)} seeds for {len(text_tokens)} captions"
    captions, of_picture = torch.unique(text_tokens, dim=0, return_inverse=True)
    members = [(of_picture == caption).nonzero().flatten().tolist() for caption in range(len(captions))]
    requests = [
        Request(
            text_tokens=text,
            seeds=tuple(seeds[index] for index in own),
            sampling=sampling,
            negative_tokens=negative_tokens,
            image_prompt=image_prompt,
        )
        for text, own in zip(captions, members, strict=True)
    ]
    engine = Engine(decoder, slots=sum(request.num_slots for request in requests))
    drawings = [engine.admit(request) for request in requests]
    order = torch.tensor([index for own in members for index in own], device=text_tokens.device).argsort()
    while True:
        if callback is not None:
            callback(Partial(_in_order(drawings, order), min(drawing.drawn for drawing in drawings)))
        if not engine.drawings:
            return _in_order(drawings, order)
        engine.step()


def _in_order(drawings: list[Drawing], order: Int[Tensor, " batch"]) -> Int[Tensor, "batch rows columns"]:
    return torch.cat([drawing.image_tokens for drawing in drawings])[order.to(drawings[0].raster.device)]
