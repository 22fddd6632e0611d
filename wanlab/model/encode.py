"""The process of text_encoder_device "process", `python -m wanlab.model.encode`: embeds texts into a store, and ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from wanlab.model import finding
from wanlab.model.model import Model
from wanlab.settings import ModelSettings


def main() -> None:
    """Embed the texts that standard input names: {"settings": of the model, "folder": of the store, "texts": [...]}."""
    asked = json.load(sys.stdin)
    settings = ModelSettings(**asked["settings"])
    Model(settings, finding.find(settings), Path(asked["folder"]).parent).text.prepare(asked["texts"])


if __name__ == "__main__":
    main()
