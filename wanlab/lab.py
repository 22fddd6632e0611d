"""The lab: a model, a store of steps and a log in one folder, and what one does with them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wanlab.bench import Bench
from wanlab.declare import switches
from wanlab.errors import SettingsError, WanlabError
from wanlab.knobs import LAB_FOLDER
from wanlab.planning import divided
from wanlab.plans import Plan
from wanlab.run import Run, perform
from wanlab.run_facts import timeline_of
from wanlab.run_table import RunTable
from wanlab.settings import INPUTS, ModelSettings, Settings, declared
from wanlab.sweeps.axes import How, read_axes
from wanlab.sweeps.sweep import Sweep, begin_sweep, list_sweeps, open_sweep
from wanlab.timeline import Timeline

if TYPE_CHECKING:
    import pandas

    from wanlab.cost.seconds import Calibration
    from wanlab.model.model import Model
    from wanlab.panel.panel import Panel


class Lab:
    """A folder for runs, with a model to make them.

    `model` is "tiny", "tiny-i2v" (image to video), a folder in diffusers' format, a hub name, or the file of a transformer.
    The other settings of the model are given by name too (`base_precision="bf16"`, `blocks_to_swap=20`,
    `loras=["style.safetensors"]`, `compile=True`); docs/settings.md has them all. What is not said is chosen: the GPU if
    there is one, bf16 on it; a CPU, and the tiny Wan everywhere, compute in fp32. Many kernels may use one folder.

    >>> lab = Lab("my_lab")                                                        # doctest: +SKIP
    >>> lab.run("a red circle moves right on a blue background", seed=7)          # doctest: +SKIP
    """

    def __init__(
        self, folder: str | Path = LAB_FOLDER, model: str | Path = "tiny", *, device: str | None = None, **settings: Any
    ) -> None:
        if device is not None:  # an older name
            settings.setdefault("load_device", device)
        settings.setdefault("load_device", "cuda" if torch.cuda.is_available() else "cpu")
        if str(settings["load_device"]).startswith("cuda") and str(model) not in ("tiny", "tiny-i2v"):
            settings.setdefault("base_precision", "bf16")
        self._bench = Bench(Path(folder).expanduser().absolute(), ModelSettings().but({"model": str(model), **settings}))

    @property
    def folder(self) -> Path:
        """Where runs and steps are."""
        return self._bench.folder

    @property
    def settings(self) -> Settings:
        """The settings that a run has when nothing is said: the declared ones, or those that suit this model and its LoRAs."""
        return Settings().but(self._bench.defaults)

    @property
    def model(self) -> Model:
        """The model, to encode and decode with; its weights are read when they are first needed."""
        return self._bench.model

    @property
    def log(self) -> pandas.DataFrame:
        """All runs in this folder, of every kernel: a row a run, in the order of time."""
        return self._bench.log.frame()

    def table(self, columns: Sequence[str] | None = None, where: str = "", sort: Sequence[str] = ()) -> RunTable:
        """All runs as a table to filter, sort, star and compare in; `.frame()` is what it shows, `.runs()` what is selected.

        `where` is a filter such as `cfg > 3 and prompt contains circle`, `sort` names columns ("-seconds": the slowest first).
        """
        return RunTable(self._bench.log, self.open, columns, where, sort)

    def run(
        self,
        prompt: str | Settings | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        fresh: bool = False,
        **settings: Any,
    ) -> Run:
        """Make a clip. Steps that are in the store already are not computed again, unless `fresh`.

        Settings are given by name (`steps=20`), those of a group in `changes` (`{"clip.frame_rate": 8}`); `prompt` may
        also be the Settings of another run. `image`, `end_image` and `samples` may be pictures, frames, files, and runs
        too. Interrupting keeps the finished steps; the same call goes on from there. Raises SettingsError before
        anything is computed.
        """
        return perform(self._bench, Timeline(self._asked(prompt, changes, settings)), fresh=fresh)

    def extend(
        self,
        run: Run,
        prompt: str | None = None,
        changes: Mapping[str, Any] | None = None,
        *,
        overlap: int = 5,
        **settings: Any,
    ) -> Run:
        """Go on with a clip: an image-to-video run that begins with the last `overlap` frames of `run`.

        `wl.join` puts them together. `overlap` is 4n + 1: from one frame the model knows where things are, from five also
        where they move. `run` may be of another lab and model. What is not given is as in `run`.
        """
        if overlap not in range(1, len(run.clip.frames) + 1, 4):
            raise SettingsError(
                f"overlap is {overlap}; it must be 4n + 1 and at most the clip's {len(run.clip.frames)} frames, for example 5."
            )
        names = ("prompt", "negative_prompt", "width", "height", "frames", "seed")
        alike = {name: getattr(run.settings, name) for name in names}
        words = {} if prompt is None else {"prompt": prompt}
        asked = {**alike, **words, **(changes or {}), **settings, "image": run.clip.frames[-overlap:]}
        return perform(self._bench, Timeline(self._asked(None, asked, {})), origin={"extends": run.id, "overlap": overlap})

    def plan(self, prompt: str | Settings | None = None, *variants: Mapping[str, Any], **settings: Any) -> Plan:
        """What a run of these settings will do and take, and then one of each variant, before it starts.

        Variants are changes by dotted name, of the run's settings or the model's (`{"blocks_to_swap": 4}`).
        """
        base, bench = self._asked(prompt, None, settings), self._bench
        runs, known = [], set[str]()
        for variant in ({}, *variants):
            changes, placed = divided(variant)
            timeline = Timeline(base.but(bench.kept(changes, base)))
            bench.check(timeline)
            # Placed otherwise, a run is planned by itself, though its steps are the same: what counts is what it takes.
            runs.append(bench.planned(timeline, _told(variant), set() if placed else known, placed))
        return Plan(tuple(runs))

    def sweep(
        self,
        base: Run | Settings | str | Mapping[str, Any] | None,
        axes: Mapping[Any, Iterable[Any]] | Sequence[Mapping[str, Any]],
        seeds: Iterable[int] | None = None,
        prompts: Iterable[str] | None = None,
        *,
        how: How = "product",
        reference: Run | Mapping[str, Any] | None = None,
    ) -> Sweep:
        """Many runs that differ in a few settings: `.plan()` them, `.run()` them, read `.frame()` and look at `.grid()`.

        `base` is a run, settings, a prompt or a mapping of changes; `axes` names settings, of the run or of the model, with
        their values: `{"feta.weight": [0, 2, 4], "cfg": [3, 5]}`. A key may name several settings that go together (`"cfg,
        shift": [(3, 5), (5, 8)]`), and a list of mappings gives the cells one by one. `how` is "product" or "zip"; `seeds` and
        `prompts` multiply it in any case. Clips are measured against `reference`, a run or changes of the base; if nothing is
        said, against the base. All that is wrong is told at once, as SettingsError, before anything is run.
        """
        return begin_sweep(self._bench, base, read_axes(axes, seeds, prompts, how), reference)

    def sweeps(self) -> pandas.DataFrame:
        """The sweeps that were run in this folder, a row each; `open_sweep` opens one by its id."""
        return list_sweeps(self.folder)

    def open_sweep(self, id: str) -> Sweep:
        """A sweep of this folder by its id, as it was asked for, also from another kernel: to look at it, or to go on."""
        return open_sweep(self._bench, id)

    def calibrate(self, prompt: str | Settings | None = None, **settings: Any) -> Calibration:
        """Measure one block of the model, with random weights, at the size of such a run: plans then tell true seconds.

        It takes about a second, needs no weights, and is kept in the lab's folder.
        """
        return self._bench.calibrate(self._asked(prompt, None, settings))

    def open(self, id: str) -> Run:
        """A run of the log, by its id, with the model that made it."""
        facts = self._bench.log.read(id)
        model = facts["model"]
        bench = self._bench
        if model["id"] != bench.model_id:
            bench = Bench(self.folder, _loaded_as(model, bench.settings))
            if model["id"] != bench.model_id:
                raise SettingsError(
                    f"Run {id} was made by another model than {model['name']!r} is now; its steps cannot be replayed with it."
                )
        return Run(bench, id, timeline_of(facts), facts)

    def panel(self) -> Panel:
        """A control panel: every setting as a control, the plan at every change, Run, Stop, a queue, and live previews.

        Without a browser its buttons work too: `panel.run_button.click()`, `panel.wait()`. Raises WanlabError if the extra lab
        (anywidget, ipywidgets) is not installed.
        """
        try:
            from wanlab.panel.panel import Panel
        except ModuleNotFoundError as error:
            if error.name not in ("anywidget", "ipywidgets"):
                raise
            raise WanlabError(f'The panel needs {error.name}: pip install "wanlab[lab]", then start the kernel anew.') from None

        return Panel(self._bench, self.settings)

    def trim(self, gib: float) -> float:
        """Delete the oldest stored steps until at most `gib` are left; the log and the clips stay. Returns the GiB freed."""
        return self._bench.store.trim(gib)

    def __repr__(self) -> str:
        settings = self._bench.settings
        return f"Lab({str(self.folder)!r}, model={settings.model!r}, {settings.base_precision} on {settings.load_device})"

    def _asked(self, prompt: str | Settings | None, changes: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> Settings:
        base = prompt if isinstance(prompt, Settings) else self.settings
        words = {} if prompt is None or isinstance(prompt, Settings) else {"prompt": prompt}
        return base.but(self._bench.kept({**words, **(changes or {}), **settings}, base))


def _show_settings(method: Any) -> Any:
    """Give a method that takes any settings a signature that names them, for help and completion."""

    @wraps(method)
    def named(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    own = [
        parameter for parameter in inspect.signature(method).parameters.values() if parameter.kind is not parameter.VAR_KEYWORD
    ]
    known = (declared() | switches(Settings)).values()
    plain = [setting for setting in known if "." not in setting.name and setting.name != "prompt"]
    keywords = [inspect.Parameter(s.name, inspect.Parameter.KEYWORD_ONLY, default=s.default, annotation=s.kind) for s in plain]
    named.__signature__ = inspect.Signature([*own, *keywords])  # type: ignore[attr-defined]
    return named


Lab.run = _show_settings(Lab.run)  # type: ignore[method-assign]


def _loaded_as(model: Mapping[str, Any], here: ModelSettings) -> ModelSettings:
    """The settings with which a run's model was loaded, as its facts say, placed as in this lab."""
    result = {name for name, setting in declared(ModelSettings).items() if setting.affects != "cost"}
    made = {"model": model["name"], **{name: value for name, value in model.items() if name in result}}
    placed = {name: value for name, value in here.flat().items() if name not in result}
    return ModelSettings().but({**placed, **made})


def _told(variant: Mapping[str, Any]) -> dict[str, Any]:
    """Changes as a plan shows them: of an input that was given as an object only that there is one, of a list its stretches."""
    told: dict[str, Any] = {}
    for name, value in variant.items():
        if name in INPUTS and not isinstance(value, str):
            told[name] = value.id if isinstance(value, Run) else "given"
        elif isinstance(value, list | tuple):
            told[name] = ", ".join(f"{one:g} x{len(list(same))}" for one, same in groupby(value))
        else:
            told[name] = value
    return told
