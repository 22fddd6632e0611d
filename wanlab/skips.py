"""Which calls of the model a cache skips, if that is known before the run, and what has to be known of the model. No torch.

Three kinds of cache skip by a rule that looks at no prediction: a call is skipped while the change since the last step on
which the same call was made is less than a threshold. What they take for the change is all they differ in:

- teacache (Liu et al. 2024, arXiv 2411.19108): the sum over the steps since then of p(d). d is the relative change of
  the embedded timestep, mean |e - e'| / mean |e'|, and p a polynomial that was fitted to what the predictions did. In Wan e
  depends on nothing but the timestep, so the skips are the same for all prompts and seeds. The last step is always computed.
- magcache (Ma et al. 2025, arXiv 2506.09045): the residual of the blocks shrinks from step to step in ratios that hardly
  depend on the prompt. With the ratios r of the steps since then it is the sum over these of |1 - r_1 ... r_j|. The authors'
  retention ratio, of steps that are never skipped, is cache.start_percent and one step: the first step that acts is computed.
- taylorseer (Liu et al. 2025, arXiv 2503.06923): the number of steps.

All branches of guidance follow the same rule. The ratios of MagCache are those of the positive one; the tables of its authors
differ between branches in the fourth digit, and all of their plans are equal for both.
"""

from __future__ import annotations

import bisect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache as cache_results
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from wanlab.errors import SettingsError
from wanlab.groups import CacheSettings
from wanlab.schedule import low_noise
from wanlab.settings import Settings
from wanlab.time_embedding import TimeEmbedding

LATENTS = (16, 8)  # channels of Wan's latents, and the pixels of a latent cell in a row
TABLES = Path(__file__).with_name("cache_tables.json")


@dataclass(frozen=True)
class Facts:
    """What planning has to know of a model, without its weights in memory.

    `caches` are the constants of its caches: {"teacache": {"polynomial": [...], "threshold": t}, "magcache": {"ratios": [...],
    "threshold": t, "max_skip": n}}, the polynomial highest power first; without those that are unknown.
    """

    id: str
    image_to_video: bool = False
    caches: Mapping[str, Any] = field(default_factory=dict, compare=False)
    read: Callable[[], TimeEmbedding] | None = field(default=None, compare=False)
    config: Mapping[str, Any] = field(default_factory=dict, compare=False)  # the transformer's, for the arithmetic of a pass
    boundary: float = 0.0  # the timestep below which a second transformer predicts
    form: tuple[int, int] = LATENTS  # channels of latents, and the pixels of a latent cell in a row

    @cached_property
    def time_embedding(self) -> TimeEmbedding | None:
        """How the model embeds its timesteps, read from the files when it is first needed; None for a model without files."""
        return self.read() if self.read else None

    @classmethod
    def of(
        cls,
        id: str,
        name: str,
        transformer: Mapping[str, Any],
        beside: Path | None = None,
        read: Callable[[], TimeEmbedding] | None = None,
        boundary: float = 0.0,
    ) -> Facts:
        """The facts of the model of this name, whose transformer has this configuration; its own constants lie `beside` it.

        None are known of two transformers: those of Wan2.1, which have the same shape, are of other weights.
        """
        return cls(
            id=id,
            image_to_video=transformer["in_channels"] == 36,
            caches={} if boundary else _constants(beside, name, transformer),
            read=read,
            config=transformer,
            boundary=boundary,
        )


