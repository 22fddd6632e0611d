"""The bench: what runs need, a model, a store of steps and a log, in one folder. The model is loaded when first used."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from wanlab.checks import check
from wanlab.cost.calibrate import calibrate, calibrated
from wanlab.cost.estimate import estimate
from wanlab.cost.fits import auto_placement, relief, told
from wanlab.cost.request import Request
from wanlab.cost.seconds import Calibration
from wanlab.inputs import Inputs
from wanlab.latents import Preview
from wanlab.log import RUNS, RunLog
from wanlab.model import checkpoint, finding
from wanlab.model.lora_files import lora_defaults
from wanlab.model.model import Model
from wanlab.planning import estimated, request_of
from wanlab.plans import PlannedRun, planned
from wanlab.settings import INPUTS, ModelSettings, Settings
from wanlab.skips import Facts
from wanlab.store import StepStore
from wanlab.timeline import Timeline


class Bench:
    """A folder with `runs/`, `steps/` and `inputs/`, and the model that these settings name."""

    def __init__(self, folder: Path, settings: ModelSettings, found: checkpoint.Checkpoint | None = None) -> None:
        self.folder, self.settings = folder, settings
        self.checkpoint = found or finding.find(settings)
        self.log = RunLog(folder / RUNS)
        self.store = StepStore(folder / "steps")
        self.inputs = Inputs(folder / "inputs")

    @cached_property
    def model(self) -> Model:
        """The model; its weights are read when they are first needed."""
        return Model(self.settings, self.checkpoint, self.folder)

    def check(self, timeline: Timeline) -> None:
        """Raise SettingsError for what this model cannot do with these settings, before anything is computed."""
        check(timeline, self.checkpoint, self.inputs, self.facts, self.settings)
        self.model.check_loader()
        for lora in self.settings.loras:
            _warn_of_misuse(lora.file, timeline.settings)

    def check_texts(self, timeline: Timeline) -> None:
        """Raise SettingsError for a text that is longer than the model reads; this needs its tokenizer."""
        for at in (0, *(start for start, _ in timeline.forks)):
            settings = timeline.at(at)
            for text in settings.texts:
                self.model.check(text, "negative_prompt" if text == settings.negative_prompt else "prompt")

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The settings of a run that suit the model and its LoRAs, where they differ from the declared ones."""
        found = dict(self.checkpoint.defaults)
        for lora in self.settings.loras:
            found |= lora_defaults(lora.file)
        return found

    @property
    def facts(self) -> Facts:
        """What planning knows of the model."""
        return self.model.facts

    def kept(self, changes: Mapping[str, Any], base: Settings) -> dict[str, Any]:
        """Changes to `base` with pictures, clips and latents kept in `inputs`, named by their content.

        Samples bring their size along, unless another one is asked for, and a technique that is turned on begins with what
        suits the model.
        """
        kept = dict(changes)
        for name in INPUTS:
            given = kept.get(name, getattr(base, name))
            if name in kept or given:
                kept[name] = self.inputs.keep(name, given)
        if changes.get("samples") is not None:
            kept = self._size(kept["samples"]) | kept
        for group, values in self.checkpoint.group_defaults.items():
            asked = kept.get(group) is True or any(name.startswith(f"{group}.") for name in kept)
            if asked and getattr(base, group) is None:
                kept = {f"{group}.{name}": value for name, value in values.items()} | kept
        return kept

    def _size(self, samples: str) -> dict[str, int]:
        if not samples:
            return {}
        kind, array = self.inputs.read("samples", samples)
        if kind == "latents":
            cell = self.checkpoint.form[1]
            return {"frames": 4 * array.shape[2] - 3, "height": cell * array.shape[3], "width": cell * array.shape[4]}
        return {"frames": len(array)}

    def planned(
        self, timeline: Timeline, changes: Mapping[str, Any], known: set[str], placed: Mapping[str, Any] | None = None
    ) -> PlannedRun:
        """The plan of a run after those that made the steps in `known`, with its bytes and seconds.

        `placed` are settings of the model that it is planned with, instead of this bench's.
        """
        settings = self.settings.but(placed or {})
        facts = checkpoint.facts_of(self.checkpoint, settings) if placed else self.facts
        return self.costed(planned(facts, timeline, changes, self.store.__contains__, known), settings)

    def outlined(self, timeline: Timeline, known: set[str] | None = None, *, fresh: bool = False) -> PlannedRun:
        """The plan of a run without its bytes and seconds, which `costed` adds; `fresh` passes over what is stored."""
        stored = (lambda _: False) if fresh else self.store.__contains__
        return planned(self.facts, timeline, {}, stored, set() if known is None else known)

    def costed(self, run: PlannedRun, settings: ModelSettings | None = None) -> PlannedRun:
        """A planned run with its bytes and seconds, the model loaded with these settings or with this bench's."""
        settings = settings or self.settings
        return estimated(run, self.checkpoint, self._sized(settings), lambda request: calibrated(request, self.folder))

    def _sized(self, settings: ModelSettings) -> ModelSettings:
        """The settings with the memory of the GPU that is here, if they do not say how much may be used."""
        device = torch.device(settings.load_device)
        if settings.device_gib is not None or device.type != "cuda" or not torch.cuda.is_available():
            return settings
        return settings.but({"device_gib": torch.cuda.mem_get_info(device)[1] / 2**30})

    def calibrate(self, settings: Settings) -> Calibration:
        """Measure one block of the model at the size of a run of these settings."""
        run = planned(self.facts, Timeline(settings), {}, lambda _: False, set())
        return calibrate(request_of(self.checkpoint, self.settings, run), self.folder)

    def place(self, timeline: Timeline) -> None:
        """With placement "auto": choose what waits where, and whether the clip is decoded in tiles, so that this run fits.

        Tiles are for decoding alone: an image-to-video model encodes its picture with the VAE, and tiles would make it another.
        """
        if self.settings.placement != "auto":
            return
        changes = dict(auto_placement(self._request(timeline, self.settings)))
        tiled = bool(changes.pop("vae_tiling", self.settings.vae_tiling))
        self.model.place(self.settings.but(changes), tiled)

    def advice(self, timeline: Timeline, stage: str) -> str:
        """What to say when the memory ran out in a stage of this run, after the model's memory was given back."""
        if "model" in self.__dict__:
            self.model.unload()
        request = self._request(timeline, self.model.settings)
        stages = estimate(request).stages
        here = {"encode": "encode text"}.get(stage, stage)
        planned = f"; planned were {stages[here]:.2f} GiB for it" if here in stages else ""
        change = relief(request, here)
        way = (
            f"The smallest change that takes less there: {told(change)}."
            if change
            else "Take a smaller size or a larger device."
        )
        return f"The memory ran out in the stage {stage}{planned}. {way}"

    def _request(self, timeline: Timeline, settings: ModelSettings) -> Request:
        run = planned(self.facts, timeline, {}, self.store.__contains__, set())
        return request_of(self.checkpoint, self._sized(settings), run)

    @property
    def device_is_here(self) -> bool:
        """Whether this machine has the device on which the model is to compute."""
        return torch.device(self.settings.load_device).type != "cuda" or torch.cuda.is_available()

    @property
    def preview_file(self) -> Path:
        """Where the linear map from latents to pixels is kept that was fitted for this VAE."""
        return self.folder / "previews" / f"{self.checkpoint.vae_fingerprint}.safetensors"

    @property
    def preview(self) -> Preview | None:
        """The map that ships with the checkpoint, or was fitted here; None before the first clip of an unknown VAE."""
        shipped = self.checkpoint.beside / "preview.safetensors"
        return next((Preview.load(file) for file in (shipped, self.preview_file) if file.exists()), None)

    @property
    def model_id(self) -> str:
        """Who the model is, for the names of steps."""
        return self.model.id


def _warn_of_misuse(file: str, settings: Settings) -> None:
    """A LoRA that was distilled to few steps without guidance spoils clips with guidance; warn of it."""
    suits = lora_defaults(file)
    if suits.get("cfg") == 1 and settings.cfg != 1:
        warnings.warn(
            f"loras has {file!r}, which was made for cfg 1 and {suits.get('steps', 'few')} steps, and the run has cfg "
            f"{settings.cfg}; take lab.settings, which has what suits it.",
            stacklevel=4,
        )
