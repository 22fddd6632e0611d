"""The bench: what runs need, a model, a store of steps and a log, in one folder. The model is loaded when first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from wanlab.checks import check
from wanlab.cost.estimate import Estimate
from wanlab.cost.request import Request
from wanlab.cost.seconds import Calibration
from wanlab.inputs import Inputs
from wanlab.log import RUNS, RunLog
from wanlab.model import checkpoint
from wanlab.model.model import Model
from wanlab.planning import estimated, request_of
from wanlab.plans import PlannedRun, planned
from wanlab.settings import INPUTS, ModelSettings, Settings
from wanlab.skips import Facts
from wanlab.store import StepStore
from wanlab.timeline import Timeline


class Bench:
    """A folder with `runs/`, `steps/` and `inputs/`, and the model that these settings name."""

    def __init__(self, folder: Path, settings: ModelSettings) -> None:
        self.folder, self.settings = folder, settings
        self.checkpoint = checkpoint.find(settings)
        self.log = RunLog(folder / RUNS)
        self.store = StepStore(folder / "steps")
        self.inputs = Inputs(folder / "inputs")

    @cached_property
    def model(self) -> Model:
        """The model; its weights are read when they are first needed."""
        return Model(self.settings, self.checkpoint, self.folder)

    def check(self, timeline: Timeline) -> None:
        """Raise SettingsError for what this model cannot do with these settings, before anything is computed."""
        check(timeline, self.checkpoint, self.inputs, self.facts)

    @cached_property
    def facts(self) -> Facts:
        """What planning knows of the model."""
        return checkpoint.facts_of(self.checkpoint, self.settings)

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
            return {"frames": 4 * array.shape[2] - 3, "height": 8 * array.shape[3], "width": 8 * array.shape[4]}
        return {"frames": len(array)}

    def planned(
        self, timeline: Timeline, changes: Mapping[str, Any], known: set[str], placed: Mapping[str, Any] | None = None
    ) -> PlannedRun:
        """The plan of a run after those that made the steps in `known`, with its bytes and seconds.

        `placed` are settings of the model that it is planned with, instead of this bench's.
        """
        settings = self.settings.but(placed or {})
        facts = checkpoint.facts_of(self.checkpoint, settings)
        run = planned(facts, timeline, changes, self.store.__contains__, known)
        return replace(run, estimate=self._estimate(run, settings))

    def _estimate(self, run: PlannedRun, settings: ModelSettings) -> Estimate:
        return estimated(self.checkpoint, settings, calibration=self._calibration)(run)

    def _calibration(self, request: Request) -> Calibration | None:
        """What was measured before for such a request on this machine; None if nothing was."""
        if not (self.folder / "calibrations.json").exists():
            return None
        from wanlab.cost.calibrate import calibrated

        return calibrated(request, self.folder)

    def calibrate(self, settings: Settings) -> Calibration:
        """Measure one block of the model at the size of a run of these settings."""
        from wanlab.cost.calibrate import calibrate

        run = planned(self.facts, Timeline(settings), {}, lambda _: False, set())
        return calibrate(request_of(self.checkpoint, self.settings, run), self.folder)

    @property
    def model_id(self) -> str:
        """Who the model is, for the names of steps."""
        return checkpoint.model_id(self.checkpoint, self.settings)
