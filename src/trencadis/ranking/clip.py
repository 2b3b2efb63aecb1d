"""CLIP: captions and images embedded in one space, where matching ones are close.

Source: Radford et al. 2021, section 2 and figure 3.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import CLIPConfig
from trencadis.pretrained import Pretrained
from trencadis.ranking.tower import Tower

INITIAL_LOGIT_SCALE = 1 / 0.07
MAX_LOGIT_SCALE = 100.0


class TextEncoder(nn.Module):
    """A causal transformer over the caption, read at the first end token: padding after it has no effect."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        dim = config.text.dim
        self.end_token = config.text_vocab_size
        self.tokens = nn.Embedding(config.text_vocab_size + 1, dim)
        self.positions = nn.Embedding(config.text_len, dim)
        self.tower = Tower(config.text, causal=True)
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, config.embed_dim, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)
        nn.init.normal_(self.projection.weight, std=dim**-0.5)

    def forward(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch embed_dim"]:
        x = self.tower(self.tokens(text_tokens) + self.positions.weight)
        ends = (text_tokens == self.end_token).int().argmax(dim=1)
        features: Tensor = self.projection(self.norm(x[torch.arange(len(x), device=x.device), ends]))
        return features


class ImageEncoder(nn.Module):
    """A vision transformer, read at its class token. Images are RGB in [0, 1], of any size."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        dim = config.image.dim
        self.image_size = config.image_size
        num_patches = math.prod(side // config.patch_size for side in config.image_size)
        self.patches = nn.Conv2d(3, dim, config.patch_size, stride=config.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(dim))
        self.positions = nn.Embedding(num_patches + 1, dim)
        self.input_norm = nn.LayerNorm(dim)
        self.tower = Tower(config.image, causal=False)
        self.norm = nn.LayerNorm(dim)
        self.projection = nn.Linear(dim, config.embed_dim, bias=False)
        for parameter in (self.class_token, self.positions.weight, self.projection.weight):
            nn.init.normal_(parameter, std=dim**-0.5)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embed_dim"]:
        x = self.tower(self._embedded(images))
        features: Tensor = self.projection(self.norm(x[:, 0]))
        return features

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch dim patches"]]:
        """Return the patches after each block: `FeatureNetwork`."""
        x, features = self._embedded(images), []
        for block in self.tower.blocks:
            x = block(x)
            features.append(rearrange(x[:, 1:], "batch patches dim -> batch dim patches"))
        return features

    def _embedded(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch positions dim"]:
        """Return the tower's input: the class token, then the patches."""
        if tuple(images.shape[-2:]) != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True, align_corners=False)
        signed = (images - 0.5) / 0.5  # in [−1, 1]
        x = self.patches(signed.to(self.patches.weight.dtype))
        x = rearrange(x, "batch dim rows columns -> batch (rows columns) dim")
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        embedded: Tensor = self.input_norm(x + self.positions.weight)
        return embedded


class CLIP(Pretrained, nn.Module):
    """The two encoders and the scale of their similarities."""

    config_type: ClassVar[type[CLIPConfig]] = CLIPConfig
    config: CLIPConfig

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoder(config)
        self.image = ImageEncoder(config)
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(INITIAL_LOGIT_SCALE)))

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """Factor of the similarities before the softmax; learned, at most 100."""
        return self.log_logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    @torch.no_grad()
    def clip_logit_scale(self) -> None:
        """Keep the scale at 100 at most, after each update.

        A clamp in the graph would cut the gradient off, and the scale could never fall again.
        """
        self.log_logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def pad(self, text_tokens: Sequence[Sequence[int]]) -> Int[Tensor, "batch text_len"]:
        """Return captions padded with the end token, `text_vocab_size`, and cut to leave room for at least one."""
        room, end = self.config.text_len - 1, self.config.text_vocab_size
        rows = [[*row[:room], *[end] * (room + 1 - len(row[:room]))] for row in text_tokens]
        return torch.tensor(rows, dtype=torch.long, device=self.log_logit_scale.device).view(-1, room + 1)

    def encode_text(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors in float32 for captions from `pad`."""
        return F.normalize(self.text(text_tokens).float(), dim=-1)

    def encode_image(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embed_dim"]:
        """Return unit vectors in float32 for RGB images in [0, 1] of any size."""
        return F.normalize(self.image(images).float(), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "images 3 height width"],
        text_tokens: Int[Tensor, "captions text_len"],
        *,
        return_loss: bool = False,
    ) -> Float[Tensor, "images captions"] | Float[Tensor, ""]:
        """Return the scaled similarities of all images, RGB in [0, 1], with all captions, from `pad`.

        With `return_loss` the batch consists of pairs: return the contrastive loss in nats, a mean of both directions.
        """
        image_features, text_features = self.encode_image(images), self.encode_text(text_tokens)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.log_logit_scale.float().exp() * image_features @ text_features.T
        return contrastive_loss(logits, text_tokens) if return_loss else logits


def contrastive_loss(
    logits: Float[Tensor, "images batch"],
    text_tokens: Int[Tensor, "batch text_len"],
    *,
    turned: Float[Tensor, "captions batch"] | None = None,
    own: slice = slice(None),
) -> Float[Tensor, ""]:
    """Return the symmetric cross-entropy between images and captions, in nats.

    `logits` are scaled similarities of images (rows) with captions (columns); the diagonal holds the pairs. Short
    captions often occur twice in a batch. The diagonal alone would then ask an image to be near one copy of its caption
    and far from the other, which is the same point. So each row's target is shared evenly by all copies of its caption.

    Args:
        turned: The similarities of captions (rows) with images, where `logits` lacks some of them.
        own: The pairs that are rows, and of which the mean is taken.

    Source: Radford et al. 2021, figure 3; the same where all captions differ.
    """
    group: Tensor = torch.unique(text_tokens, dim=0, return_inverse=True)[1]
    same = (group[:, None] == group).to(logits.dtype)
    targets = (same / same.sum(dim=1, keepdim=True))[own]
    turned = logits.T if turned is None else turned
    return (F.cross_entropy(logits, targets) + F.cross_entropy(turned, targets)) / 2
