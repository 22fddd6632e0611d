"""What the trainings of the tiny models share: ranks, Muon, weight averaging, and a resumable `fit`.

On a CPU two single-threaded processes that average their gradients over gloo are 3 to 10 times as fast as two OpenMP
threads on a busy machine, so a training is started as `ranks` processes; on a GPU it is one process. Step k draws its
data from a generator seeded by (seed, rank, k): a training that was stopped goes on exactly where it was.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls) -> Ranks:
        """Join the group that RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT describe, or train alone."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count > 1:
            torch.set_num_threads(1)
            dist.init_process_group("gloo")
            if hasattr(os, "sched_setaffinity"):  # else both ranks may wait for each other on the same core
                cores = sorted(os.sched_getaffinity(0))
                os.sched_setaffinity(0, {cores[dist.get_rank() % len(cores)]})
            return cls(dist.get_rank(), count, device)
        return cls(device=device)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every rank the tensors of rank 0."""
        if self.count > 1:
            for tensor in tensors:
                whole = tensor.data.contiguous()
                dist.broadcast(whole, 0)
                tensor.data.copy_(whole)

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the ranks, in one message."""
        if self.count > 1:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            flat /= self.count
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def gather(self, flat: Tensor) -> list[Tensor]:
        """The equally long vectors of all ranks."""
        if self.count == 1:
            return [flat]
        parts = [torch.empty_like(flat) for _ in range(self.count)]
        dist.all_gather(parts, flat)
        return parts


