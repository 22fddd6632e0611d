"""The outline of a run: which calls of the model each of its steps makes, known before it starts. No torch.

The loop and the plan read the same outline, so what is planned is what is done. A call is one pass of the transformer for one
branch of guidance over some latent frames: all of them, or those of a context window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from wanlab.groups import CacheSettings
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

    def begins(self, technique: str, step: int) -> int:
        """The first step of the stretch of steps, up to this one, on which a technique acts without a gap."""
        first = step
        while first and technique in self.timeline.at(first - 1).acting(first - 1):
            first -= 1
        return first

    @cached_property
    def rules(self) -> tuple[Rule | None, ...]:
        """For each step the rule by which the cache skips; None where there is none, or it is not known beforehand."""
        return tuple(self._rule(step) for step in range(len(self)))

    def _rule(self, step: int) -> Rule | None:
        settings = self.timeline.at(step)
        if "cache" not in settings.acting(step) or settings.cache is None:
            return None
        asked = (settings.cache, self.begins("cache", step))
        if asked not in self._notes:
            self._notes[asked] = rule_of(settings, self.facts)
        return self._notes[asked]

    @cached_property
    def calls(self) -> tuple[tuple[Call, ...], ...]:
        """The calls of every step, with what the caches skip."""
        made: list[tuple[Call, ...]] = []
        last: dict[Key, int] = {}
        for step in range(len(self)):
            settings = self.timeline.at(step)
            plain = calls_of(settings, step)
            if "cache" not in settings.acting(step):
                last.clear()
                made.append(plain)
                continue
            rule, done = self.rules[step], []
            for call in plain:
                key = (call.branch, call.frames)
                skipped = None if key in last else False
                if rule is not None:
                    skipped = key in last and rule.may_skip(last[key], step)
                if not skipped:
                    last[key] = step
                done.append(Call(*key, skipped))
            made.append(tuple(done))
        return tuple(made)

    @property
    def known(self) -> bool:
        """Whether all calls are known before the run: no cache decides on the way."""
        return all(call.skipped is not None for calls in self.calls for call in calls)

    def needed(self, missing: Sequence[bool]) -> tuple[bool, ...]:
        """Which steps have to be computed, given those that are missing in the store.

        Beside these it is the steps before them on which a technique that remembers has to see what the model predicts.
        """
        needed = list(missing)
        for step in reversed(range(len(self))):
            if needed[step]:
                for before in range(self._sees(step), step):
                    needed[before] = True
        return tuple(needed)

    def _sees(self, step: int) -> int:
        """The first step whose prediction is remembered when this step is computed."""
        first = step
        for name, group in self.timeline.at(step).acting(step).items():
            if not group.remembers():
                continue
            if name != "cache" or self.rules[step] is None:
                first = min(first, self.begins(name, step))
            else:
                first = min([first, *(self._computed(call, step) for call in self.calls[step] if call.skipped)])
        return first

    def _computed(self, skipped: Call, step: int) -> int:
        """The first of the steps of this stretch of whose predictions a skipped call is made."""
        rule, made = self.rules[step], Call(skipped.branch, skipped.frames, False)
        stretch = range(self.begins("cache", step), step)
        computed = [before for before in stretch if made in self.calls[before]]
        return computed[-min(len(computed), rule.seen if rule else 1)]


def work(frames: int, settings: Settings, facts: Facts) -> float:
    """Arithmetic of one pass over so many latent frames, in multiply-adds (of a model that is not known, in tokens).

    A block multiplies every token with its matrices and lets it attend to all tokens and to 512 text tokens.
    """
    tokens = frames * (settings.height // 16) * (settings.width // 16)
    config = facts.config
    if not config:
        return float(tokens)
    dim = config["num_attention_heads"] * config["attention_head_dim"]
    a_token = 6 * dim * dim + 2 * dim * config["ffn_dim"] + 2 * dim * (tokens + TEXT_TOKENS)
    return float(config["num_layers"] * (tokens * a_token + 2 * TEXT_TOKENS * dim * dim))