def _constants(beside: Path | None, name: str, transformer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The constants of the caches: the model's own, else the published ones of a transformer of this shape."""
    own = beside / "caches.json" if beside else None
    if own and own.exists():
        return dict(json.loads(own.read_text(encoding="utf-8")))
    shape = {name: transformer[name] for name in ("num_attention_heads", "num_layers", "in_channels")}
    fitting = [one for one in json.loads(TABLES.read_text(encoding="utf-8"))["models"] if one["shape"] == shape]
    # The two image-to-video models have one shape; their names tell them apart.
    named = [one for one in fitting if one["named"] and one["named"] in name.lower()]
    return dict((named or fitting)[0]["caches"]) if fitting else {}


@dataclass(frozen=True)
class Rule:
    """Skip while the change since the last computed step is less than a threshold, which 0 never is.

    `change(last, step)` is how much changes from one step of the run to a later one: more for a later `step`, less for a later
    `last`. `seen` is of how many computed steps a skipped one is made.
    """

    change: Callable[[int, int], float]
    threshold: float
    seen: int = 1

    def may_skip(self, last: int, step: int) -> bool:
        """Whether the call of this step may be answered by what was computed at step `last`."""
        return self.change(last, step) < self.threshold


def rule_of(settings: Settings, facts: Facts) -> Rule | None:
    """The rule by which the cache of these settings skips; None if it is decided on the way (easycache, firstblock).

    Raises SettingsError if the kind needs what is not known of the model, or if cache.speed_up cannot be reached.
    """
    cache = settings.cache
    if cache is None or cache.kind in ("easycache", "firstblock"):
        return None
    if cache.kind == "taylorseer":
        change, threshold = _steps(settings, cache), float(cache.interval)
    else:
        known = _known(cache, facts)
        change = (_teacache if cache.kind == "teacache" else _magcache)(settings, cache, facts, known)
        threshold = known["threshold"] if cache.threshold is None else cache.threshold
    if facts.boundary:
        change = _of_one_transformer(settings, facts.boundary, change)
    if cache.speed_up is not None:
        threshold = _solved(settings, cache, change)
    return Rule(change, threshold, 2 if cache.kind == "taylorseer" else 1)


def _known(cache: CacheSettings, facts: Facts) -> Mapping[str, Any]:
    known = facts.caches.get(cache.kind)
    if known is None or (cache.kind == "teacache" and facts.time_embedding is None):
        raise SettingsError(
            f"cache.kind is {cache.kind!r}; its constants are not known for this model. Take easycache, firstblock or "
            "taylorseer, which need none."
        )
    return dict(known)


def _teacache(settings: Settings, cache: CacheSettings, facts: Facts, known: Mapping[str, Any]) -> Callable[[int, int], float]:
    assert facts.time_embedding is not None
    changes = np.polyval(known["polynomial"], facts.time_embedding.changes(settings.grid.timesteps))
    sums = [0.0, *accumulate(changes.tolist())]
    always = settings.steps - 1 - settings.first_step

    def change(last: int, step: int) -> float:
        return math.inf if step == always else sums[step] - sums[last]

    return change


def _magcache(settings: Settings, cache: CacheSettings, facts: Facts, known: Mapping[str, Any]) -> Callable[[int, int], float]:
    ratios, most = known["ratios"], cache.max_skip or known["max_skip"]
    # The nearest of the table's steps, for each step of the whole schedule.
    nearest = np.round(np.linspace(0, len(ratios) - 1, settings.steps)).astype(int) if settings.steps > 1 else [-1]
    stretched = [ratios[place] for place in nearest][settings.first_step :]

    def change(last: int, step: int) -> float:
        if step - last > most:
            return math.inf
        return sum(abs(1 - ratio) for ratio in accumulate(stretched[last + 1 : step + 1], lambda a, b: a * b))

    return change


def _steps(settings: Settings, cache: CacheSettings) -> Callable[[int, int], float]:
    def change(last: int, step: int) -> float:
        return math.inf if cache.warms_up(step, settings) else step - last

    return change


def _of_one_transformer(
    settings: Settings, boundary: float, change: Callable[[int, int], float]
) -> Callable[[int, int], float]:
    """The change, and infinity from a step of one transformer to one of the other: what one predicted is not used by both."""
    low = low_noise(settings.grid.timesteps, boundary)
    return lambda last, step: math.inf if low[last] != low[step] else change(last, step)


def computed(settings: Settings, cache: CacheSettings, rule: Rule) -> list[int]:
    """The steps of the calls that are made, for one branch of guidance: of a step with context windows, one for each window."""
    steps: list[int] = []
    last: dict[tuple[int, ...], int] = {}
    for step, windows in enumerate(_windows(settings)):
        if not cache.acts(step, settings):
            last.clear()
            steps += [step] * len(windows)
            continue
        for window in windows:
            if not (window in last and rule.may_skip(last[window], step)):
                last[window] = step
                steps.append(step)
    return steps


def _windows(settings: Settings) -> list[list[tuple[int, ...]]]:
    """The context windows of every step; without them one, which has no frames."""
    context = settings.context
    if context is None or not context.acts(0, settings):
        return [[()]] * len(settings.grid)
    return [[tuple(window) for window in context.windows(step, settings)] for step in range(len(settings.grid))]


def _solved(settings: Settings, cache: CacheSettings, change: Callable[[int, int], float]) -> float:
    """The smallest threshold with which the number of calls that are made comes nearest to what cache.speed_up asks for."""
    assert cache.speed_up is not None
    steps, calls = len(settings.grid), sum(map(len, _windows(settings)))
    wanted = calls / cache.speed_up

    @cache_results
    def count(threshold: float) -> int:
        return len(computed(settings, cache, Rule(change, threshold)))

    # The count only changes where the threshold passes the change between two steps, and falls with it.
    acting = [step for step in range(steps) if cache.acts(step, settings)]
    changes = {change(last, step) for at, step in enumerate(acting) for last in acting[:at]} - {math.inf}
    thresholds = [0.0, *(math.nextafter(one, math.inf) for one in sorted(changes) if one >= 0)]
    least = count(thresholds[-1])
    if wanted < least - 0.5 * calls / steps:
        still = settings.context is None or settings.context.schedule in ("static_standard", "batched")
        ways = ["lower cache.start_percent", *["raise cache.max_skip"] * (cache.kind == "magcache")]
        ways += ["make more steps"] if still else ["take windows that stay in their place (context.schedule)"]
        raise SettingsError(
            f"cache.speed_up is {cache.speed_up:g}; with these settings at most {math.floor(100 * calls / least) / 100:g} can "
            f"be reached: {least} of {calls} calls are made whatever the threshold. To reach more, {' or '.join(ways)}."
        )
    fewer = bisect.bisect_left(thresholds, -wanted, key=lambda threshold: -count(threshold))  # the first with at most so many
    nearest = min(thresholds[max(fewer - 1, 0) : fewer + 1], key=lambda threshold: abs(count(threshold) - wanted))
    return thresholds[bisect.bisect_left(thresholds, -count(nearest), key=lambda threshold: -count(threshold))]
