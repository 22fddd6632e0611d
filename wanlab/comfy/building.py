"""The nodes of a run: which there are, what they hold, and what hangs on what. No torch.

Values come from the same tables as those of reading: a box that becomes one setting as it is takes that setting's value;
the few that are not the same number have a way back here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wanlab.comfy import native_readings
from wanlab.comfy.backwards import BACK, of_format
from wanlab.comfy.layout import Piece
from wanlab.comfy.lora_readings import block_boxes
from wanlab.comfy.result import Entry
from wanlab.comfy.tables import KINDS
from wanlab.model_settings import LoraSettings
from wanlab.settings import ModelSettings, Settings
from wanlab.weights.registry import Known, find_known

_LEFT, _LOAD, _PARTS, _TEXT, _ARGS, _SAMPLE, _DECODE, _NOTE = range(-1, 7)  # columns, from left to right
_STANDARD = {  # the files that WanVideoWrapper's own workflows name, where wanlab's model brings its own
    "text_encoder": "umt5-xxl-enc-bf16.safetensors",
    "vae": "Wan2_1_VAE_bf16.safetensors",
    "image_encoder": "clip_vision_h.safetensors",
}
_OWN_LEVELS = {"unipc": "wan_unipc", "dpm++": "wan_dpmpp", "dpm++_sde": "wan_dpmpp"}
_CACHES = {"teacache": "WanVideoTeaCache", "magcache": "WanVideoMagCache", "easycache": "WanVideoEasyCache"}


class Builder:
    """Makes the nodes of a run with these settings; `remarks` says what its user has to know of them."""

    def __init__(self, settings: Settings, model: ModelSettings) -> None:
        self.settings, self.model = settings, model
        self.known: Known | None = find_known(model.model)
        self.values: dict[str, Any] = {**settings.flat(), **model.flat()}
        self.remarks: list[Entry] = []
        self._made: list[Piece] = []
        self._chains: dict[tuple[LoraSettings, ...], Piece | None] = {}

    def pieces(self) -> list[Piece]:
        """All nodes, each after those that hang on it."""
        vae = self._part("WanVideoVAELoader", "vae", _LOAD)
        texts = self._texts()
        embeds = self._embeds(vae)
        samples = self._samples(vae)
        last = self._samplers(texts, embeds, samples)
        decode = self._add("WanVideoDecode", _DECODE, self._boxes("WanVideoDecode"), vae=vae, samples=last)
        combine = {**self._boxes("VHS_VideoCombine"), **of_format(self.settings.clip.format), "save_metadata": True}
        self._add("VHS_VideoCombine", _DECODE, combine, images=decode).whole = False
        return self._made

    def _add(self, type: str, column: int, values: Mapping[str, Any] | None = None, **links: Piece | None) -> Piece:
        hung = {name: (source, 0) for name, source in links.items() if source is not None}
        piece = Piece(type, column, dict(values or {}), hung)
        self._made.append(piece)
        return piece

    def _boxes(self, type: str) -> dict[str, Any]:
        """What the boxes of a node hold, of those that become a setting; what cannot be told keeps the node's default."""
        found = {}
        for box in KINDS[type].boxes:
            back = BACK.get((type, box.name)) or BACK.get(("", box.becomes))
            if back:
                value = back(self)
            elif box.becomes in self.values and box.read is not None:
                value = self.values[box.becomes]
            else:
                continue
            if value is not None:
                found[box.name] = value
        return found

    def _part(self, type: str, setting: str, column: int) -> Piece:
        """The loader of the text encoder, the VAE or CLIP vision; the usual file where the model brings its own."""
        given = self.values[setting]
        [box] = [box.name for box in KINDS[type].boxes if box.becomes == setting]
        piece = self._add(type, column, {**self._boxes(type), box: given or _STANDARD[setting]})
        if not given:
            piece.hints = {"standard": _STANDARD[setting]}
        return piece

    def _texts(self) -> Piece:
        t5 = self._part("LoadWanVideoT5TextEncoder", "text_encoder", _LOAD)
        texts = self._add("WanVideoTextEncode", _TEXT, self._boxes("WanVideoTextEncode"), t5=t5)
        if not self.settings.nag:
            return texts
        single = self._add("WanVideoTextEncodeSingle", _TEXT, {"prompt": self.settings.negative_prompt}, t5=t5)
        single.title = "The negative prompt, for NAG"
        nag = self._boxes("WanVideoApplyNAG")
        return self._add("WanVideoApplyNAG", _TEXT, nag, original_text_embeds=texts, nag_text_embeds=single)

    def _pictures(self) -> tuple[Piece | None, Piece | None]:
        """The first and the last picture."""
        found: list[Piece | None] = []
        for setting in ("image", "end_image"):
            name = self.values[setting]
            found.append(self._add("LoadImage", _PARTS, {"image": name}) if name else None)
            if name:
                self._remark(setting, name, "Copy the picture into ComfyUI's folder input, or choose it in LoadImage.")
        return found[0], found[1]

    def _embeds(self, vae: Piece) -> Piece:
        """Size and length, with pictures if there are any."""
        first, last = self._pictures()
        if self.known and self.known.variant == "vace":
            frames = None
            if first or last:
                values = {"num_frames": self.settings.frames}
                frames = self._add("WanVideoVACEStartToEndFrame", _TEXT, values, start_image=first, end_image=last)
            piece = self._add("WanVideoVACEEncode", _TEXT, self._boxes("WanVideoVACEEncode"), vae=vae, input_frames=frames)
            if frames:
                piece.links["input_masks"] = (frames, 1)
            return piece
        if not first and not last:
            return self._add("WanVideoEmptyEmbeds", _TEXT, self._boxes("WanVideoEmptyEmbeds"))
        seen = None
        if self.known is None or self.known.image_encoder or self.settings.clip_embed_strength != 1:
            vision = self._part("CLIPVisionLoader", "image_encoder", _LOAD)
            values = self._boxes("WanVideoClipVisionEncode")
            seen = self._add("WanVideoClipVisionEncode", _TEXT, values, clip_vision=vision, image_1=first or last)
            if first and last:
                seen.links["image_2"] = (last, 0)
        values = self._boxes("WanVideoImageToVideoEncode")
        return self._add(
            "WanVideoImageToVideoEncode", _TEXT, values, vae=vae, clip_embeds=seen, start_image=first, end_image=last
        )

    def _samples(self, vae: Piece) -> Piece | None:
        """The clip to start from."""
        if not self.settings.samples:
            return None
        self._remark("samples", self.settings.samples, "Save the clip as mp4 into ComfyUI's folder input and choose it.")
        video = self._add("VHS_LoadVideo", _PARTS, {"video": self.settings.samples})
        return self._add("WanVideoEncode", _TEXT, {}, vae=vae, image=video)

    def _samplers(self, texts: Piece, embeds: Piece, samples: Piece | None) -> Piece:
        """The sampler; of two transformers one for each, of which the second goes on where the first stops."""
        links: dict[str, Piece | None] = {
            "text_embeds": texts,
            "image_embeds": embeds,
            "samples": samples,
            **self._techniques(),
        }
        values, sigmas, hints = self._levels()
        split = self._split()
        parts: list[tuple[str, dict[str, Any]]] = [("both", {})]
        if split is not None:
            parts = [("high", {"end_step": split}), ("low", {"start_step": split, "add_noise_to_samples": False})]
        models = [self._loader(expert) for expert, _ in parts]
        piece = embeds
        for (expert, ends), model in zip(parts, models, strict=True):
            piece = self._add("WanVideoSampler", _SAMPLE, {**values, **ends}, model=model, **links)
            piece.hints = hints
            links["samples"] = piece
            if sigmas:
                piece.links["sigmas"] = (sigmas, 0)
            self._cfg(piece, expert, split)
        return piece

    def _cfg(self, piece: Piece, expert: str, split: int | None) -> None:
        """A cfg for each step hangs on the sampler as a list."""
        cfg = self.settings.cfg
        if not isinstance(cfg, tuple):
            return
        part = {"high": cfg[:split], "low": cfg[split:]}.get(expert, cfg)
        listed = self._add("StringToFloatList", _ARGS, {"string": ", ".join(f"{one:.17g}" for one in part)})
        listed.title = "cfg for each step"
        self._made.remove(listed)
        self._made.insert(self._made.index(piece), listed)
        piece.links["cfg"] = (listed, 0)
        piece.values["cfg"] = part[0]

    def _split(self) -> int | None:
        """The step at which the second of two transformers takes over; None with one, or if it is never reached."""
        if not (self.model.transformer_2 or (self.known and self.known.transformers == 2)):
            return None
        ratio = self.model.boundary_ratio or (self.known.boundary_ratio if self.known else None) or 0.875
        split = int((self.settings.levels().timesteps >= ratio * 1000).sum())
        if 0 < split < self.settings.steps and not self.settings.start_step and not self.settings.end_step:
            return split
        self._remark("boundary_ratio", ratio, "Of the two transformers only the first is written; see the noise levels.")
        return None

    def _levels(self) -> tuple[dict[str, Any], Piece | None, dict[str, Any]]:
        """The sampler's boxes, the node of noise levels that hangs on it, and what tells wanlab their own name."""
        settings = self.settings
        solver, schedule = settings.solver, settings.schedule
        values = {**self._boxes("WanVideoSampler"), "scheduler": solver, "start_step": settings.first_step}
        if settings.denoise_strength < 1:
            values["start_step"] = 0
        if isinstance(settings.cfg, tuple):
            values["cfg"] = settings.cfg[0]
        hints = {"solver": solver, "schedule": schedule}
        if settings.sigmas is not None:
            return values, self._listed_levels(settings.sigmas), {}
        own = _OWN_LEVELS.get(solver)
        if schedule == own:
            return values, None, {}
        if own and schedule in ("solver", "diffusers_unipc"):
            self._remark("schedule", schedule, "WanVideoWrapper's solver has Wan's own levels, which differ by 0.001 at most.")
            return values, None, {**hints, "levels": own}
        named = "simple" if schedule == "ideal" or (schedule == "solver" and solver == "euler") else schedule
        if named in native_readings.SCHEDULERS:
            if named != schedule:
                self._remark("schedule", schedule, "It is written as ComfyUI's simple, whose levels are rounded to 0.001.")
            shift = self._add("DummyComfyWanModelObject", _PARTS, {"shift": settings.shift})
            boxes = {"scheduler": named, "steps": settings.steps}
            levels = self._add("BasicScheduler", _ARGS, boxes, model=shift)
            return values, levels, {**hints, "levels": named}
        exact = settings.levels().sigmas
        return values, self._listed_levels(exact), {**hints, "levels": "listed"}

    def _listed_levels(self, levels: Any) -> Piece:
        numbers = [*map(float, levels)]
        shown = [
            np.format_float_positional(np.float32(one), trim="-") if float(np.float32(one)) == one else repr(one)
            for one in numbers
        ]
        if numbers[-1] != 0:
            shown.append("0")
        return self._add("ManualSigmas", _ARGS, {"sigmas": ", ".join(shown)})

    def _techniques(self) -> dict[str, Piece | None]:
        """The nodes of techniques, by the socket on which they hang."""
        settings = self.settings
        cache = _CACHES.get(settings.cache.kind) if settings.cache else None
        kinds = {
            "feta_args": "WanVideoEnhanceAVideo" if settings.feta else None,
            "context_options": "WanVideoContextOptions" if settings.context else None,
            "cache_args": cache,
            "slg_args": "WanVideoSLG" if settings.slg else None,
            "loop_args": "WanVideoLoopArgs" if settings.loop else None,
            "freeinit_args": "WanVideoFreeInitArgs" if settings.freeinit else None,
        }
        found: dict[str, Piece | None] = {
            socket: self._add(type, _ARGS, self._boxes(type)) for socket, type in kinds.items() if type
        }
        if settings.cfg_zero:
            steps = settings.cfg_zero.zero_steps
            values = {"cfg_zero_star": True, "use_zero_init": steps > 0, "zero_star_steps": max(0, steps - 1)}
            found["experimental_args"] = self._add("WanVideoExperimentalArgs", _ARGS, values)
        return found

    def _loader(self, expert: str) -> Piece:
        """The loader of a transformer, with what hangs on it."""
        model = self.model
        swap = compile_args = extra = None
        if model.blocks_to_swap or model.offload_text_embedding or model.offload_image_embedding:
            swap = self._once("WanVideoBlockSwap")
        if model.compile:
            compile_args = self._once("WanVideoTorchCompileSettings")
        lora = self._chain(tuple(one for one in model.loras if expert in (one.expert, "both") or one.expert == "both"))
        name, part = self._file(expert)
        if part:
            extra = self._add("WanVideoExtraModelSelect", _LOAD, {"extra_model": part})
        values = {**self._boxes("WanVideoModelLoader"), "model": name}
        links = {"block_swap_args": swap, "compile_args": compile_args, "lora": lora, "extra_model": extra}
        return self._add("WanVideoModelLoader", _PARTS, values, **links)

    def _once(self, type: str) -> Piece:
        """A node on which the loaders of both transformers hang."""
        found = next((piece for piece in self._made if piece.type == type), None)
        return found or self._add(type, _LOAD, self._boxes(type))

    def _chain(self, loras: tuple[LoraSettings, ...]) -> Piece | None:
        """The LoRAs one behind the other; the same ones are one chain for both transformers."""
        if loras not in self._chains:
            lora = None
            for one in loras:
                lora = self._lora(one, lora)
            self._chains[loras] = lora
        return self._chains[loras]

    def _lora(self, one: LoraSettings, before: Piece | None) -> Piece:
        values = {"lora": one.file, "strength": one.strength, "merge_loras": one.merge}
        blocks = None
        if one.blocks != "all":
            blocks = self._add("WanVideoLoraBlockEdit", _LEFT, block_boxes(one.blocks))
        if isinstance(one.strength, tuple):
            values["strength"] = one.strength[0]
        piece = self._add("WanVideoLoraSelect", _LOAD, values, prev_lora=before, blocks=blocks)
        if isinstance(one.strength, tuple):
            listed = self._add("StringToFloatList", _LEFT, {"string": ", ".join(f"{s:.17g}" for s in one.strength)})
            self._made.insert(self._made.index(piece), self._made.pop())
            piece.links["strength"] = (listed, 0)
        return piece

    def _file(self, expert: str) -> tuple[str, str]:
        """The file of a transformer as WanVideoWrapper's own files are named, and that of the part of VACE."""
        if expert == "low" and self.model.transformer_2:
            return self.model.transformer_2, ""
        if self.known is None:
            if self.model.model in ("tiny", "tiny-i2v"):
                self._remark("model", self.model.model, "The tiny Wan is no file of ComfyUI; choose a model in the loader.")
            return self.model.model, ""
        version, _, rest = self.known.name.removeprefix("Wan").partition("-")
        name = f"Wan{version.replace('.', '_')}-{rest}"
        part = ""
        if self.known.variant == "vace":
            size = self.known.size.replace(".", "_")
            part, name = f"Wan{version.replace('.', '_')}-VACE_module_{size}_bf16.safetensors", name.replace("VACE", "T2V")
        if expert != "both":
            name += f"-{expert.upper()}"
        return f"{name}_bf16.safetensors", part

    def _remark(self, setting: str, value: Any, reason: str) -> None:
        entry = Entry("model" if setting in ("model", "boundary_ratio") else "run", setting, value, reason)
        if entry not in self.remarks:
            self.remarks.append(entry)
