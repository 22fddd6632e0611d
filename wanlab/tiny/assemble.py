"""Put the trained parts together into the shipped folder, in diffusers' format and float16, and fit the preview map."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from wanlab.latents import Preview
from wanlab.tiny import clips, tiny_path, vision
from wanlab.tiny.vae import SIDE, encode


def assemble(folder: Path, out: Path) -> None:
    """Write `out` from the training folder: a WanPipeline, and preview.safetensors."""
    scale = json.loads((folder / "scale.json").read_text())
    vae = AutoencoderKLWan.from_pretrained(folder / "vae")
    vae.register_to_config(**scale)
    pipeline = WanPipeline(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder"),
        transformer=WanTransformer3DModel.from_pretrained(folder / "transformer"),
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
        ),
    )
    shutil.rmtree(out, ignore_errors=True)
    pipeline.to(torch.float16).save_pretrained(out)
    _forget_origins(out)
    fit_preview(AutoencoderKLWan.from_pretrained(out / "vae", dtype=torch.float32)).save(out / "preview.safetensors")


def assemble_image(folder: Path, out: Path) -> None:
    """Write `out` from the training folder and the shipped text-to-video folder: a WanImageToVideoPipeline.

    VAE, text encoder, tokenizer, scheduler and preview are the very files of the text-to-video model.
    """
    shared = WanPipeline.from_pretrained(tiny_path(), dtype=torch.float16)
    parts = dict(
        transformer=WanTransformer3DModel.from_pretrained(folder / "transformer", dtype=torch.float16),
        image_encoder=CLIPVisionModel.from_pretrained(folder / "image_encoder", dtype=torch.float16),
        image_processor=vision.new_processor(),
    )
    same = {name: getattr(shared, name) for name in ("tokenizer", "text_encoder", "vae", "scheduler")}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, part in parts.items():
        part.save_pretrained(out / name)
    for name in same:
        shutil.copytree(Path(tiny_path()) / name, out / name)
    shutil.copy(Path(tiny_path()) / "preview.safetensors", out)
    WanImageToVideoPipeline(**same, **parts).save_config(out)
    _rename_processor(out)
    _forget_origins(out)


def _rename_processor(out: Path) -> None:
    """Without torchvision the image processor has another name, which only such an installation knows."""
    for file in (out / "model_index.json", out / "image_processor" / "preprocessor_config.json"):
        file.write_text(file.read_text().replace("CLIPImageProcessorPil", "CLIPImageProcessor"))


def _forget_origins(out: Path) -> None:
    """Where the parts lay while they were trained is nobody's business."""
    for file in out.glob("*/config.json"):
        config = json.loads(file.read_text())
        if config.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(config, indent=2) + "\n")


@torch.inference_mode()
def fit_preview(vae: AutoencoderKLWan, count: int = 192, seed: int = 0) -> Preview:
    """The linear preview map, fitted on training clips of 9 frames and their latents."""
    rng = random.Random(seed)
    pixels = torch.stack([clips.random_clip(clips.random_scene(rng), 9, SIDE, rng) for _ in range(count)])
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    latents = torch.cat([(encode(vae, clip[None])[:, :16] - mean) / std for clip in pixels])
    return Preview.fit(latents, torch.stack([clips.to_frames(clip) for clip in pixels]).numpy())
