"""Captioned pictures: sources, filters, sampling order, crops and batches."""

from trencadis.data.batches import PairBatch, PairBatches
from trencadis.data.crop_boxes import CAPTIONED_CROPS, TOKENIZER_CROPS, CropRule
from trencadis.data.crops import Pictures
from trencadis.data.curation import curate, examine, fingerprint, pair_stamp, require_kept, require_whole
from trencadis.data.image_files import decode_picture, picture_size, read_picture
from trencadis.data.order import SampleOrder
from trencadis.data.pairs import Curated, Dropped, KeptPair, ListedSource, Omitted
from trencadis.data.sources import open_source

__all__ = [
    "CAPTIONED_CROPS",
    "TOKENIZER_CROPS",
    "CropRule",
    "Curated",
    "Dropped",
    "KeptPair",
    "ListedSource",
    "Omitted",
    "PairBatch",
    "PairBatches",
    "Pictures",
    "SampleOrder",
    "curate",
    "decode_picture",
    "examine",
    "fingerprint",
    "open_source",
    "pair_stamp",
    "picture_size",
    "read_picture",
    "require_kept",
    "require_whole",
]
