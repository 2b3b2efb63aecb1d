"""How well pictures fit a prompt, and their order by it."""

from trencadis.ranking.choice import JointRanker, chosen_ranker, no_ranker
from trencadis.ranking.clip import CLIP
from trencadis.ranking.clip_ranker import CLIPRanker
from trencadis.ranking.likelihood import LikelihoodRanker, token_nats
from trencadis.ranking.rank import Ranked, rank

__all__ = [
    "CLIP",
    "CLIPRanker",
    "JointRanker",
    "LikelihoodRanker",
    "Ranked",
    "chosen_ranker",
    "no_ranker",
    "rank",
    "token_nats",
]
