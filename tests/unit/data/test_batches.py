import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trencadis.config import FilterConfig
from trencadis.data import TOKENIZER_CROPS, PairBatch, PairBatches, Pictures, curate, open_source
from trencadis.errors import ConfigError, DataError


@pytest.fixture
def pictures(folder: Path) -> Pictures:
    source = open_source(str(folder))
    return Pictures(source, curate(source, FilterConfig()).kept, (8, 8))


def batches_of(pictures: Pictures, batch_size: int = 2) -> PairBatches:
    return PairBatches(pictures, batch_size=batch_size, seed=5, rule=TOKENIZER_CROPS)


def same(one: PairBatch, other: PairBatch) -> bool:
    words = (one.captions, one.sample_ids, one.epochs)
    return torch.equal(one.images, other.images) and words == (other.captions, other.sample_ids, other.epochs)


def test_batch_holds_pictures_with_their_captions(pictures: Pictures) -> None:
    batch = batches_of(pictures, 6).batch(0)
    assert batch.images.shape == (6, 3, 8, 8)
    assert batch.images.dtype == torch.float32
    colours = {"a.jpg": ("lime", 1), "b.PNG": ("red", 0), "more/c.webp": ("blue", 2)}
    for image, caption, sample_id in zip(batch.images, batch.captions, batch.sample_ids, strict=True):
        word, channel = colours[sample_id]
        assert caption in (f"a {word} square", f"the colour {word}")
        assert int(image.mean((1, 2)).argmax()) == channel
    assert batch.epochs == (0, 0, 0, 1, 1, 1)


def test_each_caption_has_its_turn(pictures: Pictures) -> None:
    batch = batches_of(pictures, 300).batch(0)
    counts = Counter(batch.captions)
    assert len(counts) == 6
    assert min(counts.values()) > 25


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(from_step=st.integers(0, 20), batch_size=st.integers(1, 7), workers=st.integers(0, 4))
def test_resumes_with_the_same_batches_for_any_workers(
    pictures: Pictures, from_step: int, batch_size: int, workers: int
) -> None:
    straight = batches_of(pictures, batch_size)
    resumed = list(batches_of(pictures, batch_size).iterate(from_step, from_step + 4, workers=workers))
    assert len(resumed) == 4
    for step, batch in enumerate(resumed, from_step):
        assert same(batch, straight.batch(step))


def test_leaving_early_leaves_no_thread(pictures: Pictures) -> None:
    threads = threading.active_count()
    with closing(batches_of(pictures).iterate(0, 10**9, workers=3)) as batches:
        next(batches)
        assert threading.active_count() > threads
    assert threading.active_count() == threads


def test_fault_of_a_picture_reaches_the_caller_in_its_turn(folder: Path) -> None:
    source = open_source(str(folder))
    kept = curate(source, FilterConfig()).kept
    batches = batches_of(Pictures(source, kept, (8, 8), memory_bytes=0), 1)
    order = [batches.order.positions(step)[0][1] for step in range(3)]
    (folder / kept[order[1]].sample_id).write_bytes(b"broken")
    threads = threading.active_count()
    iterator = batches.iterate(0, 3, workers=2)
    assert next(iterator).sample_ids == (kept[order[0]].sample_id,)
    with pytest.raises(DataError, match="can no longer be read"):
        next(iterator)
    assert threading.active_count() == threads


def test_pictures_are_pinned_where_they_are_asked_to_be(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    assert len(list(batches_of(pictures).iterate(0, 2, pinned=False))) == 2
    assert pinned == []
    batches = list(batches_of(pictures).iterate(0, 2, pinned=True))
    assert {id(tensor) for tensor in pinned} == {id(batch.images) for batch in batches}


def test_no_pair_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="0 samples"):
        batches_of(Pictures(open_source(str(folder)), (), (8, 8)))
