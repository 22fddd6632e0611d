"""Distills the tiny model: a LoRA with which four steps without guidance do what twenty with guidance do.

The teacher is the model itself with guidance `CFG`. Twenty Euler steps lead it from noise to a clip; the student has a
quarter of them, so each of its steps has to go where five of the teacher's go. It learns the mean velocity of these five,
(x_i - x_{i+1}) / (sigma_i - sigma_{i+1}), from the clips' states x_i, with the guidance in it: progressive distillation
(Salimans and Ho 2022, arXiv 2202.00512) in one go, or a rectified flow in four pieces (Yan et al. 2024, arXiv 2405.07510).

On its own way the student meets states that the teacher's way does not have, and small errors grow. So after a first round
on the teacher's states it walks itself, the teacher tells from each of its states where to go (Ross et al. 2011, arXiv
1011.0686), and it learns on. The states are written once and read many times, since the teacher's 40 passes a clip are
most of the cost.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wanlab.schedule import grid
from wanlab.tiny import clips, tiny_path
from wanlab.tiny.lora_training import RATES, add_lora, load_lora, merge_lora, plain_transformer, save_lora, wait
from wanlab.tiny.training import Fit, Ranks
from wanlab.tiny.transformer import Teacher, _count_padding, _hasten

STEPS, PARTS = 4, 5  # of the student; of the teacher in each of them
CFG, SHIFT = 3.0, 3.0
SUITS = {"steps": STEPS, "cfg": 1.0, "solver": "euler", "shift": SHIFT}
LEVELS = grid("euler", STEPS * PARTS, SHIFT).sigmas.tolist()  # the teacher's; every fifth is one of the student's
GROUP = 16  # clips that are made at a time
SHAPE = (16, 5, 8, 8)  # latents of 17 frames


@dataclass(frozen=True)
class Round:
    """So many clips are made (by all ranks together), and on them and the earlier ones so many steps are trained.

    Only the `first` of the student's steps are made.
    """

    clips: int
    steps: int
    first: int = STEPS


# On unseen clips the first two steps were far worse than on trained ones after two rounds, the last two were not.
ROUNDS = (Round(3008, 2400), Round(1504, 1600), Round(4000, 1800, first=2))


@dataclass(frozen=True)
class Walker:
    """A model with what its calls need: `products` is the context for them (see `_hasten`)."""

    model: WanTransformer3DModel
    products: Callable[[], AbstractContextManager[object]]

    @classmethod
    def of(cls, model: WanTransformer3DModel, fast: bool) -> Walker:
        """A walker whose calls take texts of `Teacher`."""
        _count_padding(model)
        return cls(model, _hasten(model) if fast else nullcontext)

    def velocity(self, x: Tensor, sigma: float, text: Tensor) -> Tensor:
        """What the model says of x (b, 16, t, h, w) at one level."""
        with self.products():
            return self.model(x, x.new_full((len(x),), 1000 * sigma), text, return_dict=False)[0].float()

    def guided(self, x: Tensor, text: Tensor, blank: Tensor, levels: list[float]) -> Tensor:
        """x moved along the levels by Euler steps with guidance `CFG`, away from the blank text."""
        both = torch.cat([text, blank.expand_as(text)])
        for sigma, following in pairwise(levels):
            positive, negative = self.velocity(torch.cat([x, x]), sigma, both).chunk(2)
            x = x + (following - sigma) * (negative + CFG * (positive - negative))
        return x


@torch.no_grad()
def write_states(folder: Path, one: Round, guide: Walker, student: Walker | None, ranks: Ranks, seed: str) -> None:
    """Write the states of a round's clips into `folder`, a file for each group; files that exist are kept.

    `starts` and `ends` are (n, first, 16, 5, 8, 8): where each step begins, and where the guide takes it from there. The next
    step begins where the student takes it, or without a student where the guide does. The captions are in the metadata.
    """
    folder.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(Path(tiny_path()), ranks.device)
    blank = teacher([""])
    for group in range(ranks.rank, -(-one.clips // GROUP), ranks.count):
        file = folder / f"{group:04}.safetensors"
        if file.exists():
            continue
        rng = random.Random(f"{seed} {group}")
        captions = [clips.caption(clips.random_scene(rng), rng) for _ in range(GROUP)]
        text = teacher(captions)
        noise = torch.Generator().manual_seed(rng.getrandbits(60))
        x = torch.randn((GROUP, *SHAPE), generator=noise).to(ranks.device)
        starts, ends = [], []
        for step in range(one.first):
            levels = LEVELS[step * PARTS : (step + 1) * PARTS + 1]
            starts.append(x)
            ends.append(guide.guided(x, text, blank, levels))
            x = ends[-1] if student is None else x + (levels[-1] - levels[0]) * student.velocity(x, levels[0], text)
        states = {"starts": torch.stack(starts, 1).half().cpu(), "ends": torch.stack(ends, 1).half().cpu()}
        save_file(states, file.with_suffix(".part"), {"captions": json.dumps(captions)})
        file.with_suffix(".part").rename(file)


class States:
    """What `write_states` wrote into some folders."""

    def __init__(self, folders: list[Path]) -> None:
        self.starts: list[Tensor] = []  # (first, 16, 5, 8, 8) of every clip
        self.ends: list[Tensor] = []
        self.captions: list[str] = []
        for file in (file for folder in folders for file in sorted(folder.glob("*.safetensors"))):
            with safe_open(file, "pt") as stored:
                self.starts += stored.get_tensor("starts")
                self.ends += stored.get_tensor("ends")
                self.captions += json.loads(stored.metadata()["captions"])
        self.clips = [[k for k, one in enumerate(self.starts) if len(one) > step] for step in range(STEPS)]

    def sample(self, size: int, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        """States, their levels (size,), the mean velocities from there, and captions; each level as often as the others."""
        rows = []
        for place in range(size):
            step = place % STEPS
            clip = rng.choice(self.clips[step])
            level, following = LEVELS[step * PARTS], LEVELS[(step + 1) * PARTS]
            start = self.starts[clip][step].float()
            rows.append((start, level, (start - self.ends[clip][step].float()) / (level - following), self.captions[clip]))
        states, levels, velocities, words = zip(*rows, strict=True)
        return torch.stack(states), torch.tensor(levels), torch.stack(velocities), list(words)


def train(folder: Path, out: Path, steps: int | None = None, seed: int = 0, size: int = 16, fast: bool = False) -> None:
    """Make all rounds in `folder`/four_steps and write the LoRA to `out`; `size` states a step and rank.

    `steps` is shared among the rounds as those of `ROUNDS` are.
    """
    ranks = Ranks.join()
    work = folder / "four_steps"
    found: list[Path] = []
    share = steps / sum(each.steps for each in ROUNDS) if steps else 1.0
    for index, one in enumerate(ROUNDS):
        states, file = work / f"states{index}", work / f"round{index}.safetensors"
        before = work / f"round{index - 1}.safetensors" if index else None
        guide = Walker.of(plain_transformer().to(ranks.device), fast)
        student = Walker.of(merge_lora(plain_transformer(), before).to(ranks.device), fast) if before else None
        write_states(states, one, guide, student, ranks, f"{seed} {index}")
        wait(ranks)
        found.append(states)
        _fit(work / f"training{index}", States(found), before, file, round(one.steps * share), ranks, seed, size, fast)
        wait(ranks)
    if ranks.rank == 0:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(file.read_bytes())


def _fit(
    folder: Path, states: States, before: Path | None, file: Path, steps: int, ranks: Ranks, seed: int, size: int, fast: bool
) -> None:
    """Train a LoRA on the states, from the one of the round before or from nothing, and write it to `file`."""
    torch.manual_seed(seed)
    model = add_lora(plain_transformer().to(ranks.device))
    if before:
        load_lora(model, before)
    walker = Walker.of(model, fast)
    teacher = Teacher(Path(tiny_path()), ranks.device)
    fit = Fit(model, folder, ranks, RATES, lambda name, weight: True, seed)

    def loss(step: int, rng: random.Random) -> Tensor:
        x, sigma, wanted, captions = states.sample(size, rng)
        text = teacher(captions)
        with walker.products():
            velocity = model(x.to(ranks.device), 1000 * sigma.to(ranks.device), text, return_dict=False)[0]
        return F.mse_loss(velocity, wanted.to(ranks.device))

    fit.run(loss, steps, lambda: save_lora(model, file, SUITS))
