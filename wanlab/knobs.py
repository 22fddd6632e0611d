"""What is derived from the declared settings: flags for the command line, and their description. No torch.

A setting has one name everywhere: `clip.frame_rate` is the flag `--clip.frame_rate` (a hyphen for the underscore is
understood too), the key in `changes={"clip.frame_rate": 8}`, the column in the log and the row in `docs/settings.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import textwrap
from collections.abc import Callable
from typing import Any

from wanlab.declare import KINDS, Declared, Setting, first_sentence, group_of, number, switches
from wanlab.model_settings import LoraSettings
from wanlab.sections import notebook_of
from wanlab.settings import ModelSettings, Settings, declared

# Where runs are kept when nobody says where.
LAB_FOLDER = "wanlab_runs"

_RENEW = "python -m wanlab settings --markdown > docs/settings.md"

_INTRODUCTION = f"""\
# Settings

Written by `{_RENEW}` from the declarations in `wanlab/settings.py`; do not edit it.

A setting has one dotted name everywhere: in Python, on the command line, as a column of the log.

```python
run = lab.run("a red circle moves right on a blue background", steps=20)  # by name
run = lab.run("a red circle", {{"clip.frame_rate": 8}})                     # names with a dot go in a mapping
softer = run.fork(12, cfg=1.5)                                            # from step 12 on
```

```shell
wanlab run "a red circle" --steps 20 --clip.frame_rate 8 --no-clip.save_output
```

On the command line a hyphen may stand for the underscore (`--clip.frame-rate`), and a setting that is on or off is a pair
of flags (`--clip.pingpong`, `--no-clip.pingpong`). A value that does not fit is refused; nothing is rounded or clamped.

**Scope** says whether a setting may change in the middle of a run: those of scope *step* may, in `run.fork`; those of
scope *run* hold for all steps. (A fork may change those that affect the clip too: it is only written differently.)

**Values** are all that a setting may be; what is *usually* taken is what a slider of the control panel offers.

**Affects** says what a setting changes. *result*: the velocities that the model predicts, and so the clip; another value
is another run. *cost*: only seconds and memory. *clip*: only how the finished clip is written; no step is computed again.

A group with a switch (`feta`) is a technique, and off until one of its settings or the switch is given:

```python
run = lab.run("a red circle", {{"feta.weight": 4}})
run = lab.run("a red circle", feta=True)                # as declared
```

