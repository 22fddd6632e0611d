"""diffusers' own pipelines, asked for what our settings say: the oracle of the loop, of images, of Wan2.2 and of VACE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler

from wanlab.model import finding
from wanlab.model.model import Model
from wanlab.settings import ModelSettings, Settings


def unipc(shift: float) -> UniPCMultistepScheduler:
    """The scheduler that Wan's pipelines have, with this shift."""
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


def ask(pipe: Any, settings: Settings, output: str = "latent", **more: Any) -> Any:
    """What a pipeline makes of these settings, as latents or as frames ("np"); `more` is for the pipeline alone."""
    pipe.set_progress_bar_config(disable=True)
    asked = {
        "prompt": settings.prompt,
        "negative_prompt": settings.negative_prompt,
        "height": settings.height,
        "width": settings.width,
        "num_frames": settings.frames,
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.cfg,
        "generator": torch.Generator().manual_seed(settings.seed),
        "output_type": output,
    }
    return pipe(**asked | more).frames


def loaded(folder: Path, **how: Any) -> Model:
    """Our model of the checkpoint in a folder."""
    settings = ModelSettings().but({"model": str(folder), **how})
    return Model(settings, finding.find(settings))
