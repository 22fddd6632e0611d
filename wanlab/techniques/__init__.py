"""Techniques: changes to how velocities are predicted, one file each. The loop knows none of them by name.

What a technique is says technique.py. Here is the list of them, and how those that act on a step are put around the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from wanlab.guidance import cfg
from wanlab.model.condition import Given
from wanlab.settings import Settings
from wanlab.techniques.apg import Apg
from wanlab.techniques.cache import Cache
from wanlab.techniques.cfg_zero import CfgZero
from wanlab.techniques.feta import Feta
from wanlab.techniques.loop import Loop
from wanlab.techniques.nag import Nag
from wanlab.techniques.riflex import Riflex
from wanlab.techniques.slg import Slg
from wanlab.techniques.technique import BOTH, GUIDED, NEGATIVE, POSITIVE, Ask, Moment, Predict, Technique
from wanlab.techniques.windows import Context
from wanlab.windows import section

# By the name of the group of settings, from the inside out. Guidance combines the branches between INNER and OUTER.
INNER: Mapping[str, type[Technique]] = {
    "riflex": Riflex,
    "feta": Feta,
    "nag": Nag,
    "slg": Slg,
    "cache": Cache,
    "context": Context,
}
OUTER: Mapping[str, type[Technique]] = {"cfg_zero": CfgZero, "apg": Apg, "loop": Loop}
TECHNIQUES = {**INNER, **OUTER}


def predicted(moment: Moment, latents: Tensor, given: Given) -> Tensor:
    """The velocity of one step (1, 16, t, h, w), in the model's dtype, with all techniques that act on it."""
    acting = moment.settings.acting(moment.index)
    inner = [kind(acting[name], moment) for name, kind in INNER.items() if name in acting]
    outer = [kind(acting[name], moment) for name, kind in OUTER.items() if name in acting]
    predict = _call(moment, given)
    for technique in inner:
        predict = technique.around(predict)
    predict = _guided(moment, predict, outer)
    for technique in outer:
        predict = technique.around(predict)
    with contextlib.ExitStack() as attached:
        for technique in (*inner, *outer):
            attached.enter_context(technique.attach(moment.transformer))
        return predict(Ask(GUIDED, tuple(range(moment.settings.latent_frames))), latents)


def _call(moment: Moment, given: Given) -> Predict:
    """The innermost prediction: one pass of the model."""
    model, settings = moment.model, moment.settings

    def call(ask: Ask, latents: Tensor) -> Tensor:
        texts = texts_of(settings, moment.index, ask)
        text = torch.cat([model.encode(one) for one in texts])
        if len(texts) > 1:
            latents = latents.expand(len(texts), -1, -1, -1, -1)
        moment.ask = ask
        with moment.transformer.cache_context(f"{ask.branch}.{ask.frames[0]}"):
            velocity = model.velocity(latents, moment.timestep, text, **given.of(ask.condition or ask.frames, len(texts)))
        moment.ask = None
        return velocity

    return call


def texts_of(settings: Settings, step: int, ask: Ask) -> list[str]:
    """What the branches of a call read; of a prompt with sections, the one of its window."""
    prompt = settings.prompt
    if ask.window is not None and "|" in prompt:
        sections = settings.sections
        prompt = sections[section(list(ask.window), settings.latent_frames, len(sections))]
    texts = {POSITIVE: [prompt], NEGATIVE: [settings.negative_prompt], BOTH: [prompt, settings.negative_prompt]}
    return texts[ask.branch]


def _guided(moment: Moment, predict: Predict, outer: list[Technique]) -> Predict:
    """Guidance: asks for the branches, and combines them by the formula of a technique, or the plain one."""
    settings = moment.settings

    def guided(ask: Ask, latents: Tensor) -> Tensor:
        if settings.cfg == 1:
            return predict(ask.of(POSITIVE), latents)
        if settings.batched_cfg:
            positive, negative = predict(ask.of(BOTH), latents).chunk(2)
        else:
            positive, negative = predict(ask.of(POSITIVE), latents), predict(ask.of(NEGATIVE), latents)
        found = (technique.combine(positive, negative) for technique in outer)
        combined = next((velocity for velocity in found if velocity is not None), None)
        scale = cast(float, settings.cfg)  # a list has one value for each step
        return cfg(positive, negative, scale) if combined is None else combined

    return guided