def _orthogonal(matrices: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest orthogonal matrices: (n, rows, columns), rows <= columns.

    Coefficients of Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    """
    x = matrices / (matrices.flatten(1).norm(dim=1).view(-1, 1, 1) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


class Muon:
    """Muon with Nesterov momentum; weights are flattened to (out, rest), and the work is shared among the ranks."""

    def __init__(self, weights: Sequence[Tensor], ranks: Ranks, momentum: float = 0.95, decay: float = 0.0) -> None:
        self.weights, self.ranks, self.momentum, self.decay = weights, ranks, momentum, decay
        self.velocity = [torch.zeros_like(weight) for weight in weights]
        self.groups: dict[tuple[int, ...], list[int]] = {}
        for index, weight in enumerate(weights):
            self.groups.setdefault(tuple(sorted((weight.shape[0], weight[0].numel()))), []).append(index)

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move all weights, from their gradients."""
        for shape, members in self.groups.items():
            share = -(-len(members) // self.ranks.count)
            mine = members[self.ranks.rank * share : (self.ranks.rank + 1) * share]
            flat = torch.zeros(share, *shape, device=self.weights[members[0]].device)
            if mine:
                flat[: len(mine)] = _orthogonal(torch.stack([self._direction(index) for index in mine]))
            whole = torch.cat(self.ranks.gather(flat))[: len(members)]
            for index, update in zip(members, whole, strict=True):
                weight = self.weights[index]
                rows, columns = weight.shape[0], weight[0].numel()
                update = (update if rows <= columns else update.mT).reshape(weight.shape)
                weight.mul_(1 - rate * self.decay).sub_(update, alpha=rate * max(1, rows / columns) ** 0.5)

    def _direction(self, index: int) -> Tensor:
        weight, velocity = self.weights[index], self.velocity[index]
        velocity.mul_(self.momentum).add_(weight.grad)  # type: ignore[arg-type]
        gradient = weight.grad.add(velocity, alpha=self.momentum).reshape(weight.shape[0], -1)  # type: ignore[union-attr]
        return gradient if gradient.shape[0] <= gradient.shape[1] else gradient.mT


@dataclass
class Rates:
    """Learning rates and their course: warm-up, constant until `hold`, then linear to 2 %."""

    adam: float
    muon: float
    warmup: int = 40
    hold: float = 0.6
    average: float = 0.998

    def factor(self, step: int, steps: int) -> float:
        """What the rates are multiplied by at this step."""
        done = step / steps
        decay = 1.0 if done < self.hold else max(0.02, 1 - (done - self.hold) / (1 - self.hold))
        return min(1.0, (step + 1) / self.warmup) * decay


class Fit:
    """A training of `model` that is checkpointed, logged and resumed.

    `loss(step, rng)` gives the loss of one step; `is_matrix(name, parameter)` says which weights Muon trains, AdamW has the
    rest.
    """

    def __init__(
        self,
        model: nn.Module,
        folder: Path,
        ranks: Ranks,
        rates: Rates,
        is_matrix: Callable[[str, Tensor], bool],
        seed: int = 0,
    ) -> None:
        self.model, self.folder, self.ranks, self.rates, self.seed = model, folder, ranks, rates, seed
        folder.mkdir(parents=True, exist_ok=True)
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        ranks.broadcast(trained.values())
        self.weights = list(trained.values())
        matrices = [weight for name, weight in trained.items() if is_matrix(name, weight)]
        others = [weight for name, weight in trained.items() if not is_matrix(name, weight)]
        self.muon = Muon(matrices, ranks)
        self.adam = torch.optim.AdamW([{"params": others}], lr=rates.adam, betas=(0.9, 0.97), weight_decay=0.0, foreach=True)
        self.mean = [weight.detach().clone() for weight in self.weights]
        self.step, self.seconds = 0, 0.0
        self._resume()

    def run(self, loss: Callable[[int, random.Random], Tensor], steps: int, look: Callable[[], object] | None = None) -> None:
        """Train up to `steps`; `look` runs on rank 0 at every checkpoint, with the averaged weights in place."""
        began, logged, saved, losses = time.time() - self.seconds, time.time(), time.time(), []
        while self.step < steps:
            rng = random.Random(f"{self.seed} {self.ranks.rank} {self.step}")
            torch.manual_seed(rng.getrandbits(60))
            value = loss(self.step, rng)
            for weight in self.weights:
                weight.grad = None
            value.backward()
            self._update(self.rates.factor(self.step, steps))
            losses.append(value.detach())
            self.step += 1
            self.seconds = time.time() - began
            if self.step % 50 == 0 or self.step == steps:
                row = dict(step=self.step, seconds=round(self.seconds, 1), loss=round(float(torch.stack(losses).mean()), 5))
                row["seconds_per_step"] = round((time.time() - logged) / len(losses), 4)
                logged, losses = time.time(), []
                if self.ranks.rank == 0:
                    with (self.folder / "curve.jsonl").open("a") as file:
                        file.write(json.dumps(row) + "\n")
            if self.ranks.rank == 0 and (time.time() - saved > 180 or self.step == steps):
                self.save()
                if look:
                    self.swap()
                    look()
                    self.swap()
                saved = time.time()

    def _update(self, factor: float) -> None:
        for weight in self.weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        self.ranks.average(gradients)
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for group in self.adam.param_groups:
            group["lr"] = self.rates.adam * factor
        self.adam.step()
        self.muon.step(self.rates.muon * factor)
        with torch.no_grad():
            keep = min(self.rates.average, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.mean, [weight.data for weight in self.weights], 1 - keep)

    def swap(self) -> None:
        """Exchange the weights and their running average."""
        with torch.no_grad():
            for weight, mean in zip(self.weights, self.mean, strict=True):
                kept = weight.data.clone()
                weight.data.copy_(mean)
                mean.copy_(kept)

    def save(self) -> None:
        """Write the whole state of the training, so that it can go on (rank 0; Muon's momenta of the other ranks restart)."""
        state = dict(
            step=self.step,
            seconds=self.seconds,
            weights=[weight.data for weight in self.weights],
            mean=self.mean,
            adam=self.adam.state_dict(),
            velocity=self.muon.velocity,
        )
        torch.save(state, self.folder / "checkpoint.part")
        os.replace(self.folder / "checkpoint.part", self.folder / "checkpoint.pt")

    def _resume(self) -> None:
        if not (self.folder / "checkpoint.pt").exists():
            return
        state = torch.load(self.folder / "checkpoint.pt", weights_only=True, map_location=self.ranks.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.adam.load_state_dict(state["adam"])
        for ours, stored in ((self.mean, state["mean"]), (self.muon.velocity, state["velocity"])):
            for tensor, value in zip(ours, stored, strict=True):
                tensor.copy_(value)
        with torch.no_grad():
            for weight, value in zip(self.weights, state["weights"], strict=True):
                weight.copy_(value)
