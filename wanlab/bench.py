"""The bench: what runs need, a model, a store of steps and a log, in one folder. The model is loaded when first used."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from wanlab.log import RUNS, RunLog
from wanlab.model import checkpoint
from wanlab.model.model import Model
from wanlab.settings import ModelSettings
from wanlab.store import StepStore


class Bench:
    """A folder with `runs/` and `steps/`, and the model that these settings name."""

    def __init__(self, folder: Path, settings: ModelSettings) -> None:
        self.folder, self.settings = folder, settings
        self.checkpoint = checkpoint.find(settings.model)
        self.log = RunLog(folder / RUNS)
        self.store = StepStore(folder / "steps")

    @cached_property
    def model(self) -> Model:
        """The model; its weights are read when they are first needed."""
        return Model(self.settings, self.checkpoint)

    @property
    def model_id(self) -> str:
        """Who the model is, for the names of steps."""
        return checkpoint.model_id(self.checkpoint, self.settings)