The defaults suit the tiny Wan. Other models bring their own: `lab.settings` shows those in force.
"""

_MODEL_DEFAULTS = (
    "wl.Lab and wanlab run choose what is not said: the GPU if there is one, bf16 on it, fp32 on a CPU and for the tiny Wan."
)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting, `--clip.frame_rate` or `--clip.frame-rate`; `changes_from` reads those that were given.

    Their values are checked by Settings, not by the parser, so that the sentences are the same as in Python.
    """
    _add_groups(parser, Settings, "")


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting of the model; `changes_from(given, ModelSettings)` reads those that were given."""
    _add_groups(parser, ModelSettings, _MODEL_DEFAULTS)
    parser.add_argument("--device", dest="load_device", default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # an older name


def _add_groups(parser: argparse.ArgumentParser, model: type[Declared], more: str) -> None:
    for title, about, settings in _groups(model):
        group = parser.add_argument_group(title, f"{about} {more}".strip())
        switch = [one for name, one in switches(model).items() if name == title]
        for setting in [*switch, *settings]:
            _add_flag(group.add_argument, setting, f"{_values(setting)}; default {_shown(setting.default)}")


def changes_from(given: argparse.Namespace, model: type[Declared] = Settings) -> dict[str, Any]:
    """The settings whose flags were given, by dotted name; a value that is no number stays text, for Settings to refuse."""
    values = vars(given)
    known = declared(model) | switches(model)
    return {name: _read(values[name], setting.kind) for name, setting in known.items() if name in values}


def settings_text() -> str:
    """All settings for a terminal: flag, default, values and help."""
    lines = []
    for title, about, settings in (*_groups(Settings), *_groups(ModelSettings)):
        lines += [*textwrap.wrap(f"{title}: {about}", 100), ""]
        for setting in settings:
            lines.append(f"  --{setting.name}  {_values(setting)}; default {_shown(setting.default)}")
            notes = f"{setting.help} (affects the {setting.affects}; {_SCOPES[setting.scope]})"
            lines += [*textwrap.wrap(notes, 100, initial_indent=" " * 6, subsequent_indent=" " * 6), ""]
    return "\n".join(lines)


def settings_markdown() -> str:
    """The whole of `docs/settings.md`."""
    parts = [_INTRODUCTION]
    for title, about, settings in _groups(Settings):
        parts.append(_section(title, about, settings))
    for title, about, settings in _groups(ModelSettings):
        parts.append(_section(title, f"{about} {_MODEL_DEFAULTS}" if title == "the model" else about, settings))
    about = f"{first_sentence(LoraSettings)} An entry of `loras`, as a mapping."
    parts.append(_section("loras", about, list(declared(LoraSettings).values())))
    return "\n".join(parts)


_SCOPES = {"run": "holds for all steps", "step": "may change in the middle of a run"}
_METAVARS = {int: "N", float: "X", str: "TEXT"}


def _groups(model: type[Declared]) -> list[tuple[str, str, list[Setting]]]:
    """The settings in their groups, each with a title and what the class says about itself."""
    members: dict[str, list[Setting]] = {}
    for name, setting in declared(model).items():
        members.setdefault(name.rpartition(".")[0], []).append(setting)
    plain = "the run" if model is Settings else "the model"
    return [(group or plain, first_sentence(_class_of(model, group)), settings) for group, settings in members.items()]


def _class_of(model: type[Declared], group: str) -> type[Declared]:
    for name in group.split(".") if group else []:
        model = group_of(model.model_fields[name]) or model
    return model


def _add_flag(add: Callable[..., Any], setting: Setting, values: str) -> None:
    """Add the flag in both spellings, of which the help shows the declared one; a flag that is not given leaves no trace."""
    metavar = "|".join(setting.choices) or _METAVARS.get(setting.kind)
    shape: dict[str, Any] = {"metavar": metavar}
    if setting.kind is bool:
        shape = {"action": argparse.BooleanOptionalAction}
    told = _percent(f"{setting.help} ({values})")
    for name, help in {setting.name.replace("_", "-"): argparse.SUPPRESS, setting.name: told}.items():
        add(f"--{name}", dest=setting.name, default=argparse.SUPPRESS, help=help, **shape)


def _read(value: Any, kind: type) -> Any:
    if kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


def _section(title: str, about: str, settings: list[Setting]) -> str:
    heading = f"`{title}`" if " " not in title else title.capitalize()
    names = [setting.name for setting in settings] if title != "loras" else [title]
    links = [f"[{file.removesuffix('.ipynb')}](../notebooks/{file})" for file in dict.fromkeys(map(notebook_of, names))]
    lines = [
        f"## {heading}",
        "",
        _markdown(about),
        "",
        f"{'Notebooks' if len(links) > 1 else 'Notebook'}: {', '.join(links)}.",
        "",
    ]
    lines += ["| name | default | values | scope | affects | ComfyUI |", "|---|---|---|---|---|---|"]
    for setting in settings:
        comfy = f"`{setting.comfy}`" if setting.comfy else ""
        cells = [f"`{setting.name}`", f"`{_shown(setting.default)}`", _values(setting), setting.scope, setting.affects, comfy]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for setting in settings:
        lines += ["", f"**`{setting.name}`**: {_markdown(setting.help)}"]
    return "\n".join([*lines, ""])


def _values(setting: Setting) -> str:
    """What the setting may be, in words: "a whole number from 16 to 4096 pixels"."""
    if setting.choices:
        *most, last = map(str, setting.choices)
        return f"{', '.join(most)} or {last}" if most else last
    bounds = [f"from {number(setting.low)}"] * (setting.low is not None) + [f"to {number(setting.high)}"] * (
        setting.high is not None
    )
    kind = f"a multiple of {setting.multiple_of}" if setting.multiple_of else KINDS.get(setting.kind, setting.kind.__name__)
    lists = ["or a list of these"] if setting.listed else []
    words = " ".join([kind, *bounds, *([setting.unit] if setting.unit else []), *lists])
    return f"{words}, usually {number(setting.usual[0])} to {number(setting.usual[1])}" if setting.usual else words


def _shown(value: Any) -> str:
    if value is None:
        return "not given"
    return (value if value and " " not in value else f'"{value}"') if isinstance(value, str) else str(value)


def _percent(text: str) -> str:
    """Argparse takes a percent sign in a help text for the beginning of a format."""
    return text.replace("%", "%%")


def _markdown(text: str) -> str:
    for mark in "\\*<|":
        text = text.replace(mark, f"\\{mark}")
    return text
