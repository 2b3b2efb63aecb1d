import itertools
import math
from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from trencadis.text.bpe_dropout import merge

# a, b and what they merge to. "aba" is made in two ways.
LETTERS = {"a": 0, "b": 1, "ab": 2, "ba": 3, "abab": 4, "aa": 5, "aba": 6, "bb": 7}
PAIRS = [("a", "b"), ("b", "a"), ("ab", "ab"), ("a", "a"), ("ab", "a"), ("a", "ba"), ("b", "b")]
MERGES = {(LETTERS[x], LETTERS[y]): (rank, LETTERS[x + y]) for rank, (x, y) in enumerate(PAIRS)}


def _outcomes(tokens: tuple[int, ...], dropout: float) -> dict[tuple[int, ...], float]:
    """The exact distribution: over every subset of the possible merges that may survive a step."""
    possible = sorted((MERGES[pair][0], i) for i, pair in enumerate(itertools.pairwise(tokens)) if pair in MERGES)
    outcomes: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for survives in itertools.product([False, True], repeat=len(possible)):
        share = math.prod(1 - dropout if alive else dropout for alive in survives)
        survivors = [i for (_, i), alive in zip(possible, survives, strict=True) if alive]
        if not survivors:
            outcomes[tokens] += share
            continue
        i = survivors[0]
        merged = (*tokens[:i], MERGES[tokens[i], tokens[i + 1]][1], *tokens[i + 2 :])
        for outcome, part in _outcomes(merged, dropout).items():
            outcomes[outcome] += share * part
    return outcomes


@pytest.mark.parametrize("word", ["abab", "abaa", "aabb"])
def test_dropout_draws_from_the_published_algorithm(word: str) -> None:
    dropout, draws = 0.4, 4000
    symbols = [LETTERS[letter] for letter in word]
    expected = _outcomes(tuple(symbols), dropout)
    random = Random(0)
    counts = Counter(tuple(merge(symbols, MERGES, dropout=dropout, random=random)) for _ in range(draws))
    assert set(counts) <= set(expected)
    for outcome, share in expected.items():
        assert abs(counts[outcome] / draws - share) < 5 * math.sqrt(share * (1 - share) / draws) + 1e-3, outcome


@settings(deadline=None)
@given(st.text("ab", min_size=1, max_size=60))
def test_without_dropout_it_is_the_library_s(word: str) -> None:
    library = Tokenizer(models.BPE(LETTERS, PAIRS))
    assert merge([LETTERS[letter] for letter in word], MERGES) == library.encode(word).ids


def test_short_words() -> None:
    assert merge([], MERGES) == []
    assert merge([0], MERGES) == [0]


def test_arguments_stay_as_they_are() -> None:
    symbols = [0, 1, 0, 1]
    merge(symbols, MERGES, dropout=0.5, random=Random(1))
    assert symbols == [0, 1, 0, 1]


class _Counted(dict[tuple[int, int], tuple[int, int]]):
    lookups = 0

    def __getitem__(self, pair: tuple[int, int]) -> tuple[int, int]:
        self.lookups += 1
        return super().__getitem__(pair)

    def __contains__(self, pair: object) -> bool:
        self.lookups += 1
        return super().__contains__(pair)


@pytest.mark.parametrize("dropout", [0.0, 0.1, 0.5, 1.0])
def test_the_work_grows_with_the_length_and_not_its_square(dropout: float) -> None:
    def lookups(length: int) -> int:
        merges = _Counted(MERGES)
        merge([0, 1] * (length // 2), merges, dropout=dropout, random=Random(0))
        return merges.lookups

    assert lookups(10_000) < 12 * lookups(1_000)
