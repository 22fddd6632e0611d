"""Judge the tiny Wan on combinations that training never saw: `python -m wanlab.tiny.evaluate`.

Every held-out combination is generated once from its canonical caption (the seed is its index), and the independent
judge of detector.py says what the clip shows. Two rows in the table tell how far to trust the numbers: the judge's own
score on true clips of the same scenes, and on these after the VAE has encoded and decoded them, which is about the best
that the transformer can reach.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wanlab.settings import Settings
from wanlab.tiny import clips, vae
from wanlab.tiny.detector import Seen, detect
from wanlab.tiny.image_to_video import KINDS
from wanlab.tiny.motion import FEWEST_FRAMES

Frames = NDArray[np.uint8]  # (t, h, w, 3)
Generate = Callable[[list[str], list[int]], list[Frames]]  # captions and seeds to clips

ATTRIBUTES = ("shape", "color", "background", "motion")
ALL = "all"
BATCH = 16
VAE_CLIPS = 48  # these take a second each


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of `right` in `count` (Wilson 1927, JASA 22); NaN for none.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    if not count:
        return math.nan, math.nan
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    reach = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(frozen=True)
class Score:
    """What clips were meant to show and what the judge sees in them, one by one."""

    scenes: tuple[clips.Scene, ...]
    seen: tuple[Seen, ...]
    attributes: tuple[str, ...] = ATTRIBUTES  # what is judged: of single frames, no motion

    def right(self, attribute: str) -> list[bool]:
        """For each clip whether this attribute (or `ALL`) is as asked."""
        asked = self.attributes if attribute == ALL else (attribute,)
        return [
            all(getattr(scene, one) == getattr(seen, one) for one in asked)
            for scene, seen in zip(self.scenes, self.seen, strict=True)
        ]

    def share(self, attribute: str = ALL) -> float:
        """The share of clips with this attribute right; NaN if there are none."""
        right = self.right(attribute)
        return sum(right) / len(right) if right else math.nan

    def where(self, attribute: str, word: str) -> Score:
        """The clips that were meant to have this word."""
        kept = [k for k, scene in enumerate(self.scenes) if getattr(scene, attribute) == word]
        return Score(tuple(self.scenes[k] for k in kept), tuple(self.seen[k] for k in kept), self.attributes)

    def confusions(self, attribute: str) -> Counter[tuple[str, str | None]]:
        """How often (asked, seen) differ; seen is None where the judge finds nothing clear."""
        pairs = zip(self.scenes, self.seen, strict=True)
        both = ((getattr(scene, attribute), getattr(seen, attribute)) for scene, seen in pairs)
        return Counter(pair for pair in both if pair[0] != pair[1])


def score(scenes: Sequence[clips.Scene], made: Sequence[Frames]) -> Score:
    """Judge clips, one of each scene."""
    if len(scenes) != len(made):
        raise ValueError(f"{len(scenes)} scenes and {len(made)} clips; there must be one clip of each scene.")
    moving = all(len(frames) >= FEWEST_FRAMES for frames in made)
    judged = ATTRIBUTES if moving else tuple(name for name in ATTRIBUTES if name != "motion")
    return Score(tuple(scenes), tuple(detect(frames) for frames in made), judged)


# --- clips -------------------------------------------------------------------------------------------------------------


def spread(whole: int, count: int) -> list[int]:
    """`count` indices, evenly spread over 0..whole-1."""
    if not 1 <= count <= whole:
        raise ValueError(f"count is {count}; it must be from 1 to {whole}.")
    return [k * whole // count for k in range(count)]


def true_clips(scenes: Sequence[clips.Scene], frames: int) -> list[Frames]:
    """A rendered clip of each scene, of the kind that the transformer is trained on."""
    return [
        clips.to_frames(clips.random_clip(scene, frames, vae.SIDE, random.Random(seed), lattice=True)).numpy()
        for seed, scene in enumerate(scenes)
    ]


@torch.inference_mode()
def through_vae(autoencoder: AutoencoderKLWan, made: Sequence[Frames]) -> list[Frames]:
    """Clips as they come out of the VAE."""
    found = []
    for frames in made:
        clip = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1  # (1, 3, t, h, w)
        found.append(clips.to_frames(vae.decode(autoencoder, vae.encode(autoencoder, clip)[:, :16])[0]).numpy())
    return found


def folder_clips(folder: Path, steps: int, cfg: float, frames: int) -> Generate:
    """Clips of the newest transformer of a training folder, by Euler steps."""
    from wanlab.tiny.transformer import quick_clips

    def generate(captions: list[str], seeds: list[int]) -> list[Frames]:
        return [clips.to_frames(clip).numpy() for clip in quick_clips(folder, captions, seeds, frames, cfg, steps)]

    return generate


def lab_clips(model: str, loras: Sequence[str], store: str, **settings: Any) -> Generate:
    """Clips of a model with its LoRAs, made with these settings by a lab in the folder `store`."""
    from wanlab.lab import Lab

    lab = Lab(store, model=model, loras=loras)

    def generate(captions: list[str], seeds: list[int]) -> list[Frames]:
        unsaved = {"clip.save_output": False}
        runs = (lab.run(caption, unsaved, seed=seed, **settings) for caption, seed in zip(captions, seeds, strict=True))
        return [run.clip.frames for run in runs]

    return generate


# --- what is shown -----------------------------------------------------------------------------------------------------


def _cell(one: Score, column: str) -> str:
    if column not in (*one.attributes, ALL):
        return ""
    right = one.right(column)
    low, high = wilson(sum(right), len(right))
    return f"{sum(right) / len(right):.2f} ({low:.2f} to {high:.2f})"


def table(scores: dict[str, Score]) -> str:
    """Markdown: a row for each of the named scores, shares with their 95 % intervals."""
    columns = (*ATTRIBUTES, ALL)
    lines = ["| clips | n | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for name, one in scores.items():
        lines.append(f"| {name} | {len(one.seen)} | " + " | ".join(_cell(one, column) for column in columns) + " |")
    return "\n".join(lines)


def details(one: Score) -> str:
    """Markdown: the shares for every shape and every motion, and what was taken for what."""
    lines = []
    for attribute, words in (("shape", clips.SHAPES), ("motion", tuple(clips.MOTIONS))):
        shown = (attribute, ALL) if attribute in one.attributes else (ALL,)
        lines += [
            f"| {attribute} | n | " + " | ".join(f"{name} right" for name in shown) + " |",
            "|---|---|" + "---|" * len(shown),
        ]
        for word in words:
            part = one.where(attribute, word)
            if part.seen:
                cells = " | ".join(f"{part.share(name):.2f}" for name in shown)
                lines.append(f"| {word} | {len(part.seen)} | {cells} |")
        lines.append("")
    for attribute in one.attributes:
        wrong = (f"{asked} as {seen or 'nothing clear'} {n}" for (asked, seen), n in one.confusions(attribute).most_common(12))
        lines.append(f"{attribute} taken: {', '.join(wrong) or 'all right'}")
    return "\n".join(lines)


def as_json(one: Score) -> dict[str, Any]:
    """The score as JSON: shares, their intervals, and every clip."""
    shares = {}
    for column in (*one.attributes, ALL):
        right = one.right(column)
        low, high = wilson(sum(right), len(right))
        shares[column] = {"right": sum(right), "count": len(right), "share": sum(right) / len(right), "low": low, "high": high}
    rows = [
        {
            "caption": clips.caption(scene),
            "seen": {name: getattr(seen, name) for name in one.attributes},
            "confidence": seen.confidence,
        }
        for scene, seen in zip(one.scenes, one.seen, strict=True)
    ]
    return {"shares": shares, "clips": rows}


def sheet(one: Score, made: Sequence[Frames], stills: int = 6, columns: int = 2) -> Image.Image:
    """A contact sheet: some stills of every clip, its caption, and in red what the judge sees otherwise."""
    height, width = made[0].shape[1:3]
    wide, tall = max(stills * width, 440) + 8, height + 32
    page = Image.new("RGB", (columns * wide, math.ceil(len(made) / columns) * tall), "white")
    draw = ImageDraw.Draw(page)
    for k, (scene, seen, frames) in enumerate(zip(one.scenes, one.seen, made, strict=True)):
        x, y = k % columns * wide, k // columns * tall
        times = np.linspace(0, len(frames) - 1, stills).round().astype(int)
        wrong = [f"{name}: {getattr(seen, name)}" for name in one.attributes if getattr(seen, name) != getattr(scene, name)]
        draw.rectangle((x, y + 27, x + stills * width + 1, y + 28 + height), "red" if wrong else "green")
        page.paste(Image.fromarray(np.concatenate(list(frames[times]), axis=1)), (x + 1, y + 28))
        draw.text((x + 2, y), clips.caption(scene), "black")
        draw.text((x + 2, y + 13), ", ".join(wrong) or "right", "red" if wrong else "green")
    return page


# --- the command -------------------------------------------------------------------------------------------------------


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m wanlab.tiny.evaluate", description=__doc__)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--model", default="tiny", help="tiny (with --image its I2V form), or a folder in diffusers' format")
    source.add_argument("--folder", type=Path, help="a training folder: its newest transformer, many clips at a time")
    parser.add_argument("--count", type=int, default=None, help="how many of the held-out combinations (default: all)")
    parser.add_argument("--steps", type=int, default=Settings().steps)
    parser.add_argument("--cfg", type=float, default=Settings().cfg)
    parser.add_argument("--frames", type=int, default=Settings().frames)
    parser.add_argument("--solver", default=Settings().solver, help="not with --folder, whose clips are made by Euler steps")
    parser.add_argument("--lora", nargs="+", default=[], help="not with --folder: LoRAs of the model, FILE or FILE:STRENGTH")
    parser.add_argument("--image", action="store_true", help="animate pictures with the image-to-video model")
    parser.add_argument(
        "--known", nargs="+", choices=KINDS, default=KINDS, help="with --image: which frames are given (default: each in turn)"
    )
    parser.add_argument("--stills", type=int, default=0, help="with --image: so many still pictures, each with every motion")
    parser.add_argument("--json", type=Path, help="write all results here too")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the clips here (png)")
    return parser.parse_args()


def _autoencoder(folder: Path | None, model: str) -> AutoencoderKLWan:
    if folder is not None:
        return AutoencoderKLWan.from_pretrained(folder / "vae").float()
    from wanlab.model.finding import find

    return AutoencoderKLWan.from_pretrained(find(model).parts["vae"]).float()


def main() -> int:
    """Read the command line, generate, judge and print."""
    options = _options()
    if options.image:
        from wanlab.tiny import evaluate_image

        return evaluate_image.main(options)
    every = clips.scenes(held_out=True)
    seeds = spread(len(every), len(every) if options.count is None else options.count)
    scenes = [every[seed] for seed in seeds]
    captions = [clips.caption(scene) for scene in scenes]
    autoencoder = _autoencoder(options.folder, options.model)
    made: list[Frames] = []
    with tempfile.TemporaryDirectory() as store:
        if options.folder:
            generate = folder_clips(options.folder, options.steps, options.cfg, options.frames)
        else:
            asked = {name: getattr(options, name) for name in ("steps", "cfg", "frames", "solver")}
            generate = lab_clips(options.model, options.lora, store, **asked)
        begin = time.perf_counter()
        for first in range(0, len(scenes), BATCH):
            made += generate(captions[first : first + BATCH], seeds[first : first + BATCH])
        seconds = (time.perf_counter() - begin) / len(scenes)
    result = score(scenes, made)
    true = true_clips(scenes, options.frames)
    some = spread(len(scenes), min(VAE_CLIPS, len(scenes)))
    decoded = score([scenes[k] for k in some], through_vae(autoencoder, [true[k] for k in some]))
    scores = {"generated": result, "true": score(scenes, true), "true, through the VAE": decoded}
    psnr = vae.held_out_psnr(autoencoder)
    model = " with ".join([str(options.folder or options.model), *options.lora])
    title = f"{model}: {options.frames} frames, {options.steps} steps, cfg {options.cfg:g}"
    print(f"{title}\n\n{table(scores)}\n\n{details(result)}\n")
    print(f"VAE on held-out clips: {psnr:.2f} dB. Generation: {seconds:.2f} seconds a clip.")
    if options.json:
        facts = {"asked": title, "vae_psnr_db": psnr, "seconds_per_clip": seconds}
        facts |= {name: as_json(one) for name, one in scores.items()}
        options.json.write_text(json.dumps(facts, indent=1))
    if options.sheet:
        sheet(result, made).save(options.sheet)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
