"""How well pictures fit a prompt, and their order by it."""

from trencadis.ranking.clip import CLIP
from trencadis.ranking.clip_ranker import CLIPRanker
from trencadis.ranking.rank import Ranked, rank

__all__ = ["CLIP", "CLIPRanker", "Ranked", "rank"]
