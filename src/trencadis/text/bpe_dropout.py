"""Byte-pair merging with dropout, seeded."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from random import Random

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""From a pair of neighbouring tokens to the merge's rank, lower first, and the token that it makes."""


def merge(symbols: Sequence[int], merges: Merges, *, dropout: float = 0.0, random: Random | None = None) -> list[int]:
    """Return the tokens of one word after its merges; dropout leaves it in smaller pieces.

    Of all merges possible at a step the one of lowest rank is applied, leftmost first, and each one counts as
    impossible with probability `dropout`, drawn anew at every step. The draws are made only as far as the first merge
    that survives, so n symbols take about n·log n steps.

    Args:
        symbols: The tokens of the word's bytes.
        merges: What may be merged.
        dropout: Probability in [0, 1] that a merge is skipped; at 0 the result is plain byte-pair encoding.
        random: Source of the draws; needed where `dropout` is above 0.

    Source: Provilkov et al. 2020, algorithm 1.
    """
    draw = (random or Random(0)).random
    tokens = [*symbols, -1]  # -1 merges with nothing: it stands at the end and in the place of what was swallowed
    following = [*range(1, len(tokens)), len(tokens) - 1]
    preceding = list(range(-1, len(tokens) - 1))
    queue = [(merges[pair][0], left) for left, pair in enumerate(pairwise(symbols)) if pair in merges]
    heapify(queue)
    skipped: list[tuple[int, int]] = []
    while queue:
        rank, left = heappop(queue)
        right = following[left]
        found = merges.get((tokens[left], tokens[right]))
        if found is None or found[0] != rank:
            continue  # one of the two has been merged with another neighbour since
        if dropout and draw() < dropout:
            skipped.append((rank, left))
            continue
        tokens[left], tokens[right] = found[1], -1
        following[left] = following[right]
        preceding[following[left]] = left
        for start in (preceding[left], left):
            pair = (tokens[start], tokens[following[start]])
            if pair in merges:
                heappush(queue, (merges[pair][0], start))
        for entry in skipped:
            heappush(queue, entry)
        skipped.clear()
    return [token for token in tokens if token >= 0]
