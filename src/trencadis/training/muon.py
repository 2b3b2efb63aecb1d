"""Muon: momentum whose every singular value is made about one, for the hidden matrices of a model."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.transformer.kernels.cpu import added_product, batched_product

HiddenMatrix = tuple[Tensor, tuple[int, ...]]
"""A matrix and the rows of each of its parts: (rows,) for a plain one, three numbers for fused queries, keys, values.

A part maps the layer's input to something of its own, and is made orthogonal by itself.
"""

Quintic = tuple[float, float, float]
"""The coefficients a, b, c of a·x + b·x³ + c·x⁵, by which one step of the iteration moves every singular value x."""

JORDAN: tuple[Quintic, ...] = ((3.4445, -4.7750, 2.0315),) * 5
"""Singular values of 0.01 to 1 come out in about [0.68, 1.14], smaller ones in up to 1.21.

Source: Jordan et al. 2024, "Muon".
"""

_SAFETY = 1.01  # rounding may lift a singular value above one; the polynomials are stretched, so that it stays inside
POLAR_EXPRESS: tuple[Quintic, ...] = tuple(
    (a / _SAFETY, b / _SAFETY**3, c / _SAFETY**5)
    for a, b, c in (
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    )
)
"""Singular values of 0.001 to 1 come out in about [0.84, 1.13], at the same cost.

Source: Amsel et al. 2025, "The Polar Express", algorithm 1, its first five steps with its safety factor.
"""

_MOST_STACKED = 2**25  # numbers in one batch of matrices, so that a large model's are not all copied at once


@runtime_checkable
class HasHiddenMatrices(Protocol):
    """A model that says which of its parameters Muon may train."""

    def hidden_matrices(self) -> list[HiddenMatrix]:
        """Return the weights of the linear layers between embeddings and heads, each once, and their parts."""


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal.

    An update subtracts `lr` · √max(1, rows/columns) · O from each part of a matrix, where O is about the nearest
    matrix to the momentum whose singular values are all one. The factor is that of the source, and what PyTorch's own
    Muon calls `original`. Weight decay is decoupled and multiplied by `lr`, as in AdamW.

    Matrices of one shape are stacked, so that a model takes a few batched products. Momentum, norms and weights are in
    the parameters' type. Its only state is the momentum, under `quantity`.

    Args:
        matrices: What is trained.
        lr: About the most by which an update moves the largest singular value of a square matrix.
        momentum: Share of the moving average of gradients that an update keeps, 0..1.
        weight_decay: Share of a weight that an update takes away, in units of `lr`.
        coefficients: One step of the iteration each.
        dtype: Of the iteration's products on a CPU; on a GPU it is bfloat16.

    Raises:
        ValueError: A parameter is no matrix, or its parts do not add up to its rows.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    quantity = "momentum"

    def __init__(
        self,
        matrices: Sequence[HiddenMatrix],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        coefficients: Sequence[Quintic] = POLAR_EXPRESS,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        for parameter, rows in matrices:
            if parameter.ndim != 2 or sum(rows) != parameter.shape[0]:
                raise ValueError(f"a parameter of shape {tuple(parameter.shape)} has no parts of {rows} rows")
        groups = [{"params": [parameter for parameter, _ in matrices], "parts": [rows for _, rows in matrices]}]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._coefficients, self._dtype = tuple(coefficients), dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one update of the parameters that have a gradient."""
        for group in self.param_groups:
            trained = [(p, rows) for p, rows in zip(group["params"], group["parts"], strict=True) if p.grad is not None]
            if trained:
                parameters = [parameter for parameter, _ in trained]
                directions = self._nesterov(parameters, group["momentum"])
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                parts: list[_Part] = []
                for (parameter, rows), direction in zip(trained, directions, strict=True):
                    weights, moves = (torch.split(matrix.detach(), list(rows)) for matrix in (parameter, direction))
                    parts += map(_Part, weights, moves)
                for batch in _batches(parts):
                    self._move(batch, group["lr"])

    def _move(self, parts: list["_Part"], lr: float) -> None:
        """Subtract the orthogonal updates from the weights of one batch."""
        directions = torch.stack([_wide(direction) for _, direction in parts])
        dtype = torch.bfloat16 if directions.is_cuda else self._dtype
        updates = orthogonal(directions, self._coefficients, dtype).to(directions.dtype)
        for (weight, _), update in zip(parts, updates, strict=True):
            rows, columns = weight.shape
            _wide(weight).add_(update, alpha=-lr * math.sqrt(max(1, rows / columns)))

    def _nesterov(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Take the gradients into the moving averages and return where those will be after a like gradient."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter][self.quantity] = torch.zeros_like(parameter)
        averages = [self.state[parameter][self.quantity] for parameter in parameters]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, averages, momentum))


