"""The outline of a run: which calls of the model each of its steps makes, known before it starts. No torch.

The loop and the plan read the same outline, so what is planned is what is done. A call is one pass of the transformer for one
branch of guidance over some latent frames: all of them, or those of a context window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from wanlab.groups import CacheSettings
from wanlab.schedule import low_noise
from wanlab.settings import Settings
from wanlab.skips import Facts, Rule, rule_of
from wanlab.timeline import Timeline

POSITIVE, NEGATIVE, BOTH = "positive", "negative", "both"
TEXT_TOKENS = 512  # to which every prompt is padded
Key = tuple[str, tuple[int, ...]]  # the branch and the latent frames of a call


@dataclass(frozen=True)
class Call:
    """A pass of the transformer: a branch ("positive", "negative", or "both" in one pass) over some latent frames.

    `skipped` says that a cache answers instead of the model; None, that this is decided on the way.
    """

    branch: str
    frames: tuple[int, ...]
    skipped: bool | None = False


def calls_of(settings: Settings, step: int) -> tuple[Call, ...]:
    """The calls of a step with these settings in force, without caches."""
    if settings.cfg_zero and settings.cfg_zero.zero(step, settings):
        return ()
    branches = (POSITIVE,) if settings.cfg == 1 else (BOTH,) if settings.batched_cfg else (POSITIVE, NEGATIVE)
    whole = tuple(range(settings.latent_frames))
    context = settings.context if "context" in settings.acting(step) else None
    windows = [whole] if context is None else [tuple(one) for one in context.windows(step, settings)]
    return tuple(Call(branch, frames) for branch in branches for frames in windows)


@dataclass(frozen=True)
class Outline:
    """The calls of all steps of a run of a model, and which steps have to be computed together."""

    timeline: Timeline
    facts: Facts
    _notes: dict[tuple[CacheSettings, int], Rule | None] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.timeline)

    @cached_property
    def _begins(self) -> tuple[dict[str, int], ...]:
        """For each step, of each technique that acts on it, where the stretch of steps began on which it does."""
        found: list[dict[str, int]] = []
        for step in range(len(self)):
            before = found[-1] if found and not self._changes[step] else {}
            found.append({name: before.get(name, step) for name in self.timeline.at(step).acting(step)})
        return tuple(found)

    def begins(self, technique: str, step: int) -> int:
        """The first step of the stretch of steps, up to this one, on which a technique acts without a gap.

        Of a model with two transformers a stretch ends where the second one takes over.
        """
        return self._begins[step][technique]

    @cached_property
    def _changes(self) -> tuple[bool, ...]:
        """For each step whether another transformer predicts on it than on the one before."""
        low = low_noise(self.timeline.settings.grid.timesteps, self.facts.boundary).tolist()
        return (False, *(one != other for one, other in pairwise(low)))

    @cached_property
    def rules(self) -> tuple[Rule | None, ...]:
        """For each step the rule by which the cache skips; None where there is none, or it is not known beforehand."""
        return tuple(self._rule(step) for step in range(len(self)))

    def _rule(self, step: int) -> Rule | None:
        settings = self.timeline.at(step)
        if settings.cache is None or "cache" not in self._begins[step]:
            return None
        asked = (settings.cache, self.begins("cache", step))
        if asked not in self._notes:
            self._notes[asked] = rule_of(settings, self.facts)
        return self._notes[asked]

    @property
    def calls(self) -> tuple[tuple[Call, ...], ...]:
        """The calls of every step, with what the caches skip."""
        return self._followed[0]

    @cached_property
    def _followed(self) -> tuple[tuple[tuple[Call, ...], ...], tuple[frozenset[int], ...]]:
        """The calls of every step, and the steps whose predictions its skipped calls are made of."""
        made, sources = [], []
        computed: dict[Key, tuple[int, ...]] = {}  # the last steps on which a call was computed
        for step in range(len(self)):
            rule, source, done = self.rules[step], set[int](), []
            if "cache" not in self._begins[step] or self._changes[step]:
                computed.clear()
            for call in calls_of(self.timeline.at(step), step):
                key = (call.branch, call.frames)
                last = computed.get(key, ())
                skipped: bool | None = None if last else False
                if rule is not None:
                    skipped = bool(last) and rule.may_skip(last[-1], step)
                if "cache" not in self._begins[step]:
                    skipped = False
                elif skipped:
                    source.update(last)
                else:
                    computed[key] = (*last, step)[-(rule.seen if rule else 1) :]
                done.append(Call(*key, skipped))
            made.append(tuple(done))
            sources.append(frozenset(source))
        return tuple(made), tuple(sources)

    def needed(self, missing: Sequence[bool]) -> tuple[bool, ...]:
        """Which steps have to be computed, given those that are missing in the store.

        Beside these it is the steps before them that a technique remembers: for a cache whose rule is known those of which
        the skipped calls are made, for others the whole stretch on which it acts.
        """
        needed = list(missing)
        for step in reversed(range(len(self))):
            if needed[step]:
                for before in self._sees(step):
                    needed[before] = True
        return tuple(needed)

    def _sees(self, step: int) -> set[int]:
        """The steps before this one whose predictions are remembered when it is computed."""
        seen: set[int] = set()
        for name, group in self.timeline.at(step).acting(step).items():
            if group.remembers():
                known = name == "cache" and self.rules[step] is not None
                seen.update(self._followed[1][step] if known else range(self.begins(name, step), step))
        return seen


def work(frames: int, settings: Settings, facts: Facts) -> float:
    """Arithmetic of one pass over so many latent frames, in multiply-adds (of a model that is not known, in tokens).

    A block multiplies every token with its matrices and lets it attend to all tokens and to 512 text tokens.
    """
    patch = 2 * facts.form[1]  # a token is 2 x 2 latent cells
    tokens = frames * (settings.height // patch) * (settings.width // patch)
    config = facts.config
    if not config:
        return float(tokens)
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    a_token = 6 * dim * dim + 2 * dim * config["ffn_dim"] + 2 * dim * (tokens + TEXT_TOKENS)
    return float(config["num_layers"] * (tokens * a_token + 2 * TEXT_TOKENS * dim * dim))
