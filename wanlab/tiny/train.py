"""Train the tiny Wan: `python -m wanlab.tiny.train STAGE --folder FOLDER`.

Stages, in this order: text, vae, latents, transformer, decoder, assemble; then for image to video, in a folder that has the
first model's vae, text_encoder and tokenizer: conditions, vision, image_transformer, assemble_image; and `lora --name NAME`,
which trains a LoRA of the shipped model. Each can be stopped and started again, and goes on from its last checkpoint. On a
CPU a stage runs as `--ranks` processes of one thread each (see training.py). docs/tiny_model.md tells the times, the loss
curves and the results.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

STAGES = ("text", "vae", "latents", "transformer", "decoder", "assemble")
IMAGE_STAGES = ("conditions", "vision", "image_transformer", "assemble_image")
STEPS = {"text": 900, "vae": 2000, "transformer": 7400, "decoder": 600, "vision": 3600, "image_transformer": 4400}
LORAS = {"four_steps": "tiny-four-steps", "style": "tiny-style"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _spawn(ranks: int) -> int:
    """Run this very command once per rank and wait for all; the worst exit status."""
    shared = dict(
        os.environ,
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(_free_port()),
        WORLD_SIZE=str(ranks),
        OMP_NUM_THREADS="1",
        MKL_NUM_THREADS="1",
    )
    command = [sys.executable, "-m", "wanlab.tiny.train", *sys.argv[1:]]
    children = [subprocess.Popen(command, env=dict(shared, RANK=str(rank))) for rank in range(ranks)]
    return max(child.wait() for child in children)


def main() -> int:
    """Read the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m wanlab.tiny.train", description=__doc__)
    parser.add_argument("stage", choices=(*STAGES, *IMAGE_STAGES, "lora"))
    parser.add_argument("--name", choices=LORAS, help="lora: which one")
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints, curves and results go")
    parser.add_argument("--out", type=Path, help="assemble, assemble_image, lora: what to write (default: the package's own)")
    parser.add_argument("--steps", type=int, help="optimizer steps (default: those of a training from nothing)")
    parser.add_argument("--start", type=Path, help="vae, transformer, image_transformer (needs it): weights to begin with")
    parser.add_argument(
        "--fast", action="store_true", help="transformers: products in bfloat16, compiled blocks (needs a C++ compiler)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2, help="processes on a CPU (default 2)")
    options = parser.parse_args()
    if (options.name is None) == (options.stage == "lora"):
        parser.error("--name says which LoRA the stage lora trains, and belongs to no other stage.")
    shared = options.stage not in ("text", "assemble", "assemble_image")
    if shared and options.ranks > 1 and "RANK" not in os.environ:
        return _spawn(options.ranks)
    steps = options.steps or STEPS.get(options.stage, 0)
    if options.stage == "text":
        from wanlab.tiny import text

        text.train(options.folder, steps, options.seed)
    elif options.stage == "vae":
        from wanlab.tiny import vae

        vae.train(options.folder, steps, options.seed, options.start)
    elif options.stage == "latents":
        from wanlab.tiny import latents

        latents.write(options.folder, options.seed)
    elif options.stage == "transformer":
        from wanlab.tiny import transformer

        transformer.train(options.folder, steps, options.seed, options.start, fast=options.fast)
    elif options.stage == "decoder":
        from wanlab.tiny import decoder

        decoder.train(options.folder, steps, options.seed)
    elif options.stage == "assemble":
        from wanlab.tiny import assemble, tiny_path

        assemble.assemble(options.folder, options.out or Path(tiny_path()))
    elif options.stage == "conditions":
        from wanlab.tiny import image_to_video

        image_to_video.write(options.folder, options.seed)
    elif options.stage == "vision":
        from wanlab.tiny import vision

        vision.train(options.folder, steps, options.seed)
    elif options.stage == "image_transformer":
        from wanlab.tiny import image_to_video

        image_to_video.train(options.folder, steps, options.seed, options.start, fast=options.fast)
    elif options.stage == "assemble_image":
        from wanlab.tiny import assemble, tiny_path

        assemble.assemble_image(options.folder, options.out or Path(tiny_path("tiny-i2v")))
    elif options.stage == "lora":
        from wanlab.tiny import lora_path

        out = options.out or Path(str(lora_path(LORAS[options.name])))
        if options.name == "four_steps":
            from wanlab.tiny import lora_steps

            lora_steps.train(options.folder, out, options.steps, options.seed, fast=options.fast)
        else:
            from wanlab.tiny import lora_style

            lora_style.train(options.folder, out, options.steps, options.seed, fast=options.fast)
    return 0


if __name__ == "__main__":
    sys.exit(main())
