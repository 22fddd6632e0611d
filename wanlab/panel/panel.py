"""The control panel of a lab: a form of all settings, the plan beside it, a queue of runs, and previews as they happen."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets  # type: ignore[import-untyped]

from wanlab import controls
from wanlab.bench import Bench
from wanlab.comparing import compare
from wanlab.document import shortened
from wanlab.errors import SettingsError, WanlabError
from wanlab.panel.benches import Benches
from wanlab.panel.draft import Draft, differing, form_values
from wanlab.panel.face import PanelFace
from wanlab.panel.making import Maker
from wanlab.panel.planner import Asked, Planner
from wanlab.panel.queue import Queue
from wanlab.panel.still import panel_still
from wanlab.plans import Plan
from wanlab.run import Run, check_run
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.show.page import Page, Paged
from wanlab.timeline import Timeline


class Panel(Paged):
    """Every setting as a control, and a run of them at the press of a button; `lab.panel()` makes one.

    `settings` and `model` are what the form says; both can be set. `run_button` and `stop_button` are widgets: their `click()`
    does what a click in the browser does. Runs are made one after the other in a thread of the panel, `runs` has those that
    ended, and other cells can be run meanwhile. `problems` says by the name of a setting what is wrong with it.
    """

    def __init__(self, bench: Bench, defaults: Settings) -> None:
        self._benches, self._defaults = Benches(bench), defaults
        self._lock = threading.RLock()
        self._draft = Draft(defaults, bench.settings, bench.kept, bench.checkpoint.group_defaults)
        self._objections: dict[str, str] = {}
        self._number, self._seen, self._before = 0, 0, (defaults, bench.settings)
        self.run_button = ipywidgets.Button(description="Run", button_style="primary", tooltip="Add a run to the queue")
        self.stop_button = ipywidgets.Button(description="Stop", disabled=True, tooltip="Stop between two steps")
        self.run_button.on_click(lambda _: self._guarded(self._ask_run))
        self.stop_button.on_click(lambda _: self._guarded(self.queue.stop))
        form = controls.form(form_values(defaults, bench.checkpoint.group_defaults), form_values(bench.settings))
        self._face = PanelFace({"form": form}, self._heard, self._page)
        self._maker = Maker(self._benches, self._say, self._object, lambda: self._plans.ask())
        self._plans = Planner(self._benches, self._asked, self._say, self._object, lambda: not len(self.queue), self._face.keep)
        self._say(running=None, clip=None)
        self._tell_all()

    # ---- what Python asks

    @property
    def settings(self) -> Settings:
        """The settings that the form says: the last ones that were valid."""
        return self._draft.settings

    @settings.setter
    def settings(self, given: Settings | Mapping[str, Any] | Run | str | Path) -> None:
        """Take settings, changes by dotted name, those of a run, or those in a clip's file. Raises SettingsError, FileError."""
        with self._lock:
            if isinstance(given, Mapping):
                given = self.settings.but(self._benches.own.kept(given, self.settings))
            elif isinstance(given, Run):
                given = given.settings
            elif not isinstance(given, Settings):
                return self._open(controls.from_clip(given))
            self._set(given, self.model)

    @property
    def model(self) -> ModelSettings:
        """How the model is to be loaded; another one is loaded when the next run begins, and the lab keeps its own."""
        return self._draft.model

    @model.setter
    def model(self, given: ModelSettings | Mapping[str, Any]) -> None:
        with self._lock:
            model = given if isinstance(given, ModelSettings) else self.model.but(given)
            self._set(self.settings, model)

    @property
    def problems(self) -> dict[str, str]:
        """What is wrong, by the setting that it belongs to; "" for what belongs to none. Runs begin when it is empty."""
        with self._lock:
            return {**self._objections, **self._draft.problems}

    @property
    def plan(self) -> Plan:
        """What a run of these settings will do and take."""
        bench, timeline = self._benches.of(self.model), Timeline(self.settings)
        check_run(bench, timeline)
        return Plan((bench.planned(timeline, {}, set()),))

    @property
    def queue(self) -> Queue:
        """The runs that wait, and the one that is made."""
        return self._maker.queue

    @property
    def runs(self) -> list[Run]:
        """The runs that ended, in their order: done, stopped or failed."""
        return list(self._maker.runs)

    @property
    def last(self) -> Run | None:
        """The run that ended last."""
        return self._maker.runs[-1] if self._maker.runs else None

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all runs of the queue have ended; False if that takes longer."""
        return self.queue.wait(seconds)

    def close(self) -> None:
        """Stop what runs, forget what waits, and take the panel out of the notebook's widgets."""
        self.queue.stop_all()
        self.queue.wait()
        self._plans.close()
        for widget in (self._face, self.run_button, self.stop_button):
            widget.close()

    def page(self) -> Page:
        """The panel to look at, without a kernel: settings that differ, code, plan and last clip."""
        return self._page("")

    def __repr__(self) -> str:
        doing = f"{len(self.queue)} in the queue" if len(self.queue) else "idle"
        wrong = f", {len(self.problems)} to put right" if self.problems else ""
        return f"Panel({self.code}; {doing}, {len(self._maker.runs)} runs{wrong})"

    def _ipython_display_(self) -> None:
        self._face._ipython_display_()

    @property
    def code(self) -> str:
        """The Python that makes the same run: a line, and one before it that opens the lab with another model."""
        folder, here = self._benches.own.folder, Path.cwd()
        return controls.as_python(*self._changes(), folder.relative_to(here) if folder.is_relative_to(here) else folder)

    def _changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What differs from the lab's settings, of the run and of the model."""
        pairs = ((self.settings, self._defaults), (self.model, self._benches.own.settings))
        run, model = (differing(now, usual) for now, usual in pairs)
        return run, model

    # ---- what the browser says

    def _heard(self, message: dict[str, Any]) -> None:
        actions: dict[str, Callable[[], None]] = {
            "change": lambda: self._change(message),
            "run": self.run_button.click,
            "stop": self.stop_button.click,
            "stop_all": self.queue.stop_all,
            "remove": lambda: self.queue.remove(int(message["number"])),
            "move": lambda: self.queue.move(int(message["number"]), int(message["places"])),
            "undo": self._undo,
            "open": lambda: self._open(controls.from_clip(Path(str(message["path"])).expanduser())),
            "text": lambda: self._open(controls.from_json(str(message["text"]))),
            "compare": self._compare,
            "calibrate": self._plans.measure,
        }
        action = actions.get(str(message.get("do")))
        if action is not None:
            self._guarded(action)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Do it; what goes wrong is shown at the control that caused it."""
        try:
            action()
        except WanlabError as error:
            self._object(error)

    def _change(self, message: dict[str, Any]) -> None:
        """Take what was changed in a view; tell the others, and the view itself what came of it elsewhere."""
        changes = dict(message["changes"])
        with self._lock:
            if len(changes) > 1:  # a preset, or back to the defaults
                self._remember()
            other = self._draft.change(changes)
        self._face.say(by=message.get("by"), mine=[*other], values={**changes, **other})
        self._changed(int(message.get("n", 0)))

    def _set(self, settings: Settings, model: ModelSettings) -> None:
        """Take these instead, so that it can be undone."""
        with self._lock:
            self._remember()
            self._draft.replace(settings, model)
        self._tell_all()

    def _remember(self) -> None:
        """Keep the settings as they are, to come back to."""
        self._before = self._draft.settings, self._draft.model
        self._say(undo=True)

    def _undo(self) -> None:
        self._set(*self._before)

    def _open(self, taken: controls.Taken) -> None:
        """Take the settings of a clip, those of its model too as far as they say which one it is, not where it lay."""
        settings = self._defaults.but(self._benches.own.kept(taken.changes, self._defaults))
        known = declared(ModelSettings)
        model = {
            name: value for name, value in taken.model_changes.items() if name not in known or known[name].affects != "cost"
        }
        self._set(settings, self.model.but(model))
        left = [f"{name} {value}: {why}" for name, value, why in taken.not_taken]
        self._say(notice="Not taken over: " + "; ".join(left) if left else "")

    def _ask_run(self) -> None:
        """Put a run of the settings into the queue, unless something is wrong with them."""
        with self._lock:
            settings, model, wrong = self.settings, self.model, self._draft.problems
        if wrong:
            raise SettingsError(" ".join(wrong.values()))
        self._objections = {}
        if model == self._benches.own.settings:
            check_run(self._benches.own, Timeline(settings))
        self._tell_problems()
        self.queue.add(settings, model, self._label(), self._number)

    def _compare(self) -> None:
        two = [run for run in self.runs if run.status == "done"][-2:]
        if len(two) < 2:
            raise SettingsError("There is only one finished clip; make another run, then compare.")
        self._say(compared=compare(*two).content)

    # ---- what the browser is told

    def _say(self, **parts: Any) -> None:
        self._face.say(**parts)
        if "queue" in parts:
            self.stop_button.disabled = parts["queue"]["running"] is None

    def _object(self, error: Exception) -> None:
        """Show an error beside the controls that it is about, or at the top."""
        names = [*self._draft.values]
        if isinstance(error, WanlabError):
            self._objections = controls.blame(error, names)
        else:
            self._objections = {"": "".join(traceback.format_exception_only(error)).strip()}
        self._tell_problems()

    def _tell_problems(self) -> None:
        self._say(problems=self.problems)

    def _tell_all(self) -> None:
        self._say(values=self._draft.values)
        self._changed()

    def _changed(self, seen: int = 0) -> None:
        """The settings are other ones: tell of their code, and ask for their plan. `seen` is the view's own count."""
        self._objections = {}
        self._number, self._seen = self._number + 1, seen or self._seen
        self._say(code={"python": self.code, "json": controls.as_json(self.settings, self.model)}, problems=self.problems)
        self._plans.ask()

    def _asked(self) -> Asked:
        with self._lock:
            return Asked(self._number, self._seen, self._draft.settings, self._draft.model)

    def _label(self) -> str:
        """What a run is called in the queue."""
        run, model = self._changes()
        told = [f"{name} {value}" for name, value in {**run, **model}.items() if name != "prompt"]
        prompt = self.settings.prompt or "no prompt"
        # First what tells runs apart: a row of the queue is short.
        return shortened(", ".join([prompt, *told] if "prompt" in run else [*told, prompt]), 120)

    def _page(self, twin: str) -> Page:
        last = next((run for run in reversed(self.runs) if run.status == "done"), None)
        run, model = self._changes()
        return panel_still(
            self._face.state,
            plan=self._plans.planned,
            frames=None if last is None else last.clip.frames,
            rows=[(name, [str(value)]) for name, value in {**run, **model}.items()],
            code=self.code,
            twin=twin,
        )