class _Part(NamedTuple):
    weight: Float[Tensor, "rows columns"]
    direction: Float[Tensor, "rows columns"]


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    """Yield the parts whose shapes are equal, or equal when one is turned, in batches of bounded size."""
    by_shape: dict[tuple[int, ...], list[_Part]] = defaultdict(list)
    for part in parts:
        by_shape[tuple(sorted(part.weight.shape))].append(part)
    for (short, long), alike in by_shape.items():
        count = max(1, _MOST_STACKED // max(1, short * long))
        for start in range(0, len(alike), count):
            yield alike[start : start + count]


def _wide(matrix: Float[Tensor, "rows columns"]) -> Tensor:
    """Return a view with at most as many rows as columns."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonal(
    matrices: Float[Tensor, "count rows columns"],
    coefficients: Sequence[Quintic] = POLAR_EXPRESS,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "count rows columns"]:
    """Return about the nearest matrix with orthonormal rows to each, by a Newton–Schulz iteration.

    The singular vectors stay, and every singular value is taken through the polynomials. A matrix of zeros stays so.
    Matrices should have at most as many rows as columns, so that the products are small.

    Args:
        matrices: Stacked.
        coefficients: One step each.
        dtype: Of the products and the result; the matrices' own unless given. Norms are in the matrices'.
    """
    # The Frobenius norm bounds the largest singular value.
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)
    matrices = (matrices / (norms * _SAFETY + 1e-7)).to(dtype)
    rows, columns = matrices.shape[1:]
    # Both ways give the same; the first does less work from there on, but bfloat16 is too coarse for it.
    if matrices.dtype == torch.float32 and 2 * columns > 3 * rows:
        return batched_product(_inverse_root(batched_product(matrices, matrices.mT), coefficients), matrices)
    for quintic in coefficients:
        factor = _factor(batched_product(matrices, matrices.mT), quintic)
        matrices = added_product(matrices, factor, matrices, keep=quintic[0])
    return matrices


def _inverse_root(
    grams: Float[Tensor, "count rows rows"], coefficients: Sequence[Quintic]
) -> Float[Tensor, "count rows rows"]:
    """Return about G^(-1/2) for each Gram matrix G: the iteration's factors alone, which never meet the long side.

    A step multiplies a matrix from the left by F = a + b·G + c·G², and its Gram matrix becomes F·G·F.
    """
    product = factor = _plus(coefficients[0][0], _factor(grams, coefficients[0]))
    for quintic in coefficients[1:]:
        grams = batched_product(batched_product(factor, grams), factor)
        factor = _plus(quintic[0], _factor(grams, quintic))
        product = batched_product(factor, product)
    return product


def _factor(grams: Float[Tensor, "count rows rows"], quintic: Quintic) -> Float[Tensor, "count rows rows"]:
    """Return b·G + c·G² for each Gram matrix G."""
    _, b, c = quintic
    return added_product(grams, grams, grams, keep=b, factor=c)


def _plus(a: float, factors: Float[Tensor, "count rows rows"]) -> Float[Tensor, "count rows rows"]:
    """Add `a` to the diagonals, in place."""
    factors.diagonal(dim1=1, dim2=2).add_(a)
    return factors
