"""What the planner says against what is: `python benchmarks/what_fits.py [--quick]`.

Four tables: planned against published memory; the dry run of the real classes against the closed form, with the seconds it
took; planned memory of the tiny model against the bytes that torch holds; and calibrated seconds of the tiny model against
measured ones. Seconds are CPU seconds of this process, which has one thread, so that waiting for others does not count.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from wanlab.cost import activations, memory, parts, vae
from wanlab.cost.calibrate import calibrate, timed
from wanlab.cost.dry_run import Live, dry_run_transformer, dry_run_vae
from wanlab.cost.estimate import Configs, Request, estimate
from wanlab.cost.request import Pass
from wanlab.settings import ModelSettings, Settings
from wanlab.tiny import tiny_path
from wanlab.weights.registry import known

PUBLISHED = Path(__file__).parents[1] / "tests" / "published.json"
GB = 1e9
SIZES = ({}, {"frames": 33}, {"frames": 65}, {"width": 128, "height": 128}, {"frames": 33, "width": 96, "height": 96})


def published() -> None:
    """Planned against published peaks of other people's runs."""
    print(f"\n{'planned against published':66} {'plan GB':>8} {'publ. GB':>9} {'error':>7}")
    for row in json.loads(PUBLISHED.read_text(encoding="utf-8"))["peaks_gb"]:
        frames, height, width = row["size"]
        image = {"image": "0" * 32} if "I2V" in row["model"] else {}
        clip = Settings(frames=frames, height=height, width=width, **(image if "loader" in row else {}))
        how = ModelSettings(**{"load_device": "cuda", "base_precision": "bf16", **row.get("loader", {})})
        asked = Request(clip, how, Configs.of(known(row["model"])))
        if "loader" in row:
            planned = memory.stages(asked)[row["stage"]] / GB
        else:
            work = asked.work(Pass(clip.latent_frames))
            weights = parts.transformer(asked.configs.transformer, row["weights"]).whole
            more = row["residual"] * work.tokens * activations.width(asked.configs.transformer)
            planned = (weights + memory.denoising(asked) + more) / GB
        print(f"{row['source']} {row['what'][:64]:64} {planned:8.1f} {row['gb']:9.2f} {planned / row['gb'] - 1:+7.1%}")


def dry_runs() -> None:
    """The real classes on fake tensors against the closed form."""
    print(f"\n{'dry run against the closed form':44} {'dry GB':>8} {'form GB':>8} {'error':>7} {'TFLOP':>8} {'seconds':>8}")
    for name in ("Wan2.1-T2V-1.3B", "Wan2.1-T2V-14B"):
        for label, latents in (("480p", (21, 60, 104)), ("720p", (21, 90, 160))):
            began = time.process_time()
            found = dry_run_transformer(known(name).transformer, latents)
            spent = time.process_time() - began
            tokens = latents[0] * latents[1] * latents[2] // 4
            form = max(activations.forward(known(name).transformer, activations.Work(tokens)).values())
            shown(f"{name} {label}, a forward", found.peak, form, found.flops, spent)
    for way, precision in (("decode", "fp32"), ("decode", "bf16"), ("encode", "fp32")):
        began = time.process_time()
        found = dry_run_vae(known("Wan2.1-T2V-14B").vae, way, 81, 480, 832, precision)
        spent = time.process_time() - began
        form = getattr(vae, way)(known("Wan2.1-T2V-14B").vae, 81, 480, 832, parts.SIZES[precision]).peak
        shown(f"VAE 480p, {way} in {precision}", found.peak, form, found.flops, spent)


def shown(label: str, found: int, form: int, flops: float, spent: float) -> None:
    """One row of the dry runs."""
    print(f"{label:44} {found / GB:8.3f} {form / GB:8.3f} {form / found - 1:+7.2%} {flops / 1e12:8.1f} {spent:8.2f}")


def named(size: dict[str, int]) -> str:
    """A clip's size in words."""
    settings = Settings(**size)
    return f"{settings.frames} frames of {settings.width} x {settings.height}"


def tiny() -> tuple[Configs, Any, Any]:
    """The tiny model: configurations, transformer and VAE."""
    folder = Path(tiny_path())
    read = [json.loads((folder / part / "config.json").read_text()) for part in ("transformer", "vae", "text_encoder")]
    model = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32).eval()
    video = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval()
    return Configs(*read), model, video


def held(configs: Configs, model: Any, video: Any) -> None:
    """Planned memory of stages against the bytes that torch holds around the real modules."""
    print(f"\n{'tiny model, beside the weights':44} {'plan MB':>8} {'held MB':>8} {'error':>7}")
    for size in SIZES:
        settings = Settings(**size)
        asked = Request(settings, ModelSettings(), configs)
        latents = torch.randn(1, 16, settings.latent_frames, settings.height // 8, settings.width // 8)
        text = torch.randn(1, 512, configs.transformer["text_dim"])
        with torch.inference_mode(), Live([*model.parameters(), *model.buffers(), latents, text]) as live:
            model(latents, torch.full((1,), 500.0), text, return_dict=False)
        plan = memory.denoising(asked)
        print(f"{f'{named(size)}: a velocity':44} {plan / 1e6:8.2f} {live.peak / 1e6:8.2f} {plan / live.peak - 1:+7.1%}")
        with torch.inference_mode(), Live([*video.parameters(), latents]) as live:
            video.decode(latents, return_dict=False)
        plan = memory.decoding(asked) - 3 * latents.nbytes
        print(f"{f'{named(size)}: decoding':44} {plan / 1e6:8.2f} {live.peak / 1e6:8.2f} {plan / live.peak - 1:+7.1%}")


def seconds(configs: Configs, model: Any, video: Any) -> None:
    """Seconds predicted from one block against those of the whole model."""
    print(f"\n{'tiny model, calibrated against measured':44} {'plan s':>8} {'is s':>8} {'error':>7} {'took s':>8}")
    for size in SIZES:
        settings = Settings(**size)
        asked = Request(settings, ModelSettings(), configs)
        began = time.process_time()
        found = calibrate(asked, clock=time.process_time)
        spent = time.process_time() - began
        latents = torch.randn(1, 16, settings.latent_frames, settings.height // 8, settings.width // 8)
        given = latents, torch.full((1,), 500.0), torch.randn(1, 512, configs.transformer["text_dim"])
        with torch.inference_mode():
            forward = timed(lambda given=given: model(*given, return_dict=False), time.process_time, 1.0)
            decode = timed(lambda given=given: video.decode(given[0], return_dict=False), time.process_time, 1.0)
        planned = estimate(asked, found).seconds
        each = planned["denoise"] / sum(asked.calls.values())
        print(f"{f'{named(size)}: a forward':44} {each:8.4f} {forward:8.4f} {each / forward - 1:+7.1%} {spent:8.2f}")
        print(f"{f'{named(size)}: decoding':44} {planned['decode']:8.3f} {decode:8.3f} {planned['decode'] / decode - 1:+7.1%}")


def main() -> None:
    """All tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="without the tables that run the tiny model")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    published()
    dry_runs()
    if not quick:
        loaded = tiny()
        held(*loaded)
        seconds(*loaded)


if __name__ == "__main__":
    main()
