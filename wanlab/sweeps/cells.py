"""From axes to cells: the settings of every run of a sweep, checked as a whole before anything starts.

A cell is **named by what it asks for**: settings, forks, who the model is, and those of the model's settings that change its
clip or that the sweep varies. So cells that ask for the same are one, and a run that the log has is found again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wanlab.bench import Bench
from wanlab.errors import SettingsError, WanlabError
from wanlab.names import digest
from wanlab.planning import divided
from wanlab.settings import INPUTS, ModelSettings, Settings, declared
from wanlab.sweeps.axes import Axis, changes_at, label_at, places
from wanlab.timeline import Timeline

# Of the model's settings that are in no name of a step, these change the clip all the same.
CLIP = tuple(name for name, setting in declared(ModelSettings).items() if setting.affects == "clip")
_TOLD = 12  # wrong values that are told one by one


@dataclass(frozen=True)
class Cell:
    """One run of a sweep: what it is asked for, on which model, and where it lies among the points of the axes.

    `places` are all its places: more than one where cells ask for the same, since something that is varied has no effect there.
    """

    key: str
    timeline: Timeline
    model: ModelSettings
    labels: Mapping[str, str]
    places: tuple[tuple[int, ...], ...]

    @property
    def values(self) -> dict[str, Any]:
        """All settings by dotted name, of the run and of the model."""
        return {**self.model.flat(), **self.timeline.settings.flat()}

    @property
    def label(self) -> str:
        """The labels in a line."""
        return ", ".join(f"{name} {label}" for name, label in self.labels.items())


class Benches:
    """The benches of a sweep, one for each way to load the model; the lab's own for that of the lab."""

    def __init__(self, own: Bench) -> None:
        self.own = own
        self._found: dict[ModelSettings, Bench] = {own.settings: own}
        self._warm = [own]

    def of(self, model: ModelSettings) -> Bench:
        """The bench of these settings; raises WanlabError if there is no such model."""
        if model not in self._found:
            self._found[model] = Bench(self.own.folder, model)
        return self._found[model]

    def alone(self, bench: Bench) -> None:
        """Let go of the weights of the others, so that no two models are in memory at once."""
        for one in self._warm:
            if one is not bench and "model" in one.__dict__:
                one.model.unload()
        self._warm = [bench]


@dataclass
class Cells:
    """The cells of a sweep in the order of its axes, and sentences about those that were left out."""

    axes: tuple[Axis, ...]
    benches: Benches
    found: tuple[Cell, ...] = ()
    notes: list[str] = field(default_factory=list)

    def bench(self, cell: Cell) -> Bench:
        """The bench that runs a cell."""
        return self.benches.of(cell.model)


def make_cells(own: Bench, base: Timeline | Mapping[str, Any], axes: Sequence[Axis]) -> Cells:
    """All cells, on the models that they ask for. `base` are settings, or changes of those that suit each of the models.

    Raises SettingsError with every wrong value and where it lies.
    """
    cells = Cells(tuple(_kept(own, axis) for axis in axes), Benches(own))
    problems: dict[str, list[str]] = {}
    found: dict[str, Cell] = {}
    for place in places(cells.axes):
        labels = label_at(cells.axes, place)
        try:
            cell = _cell(cells, base, place, labels)
        except WanlabError as error:
            told = ", ".join(f"{name} {label}" for name, label in labels.items())
            for line in str(error).split("\n"):
                problems.setdefault(line, []).append(told)
        else:
            same = found.get(cell.key)
            found[cell.key] = (
                cell if same is None else Cell(cell.key, same.timeline, same.model, same.labels, (*same.places, place))
            )
    if problems:
        raise SettingsError(_told(problems))
    cells.found = tuple(found.values())
    doubled = [cell for cell in cells.found if len(cell.places) > 1]
    if doubled:
        count = sum(len(cell.places) - 1 for cell in doubled)
        cells.notes.append(f"{count} of the cells ask for what another one asks for, as {doubled[0].label}; they are run once.")
    return cells


def key_of(timeline: Timeline, model_id: str, model: Mapping[str, Any], varied: Sequence[str]) -> str:
    """The name of what a cell asks for. `model` are the model's settings by name, `varied` those that the sweep varies."""
    names = sorted({*CLIP, *(name for name in model if name.split(".")[0] in varied or name in varied)})
    return digest(
        timeline.settings.flat(),
        [[at, dict(changes)] for at, changes in timeline.forks],
        model_id,
        {name: _json(model.get(name)) for name in names},
    )


def varied_of(axes: Sequence[Axis]) -> tuple[str, ...]:
    """The settings of the model that the axes vary."""
    return tuple(name for axis in axes for name in axis.names if name.split(".")[0] in ModelSettings.model_fields)


def _json(value: Any) -> Any:
    """LoRAs as the log has them."""
    return [one.model_dump() for one in value] if isinstance(value, tuple) else value


def _kept(own: Bench, axis: Axis) -> Axis:
    """The axis with pictures and clips kept, so that its values are names."""
    if not set(INPUTS) & set(axis.names):
        return axis
    points = [
        {name: own.inputs.keep(name, value) if name in INPUTS else value for name, value in point.items()}
        for point in axis.points
    ]
    return Axis(axis.names, tuple(points), axis.listed)


def _cell(cells: Cells, base: Timeline | Mapping[str, Any], place: tuple[int, ...], labels: Mapping[str, str]) -> Cell:
    """The cell at this place; raises WanlabError for what is wrong with it."""
    own = cells.benches.own
    changes, placed = divided(changes_at(cells.axes, place))
    model = own.settings.but(placed) if placed else own.settings
    bench = cells.benches.of(model)
    start = base if isinstance(base, Timeline) else suited(bench, base)
    timeline = start.fork(0, bench.kept(changes, start.settings))
    late = [at for at, _ in timeline.forks if at >= len(timeline)]
    if late:
        raise SettingsError(f"The base was forked at step {late[0]}, and this cell has only {len(timeline)} steps.")
    bench.check(timeline)
    bench.check_texts(timeline)
    key = key_of(timeline, bench.model_id, model.flat(), varied_of(cells.axes))
    return Cell(key, timeline, model, labels, (place,))


def suited(bench: Bench, changes: Mapping[str, Any]) -> Timeline:
    """Settings that suit the bench's model, with these changes."""
    usual = Settings().but(bench.defaults)
    return Timeline(usual.but(bench.kept(changes, usual)))


def _told(problems: Mapping[str, Sequence[str]]) -> str:
    """Every wrong value, with the first cell that has it."""
    lines = []
    for sentence, places_ in list(problems.items())[:_TOLD]:
        more = f" and {len(places_) - 1} more" if len(places_) > 1 else ""
        lines.append(f"{sentence} (in the cell {places_[0]}{more})")
    left = len(problems) - _TOLD
    return "\n".join([*lines, *([f"... and {left} more."] if left > 0 else [])])
