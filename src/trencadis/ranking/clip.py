"""CLIP: captions and pictures in one space, where those that belong together are close.

Source: Radford et al. 2021, section 2 and figure 3.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from trencadis.config import CLIPConfig
from trencadis.pretrained import Pretrained
from trencadis.ranking.tower import Tower

INITIAL_LOGIT_SCALE = 1 / 0.07
MAX_LOGIT_SCALE = 100.0


class TextEncoder(nn.Module):
    """A causal transformer over the caption, read at the first end token.

    Being causal, what is read there depends on the caption alone, and on none of the end tokens that pad it.
    """

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
        """Return the captions' features, not normalised."""
        x = self.tower(self.tokens(text_tokens) + self.positions.weight)
        ends = (text_tokens == self.end_token).int().argmax(dim=1)
        features: Tensor = self.projection(self.norm(x[torch.arange(len(x), device=x.device), ends]))
        return features


class ImageEncoder(nn.Module):
    """A vision transformer, read at its class token."""

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
        """Return the pictures' features, not normalised; pictures are RGB in [0, 1], of any size."""
        x = self.tower(self._embedded(images))
        features: Tensor = self.projection(self.norm(x[:, 0]))
        return features

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch dim patches"]]:
        """Return what the patches have become after each block; pictures are RGB in [0, 1], of any size."""
        x, seen = self._embedded(images), []
        for block in self.tower.blocks:
            x = block(x)
            seen.append(rearrange(x[:, 1:], "batch patches dim -> batch dim patches"))
        return seen

    def _embedded(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch positions dim"]:
        """Return what the tower takes: the class token, then the patches."""
        x = self.patches(self._prepared(images))
        x = rearrange(x, "batch dim rows columns -> batch (rows columns) dim")
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        embedded: Tensor = self.input_norm(x + self.positions.weight)
        return embedded

    def _prepared(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 3 resized_height resized_width"]:
        """Return the pictures at the trained size, in [−1, 1]: mean and deviation of 0.5."""
        if tuple(images.shape[-2:]) != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True, align_corners=False)
        return ((images - 0.5) / 0.5).to(self.patches.weight.dtype)


class CLIP(Pretrained, nn.Module):
    """The two encoders and the scale of their similarities.

    Args:
        config: Sizes.
    """

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
        """What similarities are multiplied by before the softmax: learned, at most 100."""
        return self.log_logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    @torch.no_grad()
    def clip_logit_scale(self) -> None:
        """Keep the scale at 100 at most, after each update.

        A clamp in the graph would cut the gradient off, and the scale could never fall again.
        """
        self.log_logit_scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def pad(self, text_tokens: Sequence[Sequence[int]]) -> Int[Tensor, "batch text_len"]:
        """Return captions' tokens filled up with the end token, of id `text_vocab_size`.

        Longer captions are cut, so that at least one end token, where the caption is read, is always there.
        """
        room = self.config.text_len - 1
        end = self.config.text_vocab_size
        rows = [[*row[:room], *[end] * (room + 1 - len(row[:room]))] for row in text_tokens]
        return torch.tensor(rows, dtype=torch.long, device=self.log_logit_scale.device).view(-1, room + 1)

    def encode_text(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch embed_dim"]:
        """Return the features of captions, of length 1, in float32.

        Args:
            text_tokens: Padded as `pad` does.
        """
        return F.normalize(self.text(text_tokens).float(), dim=-1)

    def encode_image(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch embed_dim"]:
        """Return the features of pictures, of length 1, in float32.

        Args:
            images: RGB in [0, 1], of any size; they are resized to the trained one.
        """
        return F.normalize(self.image(images).float(), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "images 3 height width"],
        text_tokens: Int[Tensor, "captions text_len"],
        *,
        return_loss: bool = False,
    ) -> Float[Tensor, "images captions"] | Float[Tensor, ""]:
        """Return the scaled similarities of every picture with every caption, or the contrastive loss.

        Args:
            images: RGB in [0, 1].
            text_tokens: Captions, padded as `pad` does.
            return_loss: Return the loss in nats, the mean of both directions; each picture needs its caption then.
        """
        image_features, text_features = self.encode_image(images), self.encode_text(text_tokens)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.log_logit_scale.float().exp() * image_features @ text_features.T
        return contrastive_loss(logits, text_tokens) if return_loss else logits


def contrastive_loss(
    logits: Float[Tensor, "batch batch"], text_tokens: Int[Tensor, "batch text_len"]
) -> Float[Tensor, ""]:
    """Return the symmetric cross-entropy between pictures and captions, in nats.

    A caption may occur twice in a batch: of short captions it often does. Only the diagonal is then a wrong target,
    for it asks a picture to be near its own copy of the caption and far from the other, which is the same point. So
    each row's target is shared evenly by all places that hold the same caption; where captions differ this is the
    published loss.

    Args:
        logits: Scaled similarities of pictures (rows) with captions (columns); the diagonal holds the pairs.
        text_tokens: The captions.

    Source: Radford et al. 2021, figure 3.
    """
    same = _equal_rows(text_tokens).to(logits.dtype)
    targets = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def _equal_rows(text_tokens: Int[Tensor, "batch text_len"]) -> Bool[Tensor, "batch batch"]:
    """Return which captions are equal."""
    group: Tensor = torch.unique(text_tokens, dim=0, return_inverse=True)[1]
    return group[:, None] == group[None, :]
