"""Codes while a tokenizer is trained: the moving codebook, what is counted, and codes that are given up."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.config import CategoricalCodes, DiscreteVAEConfig, ImageStage, NearestCodes
from trencadis.image import Categorical, Nearest
from trencadis.image.loss_terms import TERMS, TermInputs, commitment_loss
from trencadis.training.quantizers import CodeCounts, MovingCodebook, Relaxation, codebook_of, revive

CPU = torch.device("cpu")
CONFIG = DiscreteVAEConfig(image_size=(8, 8), image_vocab_size=6, latent_dim=5, codes=NearestCodes(codebook_dim=3))
CATEGORICAL = dataclasses.replace(CONFIG, codes=CategoricalCodes())


def nearest(codes: str = "euclidean", image_vocab_size: int = 6) -> Nearest:
    torch.manual_seed(0)
    kind = NearestCodes(kind=codes, codebook_dim=3)  # type: ignore[arg-type]
    return Nearest(4, dataclasses.replace(CONFIG, codes=kind, image_vocab_size=image_vocab_size))


def clusters(seed: int = 0) -> Tensor:
    """Vectors close to six centres far from each other, in turns."""
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.cat([torch.eye(3), -torch.eye(3)])
    chosen = torch.arange(96) % 6
    return (centres[chosen] + 0.1 * torch.randn(96, 3, generator=generator)).view(2, 6, 8, 3)


def learn(moving: MovingCodebook, vectors: Tensor, *, seed: int) -> Tensor:
    return moving.learn(vectors, moving(vectors).tokens, seed=seed)


@pytest.mark.parametrize("codes", ["euclidean", "cosine"])
def test_the_codebook_comes_to_stand_for_the_vectors(codes: str) -> None:
    bottleneck = nearest(codes, image_vocab_size=16)
    moving = MovingCodebook(bottleneck, ImageStage(model=CONFIG, revive_below=0.2, codebook_decay=0.8), even_use=6.0)

    def vectors(seed: int) -> Tensor:
        return F.normalize(clusters(seed), dim=-1) if codes == "cosine" else clusters(seed)

    for seed in range(30):
        learn(moving, vectors(seed), seed=seed)
    quantized = moving(vectors(30))
    assert quantized.vectors is not None
    assert float(commitment_loss(quantized.latents, quantized.vectors).mean()) < 0.02
    # The model finds what was moved: codes close to every vector, and none that stands for two clusters.
    tokens = bottleneck.tokens(vectors(99)).flatten()
    assert (bottleneck.codebook[tokens] - vectors(99).flatten(0, 2)).norm(dim=-1).max() < 1
    of_clusters = [set(tokens[cluster::6].tolist()) for cluster in range(6)]
    assert sum(map(len, of_clusters)) == len(set().union(*of_clusters))


def test_only_learning_moves_the_codebook() -> None:
    bottleneck = nearest()
    moving = MovingCodebook(bottleneck, ImageStage(model=CONFIG, revive_below=0.1), even_use=16.0)
    before = bottleneck.codebook.detach().clone()
    first, second = moving(clusters()), moving(clusters())
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(bottleneck.codebook, before)
    assert learn(moving, clusters(), seed=0).tolist() == list(range(6))  # k-means: all begin anew
    assert not torch.equal(bottleneck.codebook, before)
    assert learn(moving, clusters(1), seed=1).tolist() == []
    for seed in range(2, 400):  # five clusters are left, and one code is replaced again and again
        replaced = learn(moving, clusters(seed)[..., :5, :1, :].repeat(1, 1, 8, 1), seed=seed)
        if len(replaced):
            break
    assert len(replaced) == 1


def test_the_gradient_passes_the_choice() -> None:
    moving = MovingCodebook(nearest(), ImageStage(model=CONFIG), even_use=16.0)
    vectors = clusters().requires_grad_()
    torch.autograd.backward(moving(vectors).embedded.square().sum())
    assert vectors.grad is not None
    assert vectors.grad.abs().sum(-1).gt(0).all()


def test_codes_are_counted_over_whole_epochs() -> None:
    counts = CodeCounts(4, epoch_tokens=8, device=CPU)
    counts.add(torch.tensor([[[0, 1], [1, 1]]]))
    assert counts.measured()["code_use"] == 0.5  # of what there was of the first epoch
    counts.add(torch.tensor([[[2, 2], [0, 0]]]))
    assert counts.measured() == {"code_use": 0.75, "code_perplexity": pytest.approx(2.95, abs=0.01)}
    counts.add(torch.tensor([[[3, 3], [3, 3]]]))
    assert counts.measured()["code_use"] == 0.75  # the second is not over
    again = CodeCounts(4, epoch_tokens=8, device=CPU)
    again.load_state_dict(counts.state_dict())
    for one in (counts, again):
        one.add(torch.tensor([[[3, 3], [3, 3]]]))
    assert counts.measured() == again.measured() == {"code_use": 0.25, "code_perplexity": pytest.approx(1.0)}


def test_enough_tokens_are_counted_before_a_code_is_judged() -> None:
    counts = CodeCounts(4, epoch_tokens=10**6, device=CPU)
    counts.add(torch.zeros(1, 10, 19, dtype=torch.long))
    assert counts.window() is None
    counts.add(torch.ones(1, 2, 5, dtype=torch.long))
    window = counts.window()
    assert window is not None
    assert window.tolist() == [190, 10, 0, 0]
    assert counts.window() is None


def test_dead_codes_take_a_part_of_used_ones() -> None:
    torch.manual_seed(0)
    bottleneck = Categorical(4, CATEGORICAL)
    weight, vectors = bottleneck.to_logits.weight, bottleneck.codebook
    before = weight.detach().clone(), vectors.detach().clone()
    counts = torch.tensor([400, 0, 100, 2, 600, 100])
    replaced = revive(bottleneck, counts, below=0.1, seed=1)
    assert replaced.keys() == {"to_logits.weight", "codebook", "to_logits.bias"}
    assert all(rows.tolist() == [1, 3] for rows in replaced.values())
    used = [0, 2, 4, 5]
    assert torch.equal(weight[used], before[0][used])
    assert torch.equal(vectors[used], before[1][used])
    for dead in (1, 3):
        # Nearly one of those in use, in both, and not it.
        distances = [
            (now[dead] - now[used]).flatten(1).norm(dim=1) / now[used].flatten(1).norm(dim=1)
            for now in (weight.detach(), vectors.detach())
        ]
        assert int(distances[0].argmin()) == int(distances[1].argmin())
        assert all(0.005 < float(distance.min()) < 0.3 for distance in distances)
        assert not torch.equal(vectors[dead], before[1][dead])


def test_what_is_used_most_is_split_most() -> None:
    torch.manual_seed(0)
    bottleneck = Categorical(4, dataclasses.replace(CATEGORICAL, image_vocab_size=400))
    counts = torch.zeros(400, dtype=torch.long)
    counts[:3] = torch.tensor([600, 300, 100])
    before = bottleneck.codebook.detach().clone()
    assert len(revive(bottleneck, counts, below=0.01, seed=1)["codebook"]) == 397
    assert torch.equal(bottleneck.codebook[:3], before[:3])
    nearest_used = torch.cdist(bottleneck.codebook[3:].detach(), before[:3]).argmin(dim=1).bincount(minlength=3)
    torch.testing.assert_close(nearest_used / 397, torch.tensor([0.6, 0.3, 0.1]), atol=0.08, rtol=0)


def test_codes_in_use_are_left_alone() -> None:
    bottleneck = nearest()
    before = bottleneck.codebook.detach().clone()
    assert revive(bottleneck, torch.tensor([4, 5, 6, 5, 4, 5]), below=0.1, seed=1) == {}
    assert torch.equal(bottleneck.codebook, before)


@pytest.mark.parametrize(("relaxation", "is_hard"), [("gumbel", False), ("straight_through", True), ("ibq", True)])
def test_what_the_decoder_is_given(relaxation: str, is_hard: bool) -> None:
    torch.manual_seed(0)
    bottleneck = Categorical(4, CATEGORICAL)
    logits = torch.randn(2, 3, 4, 6, requires_grad=True)
    quantized = Relaxation(bottleneck, range(2), relaxation, 0.5)(logits)
    distances = torch.cdist(quantized.embedded.flatten(0, 2), bottleneck.codebook)
    assert bool((distances.min(1).values < 1e-5).all()) == is_hard
    if relaxation == "ibq":
        assert torch.equal(distances.argmin(1).view(2, 3, 4), logits.argmax(-1))
    torch.autograd.backward(quantized.embedded.square().sum())
    assert logits.grad is not None
    assert logits.grad.any()


@pytest.mark.parametrize("relaxation", ["gumbel", "straight_through", "ibq"])
def test_codes_by_nearness_are_learnt_by_gradients(relaxation: str) -> None:
    bottleneck = nearest()
    assert codebook_of(bottleneck, ImageStage(model=CONFIG, relaxation=relaxation)) is None  # type: ignore[arg-type]
    vectors = torch.randn(2, 3, 4, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    quantized = Relaxation(bottleneck, range(2), relaxation, 0.5)(vectors)
    assert torch.equal(quantized.tokens, bottleneck.tokens(vectors))
    if relaxation == "ibq":
        torch.testing.assert_close(quantized.embedded, bottleneck.look_up(quantized.tokens))
    squares = (vectors - bottleneck.codebook[quantized.tokens]).square().mean().detach()
    inputs = TermInputs(vectors, vectors, vectors, quantized)
    for name, moved, still in (
        ("commitment", vectors, bottleneck.codebook),
        ("codebook", bottleneck.codebook, vectors),
    ):
        values = TERMS[name](inputs)
        assert values is not None
        torch.testing.assert_close(values.mean().detach(), squares)
        grads = torch.autograd.grad(values.mean(), [moved, still], allow_unused=True, retain_graph=True)
        assert grads[0] is not None
        assert grads[0].any()
        assert grads[1] is None
    torch.autograd.backward(quantized.embedded.square().sum())
    for tensor in (vectors, bottleneck.codebook):
        assert tensor.grad is not None
        assert tensor.grad.any()


def test_dead_codes_by_nearness_take_a_part_of_a_used_one() -> None:
    bottleneck = nearest()
    before = bottleneck.codebook.detach().clone()
    used = [0, 2, 3, 4, 5]
    replaced = revive(bottleneck, torch.tensor([400, 0, 100, 300, 600, 100]), below=0.1, seed=1)
    assert {name: rows.tolist() for name, rows in replaced.items()} == {"codebook": [1]}
    assert torch.equal(bottleneck.codebook[used], before[used])
    distances = (bottleneck.codebook[1] - before[used]).norm(dim=1) / before[used].norm(dim=1)
    assert 0.005 < float(distances.min()) < 0.3
