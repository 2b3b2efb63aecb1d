"""Byte-pair merging with dropout, seeded."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from random import Random

Merges = Mapping[tuple[int, int], tuple[int, int]]
"""Rank (lower first) and resulting token of the merge of each pair of adjacent tokens."""


def merge(symbols: Sequence[int], merges: Merges, *, dropout: float = 0.0, random: Random | None = None) -> list[int]:
    """Return the tokens of one word after its merges.

    Each step applies the possible merge of lowest rank, leftmost first. Each possible merge is skipped with probability
    `dropout`, drawn anew at every step; drawing stops at the first merge that survives, so n symbols take about n·log n
    steps.

    Args:
        symbols: The tokens of the word's bytes.
        dropout: In [0, 1]; 0 gives plain byte-pair encoding.
        random: Source of randomness; required if `dropout` is above 0.

    Source: Provilkov et al. 2020, algorithm 1.
    """
    draw = (random or Random(0)).random
    tokens = [*symbols, -1]  # -1 merges with nothing: it marks the end and removed positions
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
            continue  # stale: one of the two was merged in the meantime
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
