"""All nodes that wanlab knows, by their type. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from wanlab.comfy import native_tables, other_tables, wrapper_model_tables, wrapper_tables
from wanlab.comfy.kinds import Kind

# In chapters, as docs/comfyui.md has them.
CHAPTERS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {
        "ComfyUI-WanVideoWrapper: samplers": wrapper_tables.SAMPLERS,
        "ComfyUI-WanVideoWrapper: techniques": wrapper_tables.TECHNIQUES,
        "ComfyUI-WanVideoWrapper: models": wrapper_model_tables.LOADERS,
        "ComfyUI-WanVideoWrapper: texts, pictures and frames": wrapper_model_tables.ENCODERS,
        "ComfyUI's own nodes: samplers": {**native_tables.SAMPLERS, **native_tables.PARTS},
        "ComfyUI's own nodes and KJNodes: models": native_tables.MODELS,
        "ComfyUI's own nodes and KJNodes: techniques": native_tables.TECHNIQUES,
        "ComfyUI's own nodes: texts, pictures and latents": native_tables.LATENTS,
        "Nodes that write clips": other_tables.SAVERS,
        "Pictures and videos": other_tables.PICTURES,
        "Values for other nodes": other_tables.HELPERS,
    }
)
KINDS: Mapping[str, Kind] = MappingProxyType({name: kind for kinds in CHAPTERS.values() for name, kind in kinds.items()})
