"""Draw the loss curves of the tiny model's training: `python benchmarks/tiny_curves.py [TRAINING_FOLDER PART]`.

With a folder the curves in it are first copied to docs/curves, as those of this part of the training (first, second or third).
The picture is docs/images/tiny_curves.png.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
STAGES = {"text": "text encoder", "vae": "VAE", "transformer": "transformer", "decoder": "decoder"}
PARTS = ("first", "second", "third")


def copy(folder: Path, part: str) -> None:
    """Copy what was trained in this folder."""
    (DOCS / "curves").mkdir(parents=True, exist_ok=True)
    for stage in STAGES:
        curve = folder / f"{stage}_training" / "curve.jsonl"
        if curve.exists():
            shutil.copy(curve, DOCS / "curves" / f"{stage}_{part}.jsonl")


def rows(stage: str, part: str) -> list[dict[str, float]]:
    """The logged steps of this part; a step that was done again after a stop counts once."""
    file = DOCS / "curves" / f"{stage}_{part}.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return list({row["step"]: row for row in map(json.loads, lines)}.values())


def main() -> None:
    """Copy the curves, if a folder is given, and draw them."""
    if len(sys.argv) > 1:
        folder, part = sys.argv[1:]
        if part not in PARTS:
            sys.exit(f"part is {part}; it must be one of {', '.join(PARTS)}.")
        copy(Path(folder), part)
    figure = Figure(figsize=(12, 3), layout="constrained", facecolor="white")
    trained = {stage: title for stage, title in STAGES.items() if any(rows(stage, part) for part in PARTS)}
    for axes, (stage, title) in zip(figure.subplots(1, len(trained)), trained.items(), strict=True):
        before, minutes = 0.0, 0.0
        for part in PARTS:
            found = rows(stage, part)
            if found:
                axes.plot(
                    [before + row["step"] for row in found],
                    [row["loss"] for row in found],
                    label=part,
                    color=f"C{PARTS.index(part)}",
                )
                before, minutes = before + found[-1]["step"], minutes + found[-1]["seconds"] / 60
        axes.set(title=f"{title}: {minutes:.0f} min", xlabel="step", ylabel="loss", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend(frameon=False)
    figure.savefig(DOCS / "images" / "tiny_curves.png", dpi=110)


if __name__ == "__main__":
    main()
