"""Draw the loss curves of the tiny model's training: `python benchmarks/tiny_curves.py [TRAINING_FOLDER]`.

With a folder its curves are first copied to docs/curves; the picture is docs/images/tiny_curves.png.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
STAGES = {"text": "text encoder", "vae": "VAE", "transformer": "transformer"}


def main() -> None:
    """Copy the curves, if a folder is given, and draw them."""
    (DOCS / "curves").mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 1:
        for stage in STAGES:
            shutil.copy(Path(sys.argv[1]) / f"{stage}_training" / "curve.jsonl", DOCS / "curves" / f"{stage}.jsonl")
    figure = Figure(figsize=(10, 3), layout="constrained", facecolor="white")
    for axes, (stage, title) in zip(figure.subplots(1, 3), STAGES.items(), strict=True):
        lines = (DOCS / "curves" / f"{stage}.jsonl").read_text().splitlines()
        rows = {row["step"]: row for row in map(json.loads, lines)}  # a step that was done again after a stop counts once
        axes.plot(list(rows), [row["loss"] for row in rows.values()])
        axes.set(
            title=f"{title}: {list(rows.values())[-1]['seconds'] / 60:.0f} min", xlabel="step", ylabel="loss", yscale="log"
        )
        axes.grid(alpha=0.3, which="both")
    figure.savefig(DOCS / "images" / "tiny_curves.png", dpi=110)


if __name__ == "__main__":
    main()
