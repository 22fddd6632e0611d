"""The forms of a change that LoRA files have, each with the dense change that it means.

    LowRank      (alpha / r) B A                       Hu et al. 2021 (arXiv 2106.09685): B (out, r), A (r, in)
    Loha         (alpha / r) (B1 A1) * (B2 A2)         element by element (Hyeon-Woo et al. 2021, arXiv 2108.06098)
    Lokr         (alpha / r) W1 (x) W2                 Kronecker product (LyCORIS, Yeh et al. 2023, arXiv 2309.14859)
    Difference   the change itself                     .diff, .diff_b, .diff_m: norms, biases, modulation, whole weights
    Dora         m (W + D) / ||W + D|| - W             Liu et al. 2024 (arXiv 2402.09353): D is one of the above, m is learned

Without alpha the factor is 1, whatever the rank. The tensors of a form are only read: nothing here computes in place.
(diffusers scales some of a caller's tensors in place, so that the second load of the same tensors is wrong.) Of a DoRA the
strength scales the whole change, as in ComfyUI.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Delta:
    """A change of one parameter at strength 1."""

    kind = ""
    alpha: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        raise NotImplementedError

    @property
    def rank(self) -> int | None:
        """The inner dimension of its products; None where there are none."""
        return None

    @property
    def factor(self) -> float:
        """alpha / rank, or 1 where one of them is not given."""
        return self.alpha / self.rank if self.alpha is not None and self.rank else 1.0

    def weight(self, base: Tensor | None = None) -> Tensor:
        """The change as one new float32 tensor of `shape`.

        `base` are the weights that are changed, of the same shape: a DoRA needs their values, all others only their device.
        """
        raise NotImplementedError


class Product(NamedTuple):
    """B A, or with the core of a convolution the sum over both inner dimensions: B is (r, out) then."""

    b: Tensor
    a: Tensor
    core: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the product."""
        if self.core is None:
            return (self.b.shape[0], *self.a.shape[1:])
        return (self.b.shape[1], self.a.shape[1], *self.core.shape[2:])

    @property
    def rank(self) -> int:
        """The inner dimension."""
        return self.a.shape[0]

    def dense(self, like: Tensor | None) -> Tensor:
        """The product in float32."""
        b, a = _full(self.b, like), _full(self.a, like)
        if self.core is None:
            return (b @ a.flatten(1)).reshape(self.shape)
        return torch.einsum("ij...,ip,jn->pn...", _full(self.core, like), b, a)


@dataclass(frozen=True, eq=False)
class LowRank(Delta):
    """B A: `down` is A (r, in), `up` is B (out, r). Of a convolution: A (r, in, ...), B (out, r, 1 ...), `mid` (r, r, ...)."""

    down: Tensor
    up: Tensor
    alpha: float | None = None
    mid: Tensor | None = None

    kind = "low rank"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        inner = self.down.shape[1:] if self.mid is None else (self.down.shape[1], *self.mid.shape[2:])
        return (self.up.shape[0], *inner)

    @property
    def rank(self) -> int:
        """r."""
        return self.down.shape[0]

    def weight(self, base: Tensor | None = None) -> Tensor:
        """(alpha / r) B A."""
        down, up = _full(self.down, base).flatten(1), _full(self.up, base).flatten(1)
        if self.mid is not None:
            down = torch.einsum("ij...,jn->in...", _full(self.mid, base), down).flatten(1)
        return (up @ down * self.factor).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Loha(Delta):
    """Two products, multiplied element by element."""

    one: Product
    two: Product
    alpha: float | None = None

    kind = "LoHa"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        return self.one.shape

    @property
    def rank(self) -> int:
        """r of each product."""
        return self.one.rank

    def weight(self, base: Tensor | None = None) -> Tensor:
        """(alpha / r) (B1 A1) * (B2 A2)."""
        return self.one.dense(base) * self.two.dense(base) * self.factor


@dataclass(frozen=True, eq=False)
class Lokr(Delta):
    """The Kronecker product of two matrices, each of which is a tensor or a product."""

    one: Tensor | Product
    two: Tensor | Product
    alpha: float | None = None

    kind = "LoKr"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        one, two = self.one.shape, self.two.shape
        return (one[0] * two[0], one[1] * two[1], *two[2:])

    @property
    def rank(self) -> int | None:
        """r of the part that is a product. None if none is: then alpha means nothing, and trainers write any number there."""
        return next((part.rank for part in (self.two, self.one) if isinstance(part, Product)), None)

    def parts(self, base: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """W1 and (alpha / r) W2 in float32."""
        one, two = (part.dense(base) if isinstance(part, Product) else _full(part, base) for part in (self.one, self.two))
        return one, two * self.factor

    def weight(self, base: Tensor | None = None) -> Tensor:
        """(alpha / r) W1 (x) W2."""
        one, two = self.parts(base)
        return torch.kron(one.reshape(*one.shape, *[1] * (two.ndim - 2)), two)


@dataclass(frozen=True, eq=False)
class Difference(Delta):
    """The change itself."""

    change: Tensor

    kind = "difference"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        return tuple(self.change.shape)

    def weight(self, base: Tensor | None = None) -> Tensor:
        """The change in float32."""
        return _full(self.change, base).clone()


@dataclass(frozen=True, eq=False)
class Dora(Delta):
    """The weights with another change, brought to learned lengths.

    `magnitude` is (out,) or (out, 1 ...) for the lengths of rows, (1, in ...) for those of columns.
    """

    inner: Delta
    magnitude: Tensor
    alpha: float | None = None

    kind = "DoRA"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the change."""
        return self.inner.shape

    @property
    def rank(self) -> int | None:
        """The rank of the other change."""
        return self.inner.rank

    def weight(self, base: Tensor | None = None) -> Tensor:
        """m (W + D) / ||W + D|| - W."""
        if base is None:
            raise ValueError("base is not given; the change of a DoRA depends on the weights that it changes.")
        old = base.float()
        new = old + self.inner.weight(base).reshape(base.shape)
        lengths = _full(self.magnitude, base)
        if lengths.ndim == 1:
            lengths = lengths.reshape(-1, *[1] * (base.ndim - 1))
        norms = torch.linalg.vector_norm(new, dim=[axis for axis, size in enumerate(lengths.shape) if size == 1], keepdim=True)
        return new * (lengths / norms.clamp(min=torch.finfo(torch.float32).tiny)) - old


def fits(change: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    """Whether a change can be added: of the same shape apart from ones, or the same matrix for a convolution.

    >>> fits((6, 8), (1, 6, 8)), fits((8, 64), (8, 16, 1, 2, 2)), fits((8, 16), (16, 8))
    (True, True, False)
    """
    plain = [tuple(size for size in shape if size != 1) for shape in (change, weight)]
    return plain[0] == plain[1] or (len(weight) > 2 and change == (weight[0], math.prod(weight[1:])))


def _full(tensor: Tensor, like: Tensor | None) -> Tensor:
    """In float32, where the weights are that are changed."""
    return tensor.to(tensor.device if like is None else like.device, torch.float32)
