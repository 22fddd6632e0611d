"""What came of reading a workflow: settings, and what was not taken over and why. No torch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wanlab.clip_settings import ClipSettings
from wanlab.declare import Asked, switches
from wanlab.document import Shown, esc
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.show.page import Page, Paged
from wanlab.weights.registry import all_known
from wanlab.written import as_python

_LONGEST = 120  # letters of a value in a table
_STYLE = """\
<style>
.wanlab-comfy { container-type: inline-size; overflow-x: auto; }
.wanlab-comfy table { border-collapse: collapse; }
.wanlab-comfy :is(th, td) {
  text-align: left !important; vertical-align: top; padding: 2px 14px 2px 0; min-width: 4em; max-width: 44em;
  border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); overflow-wrap: break-word;
}
.wanlab-comfy td:last-child { min-width: 14em; }
@container (max-width: 640px) {
  .wanlab-comfy thead { display: none; }
  .wanlab-comfy :is(table, tbody, tr, td) { display: block; }
  .wanlab-comfy td { border: 0; overflow-wrap: anywhere; }
  .wanlab-comfy td:empty { display: none; }
  .wanlab-comfy td:first-child { font-weight: 600; padding-top: 8px; }
  .wanlab-comfy td:last-child { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
}
</style>"""


@dataclass(frozen=True)
class Entry:
    """One value of a workflow: of which node and input, what it is, and why it was not taken or what it means here.

    `input` is "" where it is about the whole node, and `value` then None.
    """

    node: str
    input: str
    value: Any
    reason: str

    def __str__(self) -> str:
        place = f"{self.node}, {self.input}" if self.input else self.node
        return f"{place}{'' if self.value is None else f' = {shown(self.value)}'}: {self.reason}"


class Entries(list[Entry], Shown):
    """Entries that show themselves as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "nothing"

    def _repr_html_(self) -> str:
        return table_html(self) or "<p>nothing</p>"


@dataclass(frozen=True, repr=False)
class FromComfy(Paged):
    """A workflow in wanlab's words.

    `settings` go to `lab.run`, `model` says how weights are loaded, `clip` (the same as `settings.clip`) how the clip is
    written. `changes` and `model_changes` are those of their values that the workflow gave, by dotted name. `not_taken` lists
    what has no place in wanlab or was refused; `notes` what was taken and means something else here. `samplers` are all
    samplers of the workflow; those that were read come first, `read` of them. `origins` says of each of the changes from which
    node and input it comes.
    """

    settings: Settings
    model: ModelSettings
    not_taken: Entries
    notes: Entries
    changes: dict[str, Any]
    model_changes: dict[str, Any]
    samplers: tuple[str, ...]
    origins: dict[str, str]
    read: int = 1
    source: str = ""

    @property
    def clip(self) -> ClipSettings:
        """How the clip is written."""
        return self.settings.clip

    def code(self) -> str:
        """The same as lines of Python."""
        model = _telling(self.model_changes, ModelSettings)
        run = {"prompt": self.settings.prompt, **_telling(self.changes, Settings)}
        lab = "" if model else "lab = wl.Lab()\n"
        return f"import wanlab as wl\n\n{lab}{as_python(run, model)}"

    def command(self) -> str:
        """The same as a line for the terminal; of LoRAs it can say file and strength only."""
        words = ["wanlab", "run", self.settings.prompt]
        for name, value in {**_telling(self.model_changes, ModelSettings), **_telling(self.changes, Settings)}.items():
            if name != "prompt":
                words += _flag(name, value)
        return shlex.join(words)

    def __repr__(self) -> str:
        given = [f"{name} = {shown(value)}" for name, value in {**self.model_changes, **self.changes}.items()]
        parts = [f"Workflow {self.source}".strip(), *(f"  {line}" for line in given)]
        for title, entries in (("not taken", self.not_taken), ("taken, with a difference", self.notes)):
            parts += [f"{title}:", *(f"  {entry}" for entry in entries)] if entries else []
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        return self.page().html

    def page(self) -> Page:
        """The settings, with the nodes that they come from, and the two lists as tables."""
        values = {**self.model_changes, **self.changes}
        rows = [(name, shown(value), self.origins.get(name, "")) for name, value in values.items()]
        sentence = f"{len(rows)} settings of {self.source or 'a workflow'}, {len(self.not_taken)} values not taken."
        parts = [
            f'<p style="overflow-wrap:anywhere"><strong>{esc(sentence)}</strong></p>',
            _table(("setting", "value", "from"), rows),
        ]
        for title, entries in (("Not taken", self.not_taken), ("Taken, with a difference", self.notes)):
            parts += [f"<h4>{title}</h4>", table_html(entries)] if entries else []
        return Page("".join(parts), b"", sentence, self.source or "workflow")


def table_html(entries: Sequence[Entry]) -> str:
    """A table of entries, "" for none."""
    rows = [(one.node, one.input, shown(one.value, ""), one.reason) for one in entries]
    return _table(("node", "input", "value", "reason"), rows) if rows else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with its own style, since notebooks align numbers; a narrow page scrolls it."""
    head = "".join(f"<th>{esc(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'{_STYLE}<div class="wanlab-comfy">{table}</div>'


def shown(value: Any, nothing: str = "None") -> str:
    """A value as one line of text, cut if it is long."""
    if value is None:
        return nothing
    text = " ".join((value if isinstance(value, str) else repr(value)).split()) or repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _telling(changes: dict[str, Any], of: type[Asked]) -> dict[str, Any]:
    """Those of the values that have to be said: others than declared, and those that models and machines choose themselves."""
    chosen = {name for known in all_known() for preset in known.presets.values() for name in preset}
    chosen |= {"width", "height", "frames", "solver", "base_precision", "clip.frame_rate"}
    defaults = {name: setting.default for name, setting in declared(of).items()}
    groups = switches(of)
    return {
        name: value
        for name, value in changes.items()
        if name in chosen or name in groups or name.partition(".")[0] in groups or value != defaults[name]
    }


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{'' if value else 'no-'}{name}"]
    if name == "loras":
        return [f"--{name}", ",".join(f"{one['file']}:{_number(one.get('strength', 1.0))}" for one in value)]
    return [f"--{name}={_number(value)}"]


def _number(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(_number, value))
    return f"{value:.17g}" if isinstance(value, float) and value.is_integer() else str(value)


def flat_changes(model: Asked, names: Sequence[str]) -> dict[str, Any]:
    """Of these settings the values that were taken, as the model has them."""
    values = model.flat()
    return {name: values[name] for name in names if name in values}
