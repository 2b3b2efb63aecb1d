"""How well pictures fit a prompt, and their order by it."""

from trencadis.ranking.clip import CLIP
from trencadis.ranking.rank import Ranked, rank
from trencadis.ranking.ranker import CLIPRanker

__all__ = ["CLIP", "CLIPRanker", "Ranked", "rank"]
