"""The first stage: byte-pair encoding trained on the captions, and captions as tokens for the later stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trencadis.config import TextStage
from trencadis.data import KeptPair
from trencadis.randomness import derive_seed, derive_uniform
from trencadis.text import CaptionTokenizer
from trencadis.training.run_pairs import RunPairs


def fit_text(pairs: RunPairs, config: TextStage, directory: Path) -> CaptionTokenizer:
    """Train the byte-pair encoding on the captions and save it, or load it if it exists."""
    if directory.exists():
        return CaptionTokenizer.from_pretrained(directory)
    tokenizer = train_tokenizer(pairs.train, config.vocab_size)
    tokenizer.save_pretrained(directory)
    return tokenizer


def train_tokenizer(pairs: tuple[KeptPair, ...], vocab_size: int) -> CaptionTokenizer:
    captions = (caption for pair in pairs for caption in pair.captions)
    return CaptionTokenizer.train(captions, vocab_size=vocab_size)


def cut_captions(tokenizer: CaptionTokenizer, pairs: Sequence[KeptPair], text_len: int) -> str:
    """Return how many captions are longer than the text, in words, such as `3 of 40 captions are cut to 16 tokens`."""
    lengths = [len(tokenizer.encode(caption)) for pair in pairs for caption in pair.captions]
    return f"{sum(length > text_len for length in lengths):,} of {len(lengths):,} captions are cut to {text_len} tokens"


@dataclass(frozen=True)
class CaptionDraws:
    """Tokenizes captions with BPE-dropout and caption dropout, deterministically per (seed, epoch, sample id).

    Longer captions are cut silently; the plan says how many there are.
    """

    tokenizer: CaptionTokenizer
    text_len: int
    dropout: float  # share of merges skipped (BPE-dropout)
    caption_dropout: float  # share of captions replaced by the empty one, for classifier-free guidance
    seed: int

    def tokens(self, caption: str, sample_id: str, epoch: int) -> list[int]:
        """Return a caption's tokens, or none if it is dropped."""
        key = (self.seed, epoch, sample_id)
        if derive_uniform(*key, "caption dropout") < self.caption_dropout:
            return []
        return self.tokenizer.encode(caption, dropout=self.dropout, seed=derive_seed(*key, "merges"))[: self.text_len]

    def plain_tokens(self, caption: str) -> list[int]:
        """Return a caption's tokens without dropout, for validation."""
        return self.tokenizer.encode(caption)[: self.text_len]
