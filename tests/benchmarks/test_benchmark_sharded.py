"""Sharding over ranks that are not there: memory, collectives and bytes from shapes, and a real update of a slice."""

import pytest
import torch
from jsonargparse import Namespace

from benchmarks.sharded import fake_ranks, left_out_by_factors, main, measure, rows_of, shard, slice_update
from trencadis.config import TransformerConfig
from trencadis.recipes import dalle_v1
from trencadis.training.accelerators import ACCELERATORS, UTILISATION
from trencadis.transformer import Transformer

# Dimensions are multiples of the 8 ranks, so that nothing is padded but the tables of rows and columns.
TINY = TransformerConfig(
    num_layers=3, num_heads=2, head_dim=32, text_len=16, text_vocab_size=304, grid_size=(8, 8), image_vocab_size=64
)


def sizes(config: TransformerConfig) -> tuple[int, int]:
    """Return the parameters of the blocks and of the rest."""
    with torch.device("meta"):
        model = Transformer(config)
    blocks = sum(p.numel() for p in model.blocks.parameters())
    return blocks, sum(p.numel() for p in model.parameters()) - blocks


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("without_type_checks")
def test_a_rank_holds_its_share_and_communicates_every_parameter() -> None:
    blocks, rest = sizes(TINY)
    found = measure(TINY, ranks=64, machine=8)
    assert found["calls"] == {"all-gather": 2 * 3 + 1, "reduce-scatter": 4, "all-reduce": 4}
    assert found["bytes"]["all-gather"] == 2 * (2 * blocks + rest)
    assert found["bytes"]["reduce-scatter"] == 2 * (blocks + rest)
    assert found["bytes"]["all-reduce"] == 2 * (blocks + rest) / 8
    assert found["state"] == pytest.approx(16 * (blocks + rest) / 8, rel=0.01)
    assert found["peak"] > found["state"] + 2 * rest


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("without_type_checks")
def test_without_copies_nothing_is_summed_over_machines() -> None:
    found = measure(TINY, ranks=8, machine=8)
    assert found["calls"] == {"all-gather": 7, "reduce-scatter": 4}


@pytest.mark.usefixtures("without_type_checks")
def test_dalle_is_built_sharded_on_the_meta_device() -> None:
    config = dalle_v1().transformer_model()
    with fake_ranks(1024, 8) as mesh:
        with torch.device("meta"):
            model = Transformer(config)
        whole = sum(p.numel() for p in model.parameters())
        shard(model, model.blocks, mesh)
        local = [p.to_local() for p in model.parameters()]  # type: ignore[attr-defined]
    assert whole == pytest.approx(12e9, rel=0.03)
    assert all(p.is_meta for p in local)
    assert sum(p.numel() for p in local) == pytest.approx(whole / 8, rel=0.001)
    assert (config.num_layers, config.num_heads) == (64, 62)


def test_factors_of_a_matrix_are_smaller_than_it() -> None:
    assert left_out_by_factors(TINY, 10_000) == 0
    config = dalle_v1().transformer_model()
    dim, rank = config.dim, 896
    matrices = ((dim, 3 * dim), (dim, dim), (4 * dim, dim), (dim, 4 * dim))
    kept = sum(rank * (n + m) for n, m in matrices) / sum(n * m for n, m in matrices)
    assert left_out_by_factors(config, rank) == pytest.approx(1 - kept, abs=0.01)


def test_seconds_are_those_of_a_ring_and_of_the_products() -> None:
    arguments = Namespace(ranks=16, machine=8, device="v100", link=100.0, network=8.0)  # type: ignore[no-untyped-call]
    moved = {"all-gather": 8e9, "reduce-scatter": 4e9, "all-reduce": 1e9}
    found = {"peak": 3, "state": 2, "calls": dict.fromkeys(moved, 1), "bytes": moved}
    rows = {row["what"]: row for row in rows_of(found, ACCELERATORS["v100"].peak_flops, arguments)}
    assert rows["a rank"] == {"what": "a rank", "peak_bytes": 3, "state_bytes": 2}
    assert rows["products"]["seconds"] == pytest.approx(1 / UTILISATION)
    assert rows["all-gather"]["seconds"] == pytest.approx(7 / 8 * 8e9 / 100e9)
    assert rows["all-reduce"]["seconds"] == pytest.approx(2 * 1 / 2 * 1e9 / 1e9), "two machines; a rank has 1 GB/s"
    shares = [row["share_of_update"] for name, row in rows.items() if name != "a rank"]
    assert sum(shares) == pytest.approx(1)


def test_a_slice_makes_an_update_in_float16() -> None:
    found = slice_update(TINY)
    assert found["loss_after"] < found["loss"]
    assert found["finite_branches"] == found["branches"] == 6
    assert found["gradient_norm"] > 0


def test_ranks_are_whole_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--ranks", "10", "--machine", "8"]) == 2
    assert "--ranks 10 and --machine 8; expected whole machines; choose a multiple" in capsys.readouterr().err
