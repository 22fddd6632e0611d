"""What helps clips longer than the model knows: `python benchmarks/long_clips.py`, on the tiny model as declared.

The tiny Wan was trained on 17 and 33 frames. Held-out prompts are made with every technique, each step computed, and every
stretch of 17 frames (one begins every 8 frames) goes to the judge of wanlab/tiny/detector.py; it is right if shape, colour,
background and motion are as asked. Grow and shrink are left out: nothing grows for 129 frames. The seed is the prompt's index
among all that are held out.

- flicker: the mean difference from frame to frame, in levels of 0 to 255; motion is in it too.
- seam: the mean difference of the last and the first frame, over the flicker. A clip that repeats has about 1.
- seconds: of the processor, on one thread, with decoding, so that other work on the machine hardly counts.

`--gallery` also writes a contact sheet for each length into docs/images, from the clips of one prompt.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wanlab.lab import Lab
from wanlab.run import Run
from wanlab.tiny.clips import Scene, caption, scenes
from wanlab.tiny.detector import detect
from wanlab.tiny.evaluate import ATTRIBUTES, spread

IMAGES = Path(__file__).parents[1] / "docs" / "images"
STRETCH, STRIDE = 17, 8  # frames
LENGTHS = (65, 129)
GALLERY = 4  # which of the prompts is shown
STILLS, SIDE, LABEL = 12, 64, 190  # of a contact sheet; pixels

HEAD = """| technique | model calls | seconds | stretches right | shape | motion | flicker | seam |
|---|---|---|---|---|---|---|---|"""

WINDOWS = {"context.frames": 33, "context.overlap": 16}


def techniques(frames: int) -> dict[str, dict[str, Any]]:
    """The rows: names and settings. At 129 frames frequency 2 would come round."""
    return {
        "plain": {},
        "RIFLEx, frequency 2": {"riflex.index": 2},
        "RIFLEx, frequency 3": {"riflex.index": 3},
        "windows, fixed": WINDOWS,
        "windows, moving": {**WINDOWS, "context.schedule": "uniform_standard"},
        "windows, FreeNoise": {**WINDOWS, "context.freenoise": True},
        "FreeNoise, overlap 24": {**WINDOWS, "context.overlap": 24, "context.freenoise": True},
        "windows, causal anchor": {**WINDOWS, "context.anchor": "causal"},
        "loop": {"loop.shift": 5 if frames == 65 else 10},
        "FreeInit, 2 rounds": {"freeinit.rounds": 2},
    }


def prompts(count: int) -> list[tuple[int, Scene]]:
    """Held-out scenes whose motion can go on for ever, with their seeds."""
    lasting = [(seed, scene) for seed, scene in enumerate(scenes(held_out=True)) if scene.motion not in ("grow", "shrink")]
    return [lasting[k] for k in spread(len(lasting), count)]


def flicker(frames: np.ndarray) -> float:
    """Mean difference from frame to frame, in levels."""
    return float(np.abs(np.diff(frames.astype(np.float32), axis=0)).mean())


def seam(frames: np.ndarray) -> float:
    """Mean difference of the last and the first frame, in flickers."""
    return float(np.abs(frames[0].astype(np.float32) - frames[-1]).mean()) / flicker(frames)


def judged(frames: np.ndarray, scene: Scene) -> np.ndarray:
    """Whether each attribute is as asked in each stretch: (stretches, 4) bool."""
    stretches = [detect(frames[start : start + STRETCH]) for start in range(0, len(frames) - STRETCH + 1, STRIDE)]
    return np.array([[getattr(seen, name) == getattr(scene, name) for name in ATTRIBUTES] for seen in stretches])


@dataclass(frozen=True)
class Measured:
    """One clip of one technique."""

    calls: int
    seconds: float
    right: float  # share of stretches
    shape: float
    motion: float
    flicker: float
    seam: float


def clip_of(lab: Lab, seed: int, scene: Scene, changes: Mapping[str, Any], frames: int, fresh: bool) -> Run:
    """The run of one prompt."""
    return lab.run(caption(scene), {"clip.save_output": False, **changes}, frames=frames, seed=seed, fresh=fresh)


def measure(lab: Lab, seed: int, scene: Scene, changes: Mapping[str, Any], frames: int) -> Measured:
    """Make a clip, with every step computed, and judge it."""
    begin = time.process_time()
    run = clip_of(lab, seed, scene, changes, frames, fresh=True)
    seconds = time.process_time() - begin
    stretches, made = judged(run.clip.frames, scene), run.clip.frames
    shares = dict(zip(ATTRIBUTES, stretches.mean(axis=0), strict=True))
    whole = float(stretches.all(axis=1).mean())
    return Measured(run.model_calls, seconds, whole, shares["shape"], shares["motion"], flicker(made), seam(made))


def row(name: str, clips: Sequence[Measured]) -> str:
    """A line of the table: means over the clips, and the least and the best of them."""

    def mean(of: str) -> float:
        return float(np.mean([getattr(clip, of) for clip in clips]))

    right = f"{mean('right'):.2f} ({min(clip.right for clip in clips):.2f} to {max(clip.right for clip in clips):.2f})"
    cells = [f"{mean('calls'):.0f}", f"{mean('seconds'):.1f}", right, f"{mean('shape'):.2f}", f"{mean('motion'):.2f}"]
    cells += [f"{mean('flicker'):.2f}", f"{mean('seam'):.1f}"]
    return f"| {name} | {' | '.join(cells)} |"


def sheet(strips: Mapping[str, np.ndarray], file: Path) -> None:
    """A row of stills for each technique, with its name on the left, as a PNG of few colours."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(14)
    page = Image.new("RGB", (LABEL + STILLS * (SIDE + 2), len(strips) * (SIDE + 6) + 26), "white")
    draw = ImageDraw.Draw(page)
    times = np.linspace(0, len(next(iter(strips.values()))) - 1, STILLS).round().astype(int)
    for column, frame in enumerate(times):
        draw.text((LABEL + column * (SIDE + 2) + SIDE // 2, 5), f"{frame}", "#444", font=font, anchor="ma")
    for line, (name, frames) in enumerate(strips.items()):
        top = 26 + line * (SIDE + 6)
        draw.text((8, top + SIDE // 2), name, "#111", font=font, anchor="lm")
        for column, frame in enumerate(times):
            page.paste(Image.fromarray(frames[frame]), (LABEL + column * (SIDE + 2), top))
    page.quantize(224, dither=Image.Dither.NONE).save(file, optimize=True)


def main() -> None:
    """Print the tables, and write the sheets if they are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=7, help="how many held-out prompts")
    parser.add_argument("--frames", type=int, nargs="+", default=LENGTHS, help="lengths (4n + 1 frames)")
    parser.add_argument("--gallery", action="store_true", help="also write docs/images/long_LENGTH.png")
    parser.add_argument("--show", type=int, default=GALLERY, help="which of the prompts is in the gallery")
    parser.add_argument("--only-gallery", action="store_true", help="measure nothing")
    parser.add_argument("--lab", type=Path, help="keep the steps in this folder")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = prompts(options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(options.lab or folder)
        if not options.only_gallery:
            print(f"{len(asked)} prompts: {'; '.join(caption(scene) for _, scene in asked)}")
            lab.run(frames=1)  # load the model
        for frames in options.frames:
            if not options.only_gallery:
                print(f"\n{frames} frames\n\n{HEAD}")
                for length in (17, 33):
                    print(row(f"plain, {length} frames", [measure(lab, *one, {}, length) for one in asked]), flush=True)
                for name, changes in techniques(frames).items():
                    print(row(name, [measure(lab, *one, changes, frames) for one in asked]), flush=True)
            if options.gallery or options.only_gallery:
                shown = asked[options.show]
                made = {
                    name: clip_of(lab, *shown, changes, frames, False).clip.frames
                    for name, changes in techniques(frames).items()
                }
                sheet(made, IMAGES / f"long_{frames}.png")
                print(f"\n{IMAGES / f'long_{frames}.png'}: {caption(shown[1])}, seed {shown[0]}")


if __name__ == "__main__":
    main()
