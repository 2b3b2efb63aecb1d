"""The caption tokenizer: byte-level byte-pair encoding over the `tokenizers` library."""

import hashlib
import json
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from trencadis.errors import ConfigError, FullMemoryError, ModelError, PromptError
from trencadis.memory import in_memory
from trencadis.parts import register
from trencadis.pretrained import HubModel
from trencadis.randomness import derive_seed
from trencadis.storage import write_whole
from trencadis.text.bpe_dropout import Merges, merge

FILE_NAME = "tokenizer.json"
NUM_BYTES = 256
SHOWN_CHARS = 40

TokenizerT = TypeVar("TokenizerT", bound="CaptionTokenizer")


class CaptionCutWarning(UserWarning):
    """A caption was cut because it has too many tokens."""


def normalize(caption: str) -> str:
    """Return the caption in NFC and lowercase, with single spaces and stripped ends. Idempotent.

    A lone surrogate, which is not valid in UTF-8, becomes U+FFFD.
    """
    if not caption.isascii():
        caption = caption.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        # Lowercasing can leave characters that compose further, so NFC is applied again.
        caption = unicodedata.normalize("NFC", unicodedata.normalize("NFC", caption).lower())
    return " ".join(caption.lower().split())


@register("text")
class CaptionTokenizer(HubModel):
    """Byte-level byte-pair encoding of captions: encodes any text, and decodes it normalised.

    Words are split as in GPT-2, each with the space before it, the first one too. There are no special tokens: padding
    belongs to the stream.

    Raises:
        ModelError: `library` is not byte-level byte-pair encoding with all 256 bytes among its tokens.
    """

    def __init__(self, library: Tokenizer) -> None:
        self._library = library
        self._id_by_byte, self._merges = _tables(library)

    @classmethod
    def train(cls: type[TokenizerT], captions: Iterable[str], *, vocab_size: int) -> TokenizerT:
        """Learn merges from raw captions, deterministically.

        Args:
            captions: Raw captions.
            vocab_size: Most ids, 256 (the bytes) or more; fewer if fewer pairs occur twice.

        Raises:
            ConfigError: `vocab_size` is below 256.
        """
        if vocab_size < NUM_BYTES:
            expected = f"{NUM_BYTES} or more: one id a byte"
            raise ConfigError(f"vocab_size {vocab_size}", expected=expected, remedy="raise vocab_size")
        library = Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        library.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,  # a pair that occurs once does not generalise
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator((normalize(caption) for caption in captions), trainer)
        return cls(library)

    @property
    def vocab_size(self) -> int:
        """Number of ids; `encode` returns ids in 0..vocab_size-1."""
        return int(self._library.get_vocab_size())

    def encode(self, caption: str, *, max_len: int | None = None, dropout: float = 0.0, seed: int = 0) -> list[int]:
        """Return the caption's tokens, cut to `max_len` with a `CaptionCutWarning`.

        Args:
            caption: Raw text.
            max_len: Maximum number of tokens; None returns all.
            dropout: Probability in [0, 1] that a merge is skipped (BPE-dropout), drawn from `seed` and the caption.

        Raises:
            ConfigError: `dropout` or `max_len` is out of its range.
        """
        if not 0 <= dropout <= 1:
            raise ConfigError(f"dropout {dropout}", expected="a probability in [0, 1]", remedy="change the dropout")
        if max_len is not None and max_len < 0:
            raise ConfigError(f"max_len {max_len}", expected="0 or more", remedy="raise max_len")
        normalized = normalize(caption)
        if not normalized:
            return []
        tokens = self._encode_dropping(normalized, dropout, seed) if dropout else self._library.encode(normalized).ids
        if max_len is None or len(tokens) <= max_len:
            return list(tokens)
        kept = list(tokens[:max_len])
        message = f"caption cut after '{_ending(self.decode(kept))}' ({max_len:,} of {len(tokens):,} tokens)"
        warnings.warn(message, CaptionCutWarning, stacklevel=2)
        return kept

    def _encode_dropping(self, normalized: str, dropout: float, seed: int) -> list[int]:
        random = Random(derive_seed("bpe-dropout", seed, normalized))
        tokens: list[int] = []
        for word, _ in self._library.pre_tokenizer.pre_tokenize_str(normalized):
            symbols = [self._id_by_byte[byte] for byte in word]
            tokens += merge(symbols, self._merges, dropout=dropout, random=random)
        return tokens

    def decode(self, text_tokens: Sequence[int]) -> str:
        """Return the normalised caption; invalid UTF-8 becomes U+FFFD.

        Raises:
            PromptError: A token is out of 0..vocab_size-1.
        """
        tokens = [int(token) for token in text_tokens]
        wrong = next((token for token in tokens if not 0 <= token < self.vocab_size), None)
        if wrong is not None:
            expected = f"text tokens in 0..{self.vocab_size - 1}"
            raise PromptError(f"text token {wrong}", expected=expected, remedy="leave out padding ids")
        return str(self._library.decode(tokens, skip_special_tokens=False)).removeprefix(" ")

    def digest(self) -> str:
        return hashlib.sha256(self._library.to_str().encode()).hexdigest()

    def _save_pretrained(self, save_directory: Path) -> None:
        write_whole(save_directory / FILE_NAME, self._library.to_str(pretty=True))

    @classmethod
    def _load(cls: type[TokenizerT], directory: Path) -> TokenizerT:
        path = directory / FILE_NAME
        remedy = "save the tokenizer again, or copy the directory whole"
        if not path.is_file():
            raise ModelError(f"no {FILE_NAME} in {directory}", expected="a tokenizer's directory", remedy=remedy)
        try:
            with in_memory(f"loading {path}"):
                library = Tokenizer.from_file(str(path))
        except FullMemoryError:
            raise
        except Exception as error:  # the library raises nothing narrower
            reason = " ".join(str(error).split())
            raise ModelError(f"{path} cannot be read: {reason}", expected="a tokenizer", remedy=remedy) from error
        return cls(library)


def _tables(library: Tokenizer) -> tuple[dict[str, int], Merges]:
    """Return the ids of the 256 bytes, by the letters that stand for them, and the merges."""
    content = json.loads(library.to_str())
    vocab: dict[str, int] = content["model"].get("vocab") or {}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    kinds = content["model"].get("type"), (content["pre_tokenizer"] or {}).get("type")
    if kinds != ("BPE", "ByteLevel") or not all(letter in vocab for letter in alphabet):
        given = f"a tokenizer of the kind {kinds[0]} over {kinds[1]} with {len(vocab):,} tokens"
        expected, remedy = "byte-level byte-pair encoding with all 256 bytes", "train a CaptionTokenizer"
        raise ModelError(given, expected=expected, remedy=remedy)
    merges = {
        (vocab[left], vocab[right]): (rank, vocab[left + right])
        for rank, (left, right) in enumerate(content["model"]["merges"])
    }
    return {letter: vocab[letter] for letter in alphabet}, merges


def _ending(kept: str) -> str:
    """Return the last words of the kept part, to show where a caption was cut."""
    kept = kept.rstrip("\N{REPLACEMENT CHARACTER} ")
    if len(kept) > SHOWN_CHARS:
        kept = "… " + kept[-SHOWN_CHARS:].partition(" ")[2] if " " in kept[-SHOWN_CHARS:] else "…" + kept[-SHOWN_CHARS:]
    return f"{kept} …"
