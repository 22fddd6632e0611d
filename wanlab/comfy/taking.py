"""From what was read to settings: each value is tried by itself, and what is refused is told in its own sentence. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wanlab.comfy.carriers import documents, unwrapped
from wanlab.comfy.found import Found, Reading
from wanlab.comfy.graph import Graph, Node, Unreadable, parse
from wanlab.comfy.model_files import Told, told, with_vace
from wanlab.comfy.reading import consumers, read, saving
from wanlab.comfy.result import FromComfy, flat_changes
from wanlab.comfy.samplers import Chain, all_samplers, choose, listed
from wanlab.comfy.wires import Wires
from wanlab.declare import Asked, switches
from wanlab.errors import FileError, SettingsError
from wanlab.settings import ModelSettings, Settings, declared
from wanlab.weights.registry import find_known

# ComfyUI's own shift for Wan2.1 and 2.2, where no node says one.
_NATIVE_SHIFT = 8.0
_MOST_SAMPLERS = 100  # that are looked at, of a workflow; people's have a handful
_PARTS = ("text_encoder", "vae", "image_encoder")


def from_comfy(workflow: str | os.PathLike[str] | Mapping[str, Any], *, sampler: str | int | None = None) -> FromComfy:
    """Read a workflow of ComfyUI, of the nodes of WanVideoWrapper or of ComfyUI's own nodes for Wan, into settings.

    `workflow` is a file: JSON of the editor or of the server ("API format"), or a png, webp, mp4 or webm that ComfyUI or
    VideoHelperSuite wrote; or the JSON itself. Of several samplers, `sampler` (the number or title of its node) says which;
    else it is the one whose clip is written. Two samplers of which the second goes on where the first stops are one run.

    Raises FileError for what is no workflow or has no sampler, SettingsError for a sampler that is not there. Values that
    cannot be taken raise nothing: they are in `not_taken`.
    """
    if isinstance(workflow, Mapping):
        source, found = "", list(unwrapped(dict(workflow)))
    else:
        path = Path(workflow)
        source, found = path.name, documents(path)
    graph, samplers, reason = _graph(found)
    if graph is None:
        raise FileError(f"{source or 'The workflow'} cannot be read as one: {reason}")
    wires = Wires(graph)
    behind = consumers(graph, wires)
    saved = {one.id for one in samplers[:_MOST_SAMPLERS] if saving(behind, one)[0]}
    chain = choose(wires, samplers, saved, None if sampler is None else str(sampler))
    return _Taking(read(graph, wires, chain), samplers, source).result()


def _graph(found: Sequence[Any]) -> tuple[Graph | None, list[Node], str]:
    """The first of the documents that is a workflow with a sampler; else the reason why there is none."""
    reason = "it is no workflow of ComfyUI."
    for document in found:
        try:
            graph = parse(document)
        except Unreadable as error:
            reason = str(error)
            if isinstance(document, dict) and "clip.frame_rate" in document:
                reason = "it was written by wanlab, not by ComfyUI: wl.read_settings reads its settings."
            continue
        samplers = all_samplers(graph)
        if samplers:
            return graph, samplers, ""
        reason = "it has no sampler that runs, of WanVideoWrapper or of ComfyUI's own."
    return None, [], reason


class _Taking:
    """Tries what was read, value by value."""

    def __init__(self, reading: Reading, samplers: Sequence[Node], source: str) -> None:
        self.reading, self.samplers, self.source = reading, samplers, source
        self.settings, self.model = Settings(), ModelSettings()

    def result(self) -> FromComfy:
        """All of it."""
        reading = self.reading
        self._name_model()
        self._complete()
        taken, model_taken = self._take(Settings), self._take(ModelSettings)
        self._split()
        model_taken += self._loras()
        self._tell_samplers()
        model_names = [name for name in declared(ModelSettings) if name in model_taken]
        model_changes = flat_changes(self.model, model_names)
        if "loras" in model_changes:
            model_changes["loras"] = [_told_lora(one) for one in self.model.loras]
        if self.model.boundary_ratio is not None:
            model_changes["boundary_ratio"] = self.model.boundary_ratio
        names = [name for name in declared() if name in taken]
        return FromComfy(
            settings=self.settings,
            model=self.model,
            not_taken=reading.not_taken,
            notes=reading.notes,
            changes={**flat_changes(self.settings, names), **{name: True for name in taken if name in switches(Settings)}},
            model_changes=model_changes,
            samplers=tuple(
                one.label for one in [*reading.chain.nodes, *(one for one in self.samplers if one not in reading.chain.nodes)]
            ),
            origins=self._origins(),
            read=len(reading.chain.nodes),
            source=self.source,
        )

    def _origins(self) -> dict[str, str]:
        """Of each setting the node and input that it comes from."""
        found = {name: f"{one.node.label}, {one.input}".removesuffix(", ") for name, one in self.reading.changes.items()}
        loras = dict.fromkeys(one.node.label for one in self.reading.loras)
        return {**found, **({"loras": "; ".join(loras)} if loras else {})}

    def _note(self, found: Found, sentence: str) -> None:
        self.reading.note(found.node, found.input, found.written, sentence)

    def _complete(self) -> None:
        """What a workflow means without saying it."""
        changes, sampler = self.reading.changes, self.reading.chain.high
        native = not sampler.type.startswith("WanVideo")
        if native and "shift" not in changes and "sigmas" not in changes:
            changes["shift"] = Found(_NATIVE_SHIFT, sampler, "", None)
            self._note(changes["shift"], f"No node gives a shift; ComfyUI's own for Wan is {_NATIVE_SHIFT:g}.")
        _as_written(changes, sampler.hints)
        windows = changes.get("context.schedule")
        if windows and not native and "image" in changes:
            changes["context.anchor"] = Found("start", windows.node, "", None)
            self._note(
                windows, "With an image, WanVideoWrapper repeats its condition in every window: context.anchor is start."
            )

    def _take(self, of: type[Asked]) -> list[str]:
        """Try the settings of this class in the order of declaration, switches of groups first; the names that were taken."""
        taken = []
        known = [*switches(of), *declared(of)]
        for name in known:
            found = self.reading.changes.get(name)
            if found is None:
                continue
            now = self.settings if of is Settings else self.model
            try:
                changed = now.but({name: found.value})
            except SettingsError as error:
                kept = now.flat().get(name)
                stays = "" if "." in name or kept is None else f" It stays {kept!r}."
                self.reading.lose(found.node, found.input, found.written, f"{str(error).splitlines()[0]}{stays}")
                continue
            if of is Settings:
                self.settings = changed  # type: ignore[assignment]
            else:
                self.model = changed  # type: ignore[assignment]
            taken.append(name)
        return taken

    def _name_model(self) -> None:
        """Which model the files of the transformers are, and whether it brings the other parts with it."""
        reading = self.reading
        files: dict[str, tuple[str, Found]] = {}
        for expert, found in reading.transformers:
            files.setdefault(str(found.value), (expert, found))
        names = [(*one, told(file)) for file, one in files.items()]
        if not names:
            return
        if reading.vace:
            names = self._joined(names, reading.vace)
        known = {one.known.name for _, _, one in names if one.known}
        whole = len(known) == 1 and all(one.known for _, _, one in names)
        first = names[0][1]
        if whole and (names[0][2].known.transformers == len(names) or len(names) == 1):  # type: ignore[union-attr]
            self._published(names, first)
        else:
            self._single_files(names)
        for _, found, _ in names[2:]:
            reading.lose(
                found.node, found.input, found.written, "A run has at most two transformers, of high and of low noise."
            )

    def _joined(self, names: list[tuple[str, Found, Told]], vace: Found) -> list[tuple[str, Found, Told]]:
        """A text-to-video model and the part of VACE are one model."""
        whole = [with_vace(one.known, str(vace.value)) if one.known else None for _, _, one in names]
        if len(names) != 1 or whole[0] is None:
            sentence = "wanlab loads VACE as one model, and which this part makes with the other file is not known: name model."
            self.reading.lose(vace.node, vace.input, vace.written, sentence)
            return names
        self._note(vace, f"Together with {names[0][1].value} it is {whole[0].name}.")
        return [(names[0][0], names[0][1], Told(whole[0]))]

    def _published(self, names: Sequence[tuple[str, Found, Told]], first: Found) -> None:
        """All files are those of one published checkpoint: its name stands for them and for the other parts."""
        reading, changes = self.reading, self.reading.changes
        known = names[0][2].known
        assert known is not None
        changes["model"] = Found(known.hub, first.node, first.input, first.written)
        for _, found, _ in names:
            self._note(found, f"By its name it is {known.name}: model is its folder on the hub, in diffusers' format.")
        if known.transformers > len(names):
            sentence = f"{known.name} has two transformers, and this run uses both; the workflow's sampler uses one."
            self._note(first, sentence)
        if known.why_not:
            reading.lose(first.node, first.input, first.written, f"wanlab cannot run it: it is {known.why_not}")
        quantization = changes.get("quantization")
        if "fp8" in str(first.value).lower() and (quantization is None or quantization.value == "disabled"):
            self._note(
                first, "The file's weights are in fp8, the hub's are not: quantization='fp8_e4m3fn_scaled' is near to it."
            )
        for part in _PARTS:
            if part in changes:
                found = changes.pop(part)
                reading.lose(
                    found.node, found.input, found.written, f"{known.name} brings its own {part}; say {part} for this file."
                )

    def _single_files(self, names: Sequence[tuple[str, Found, Told]]) -> None:
        """Files that are kept by name: one transformer, or that of high noise and that of low noise."""
        changes = self.reading.changes
        experts = [one.expert or expert for expert, _, one in names]
        order = sorted(range(len(names)), key=lambda k: experts[k] == "low")[:2]
        for place, name in zip(order, ("model", "transformer_2"), strict=False):
            found = names[place][1]
            changes[name] = Found(str(found.value).replace("\\", "/"), found.node, found.input, found.written)
            if found.value not in ("tiny", "tiny-i2v"):
                self._note(found, "The file is ComfyUI's, from its folder models; give the path where it lies here.")

    def _split(self) -> None:
        """Where the second transformer takes over: at the step at which the second sampler begins."""
        chain: Chain = self.reading.chain
        if chain.low is None or len({str(found.value) for _, found in self.reading.transformers}) < 2:
            return
        try:
            times = self.settings.levels().timesteps
        except SettingsError:
            return
        if not 0 < chain.split < len(times):
            return
        before, after = float(times[chain.split - 1]), float(times[chain.split])
        known = find_known(self.model.model)
        if known and known.boundary_ratio and after < known.boundary_ratio * 1000 <= before:
            return  # where this model's second transformer takes over anyway
        ratio = round((before + after) / 2000, 4)
        where = Found(ratio, chain.low, "start_step", chain.split)
        if not after < ratio * 1000 <= before or not 0.001 <= ratio <= 0.999:
            self.reading.lose(
                chain.low, "", chain.split, f"Between the timesteps {before:g} and {after:g} no boundary_ratio lies."
            )
            return
        self.model = self.model.but({"boundary_ratio": ratio})
        self._note(where, f"The second transformer takes over at step {chain.split}, which is boundary_ratio {ratio:g} here.")

    def _loras(self) -> list[str]:
        """The LoRAs, one by one; one that both halves of a run have is one for both."""
        entries: list[dict[str, Any]] = []
        for lora in self.reading.loras:
            entry = {**lora.entry, "file": lora.entry["file"].replace("\\", "/")}
            twin = next((one for one in entries if {**one, "expert": ""} == {**entry, "expert": ""}), None)
            if twin is not None:
                twin["expert"] = entry["expert"] if twin["expert"] == entry["expert"] else "both"
                continue
            try:
                self.model.but({"loras": [*entries, entry]})
            except SettingsError as error:
                self.reading.lose(lora.node, lora.input, lora.entry["file"], str(error).splitlines()[0])
                continue
            entries.append(entry)
        if entries:
            self.model = self.model.but({"loras": entries})
        return ["loras"] if entries else []

    def _tell_samplers(self) -> None:
        chain = self.reading.chain
        others = [one for one in self.samplers if one not in chain.nodes]
        where = Found(None, chain.last, "", None)
        if chain.low is not None:
            self._note(where, f"It goes on where {chain.high.label} stops, at step {chain.split}: the two are one run here.")
        if others:
            self._note(where, f"It is read of {len(self.samplers)} samplers; sampler= reads another: {listed(others)}.")


def _as_written(changes: dict[str, Found], hints: Mapping[str, Any]) -> None:
    """The schedule's own name, which wanlab wrote beside the sampler, where the levels are still those of that run."""
    schedule, solver = hints.get("schedule"), changes.get("solver")
    if not isinstance(schedule, str) or solver is None or hints.get("solver") != solver.value:
        return
    levels = changes.get("schedule") or changes.get("sigmas")
    if levels is None:
        return
    if hints.get("levels") == "listed" and "sigmas" in changes:
        if not _same_levels(changes, schedule):
            return
        del changes["sigmas"]
    elif hints.get("levels") != levels.value:
        return
    changes["schedule"] = Found(schedule, levels.node, levels.input, levels.written)


def _same_levels(changes: Mapping[str, Found], schedule: str) -> bool:
    """Whether the listed noise levels are those of this schedule."""
    found = {name: changes[name].value for name in ("solver", "steps", "shift") if name in changes}
    try:
        there = Settings().but({**found, "schedule": schedule}).levels().sigmas
        given = Settings().but({**found, "sigmas": changes["sigmas"].value}).levels().sigmas
    except SettingsError:
        return False
    return bool((abs(there - given) < 1e-6).all())


def _told_lora(lora: Any) -> dict[str, Any]:
    """A LoRA's settings as people write them: without those that are as declared."""
    return {name: value for name, value in lora.model_dump().items() if value != type(lora).model_fields[name].default}
