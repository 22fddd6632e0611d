"""A graph written down: in the form of ComfyUI's editor, with places and sizes, and in that of its server. No torch.

Nodes stand in columns from left to right, as data flows, one below the other without overlap. The editor wants the values of a
node as a list in the order of its boxes, and what every socket and output is called and of what type.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wanlab.comfy.tables import KINDS

_GAP, _LINE, _WIDE, _TITLE = 40, 24, 340, 60  # pixels: between nodes, a socket or box, a column, a node's head and foot
_TALL = {"WanVideoTextEncode": 260, "WanVideoTextEncodeSingle": 160, "VHS_VideoCombine": 240, "LoadImage": 280, "Note": 0}
_SEEDS = ("seed", "noise_seed")

# What goes through a socket, by the socket's name; an output is (name, type).
_SOCKET_TYPES = {
    "model": "WANVIDEOMODEL",
    "image_embeds": "WANVIDIMAGE_EMBEDS",
    "text_embeds": "WANVIDEOTEXTEMBEDS",
    "original_text_embeds": "WANVIDEOTEXTEMBEDS",
    "nag_text_embeds": "WANVIDEOTEXTEMBEDS",
    "samples": "LATENT",
    "feta_args": "FETAARGS",
    "context_options": "WANVIDCONTEXT",
    "cache_args": "CACHEARGS",
    "slg_args": "SLGARGS",
    "loop_args": "LOOPARGS",
    "experimental_args": "EXPERIMENTALARGS",
    "freeinit_args": "FREEINITARGS",
    "sigmas": "SIGMAS",
    "compile_args": "WANCOMPILEARGS",
    "block_swap_args": "BLOCKSWAPARGS",
    "lora": "WANVIDLORA",
    "prev_lora": "WANVIDLORA",
    "blocks": "SELECTEDBLOCKS",
    "extra_model": "VACEPATH",
    "t5": "WANTEXTENCODER",
    "vae": "WANVAE",
    "clip_vision": "CLIP_VISION",
    "clip_embeds": "WANVIDIMAGE_CLIPEMBEDS",
    "image": "IMAGE",
    "images": "IMAGE",
    "image_1": "IMAGE",
    "image_2": "IMAGE",
    "start_image": "IMAGE",
    "end_image": "IMAGE",
    "input_frames": "IMAGE",
    "input_masks": "MASK",
}
_OUTPUTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "WanVideoModelLoader": (("model", "WANVIDEOMODEL"),),
    "WanVideoBlockSwap": (("block_swap_args", "BLOCKSWAPARGS"),),
    "WanVideoTorchCompileSettings": (("torch_compile_args", "WANCOMPILEARGS"),),
    "WanVideoLoraSelect": (("lora", "WANVIDLORA"),),
    "WanVideoLoraBlockEdit": (("blocks", "SELECTEDBLOCKS"),),
    "WanVideoExtraModelSelect": (("extra_model", "VACEPATH"),),
    "WanVideoVAELoader": (("vae", "WANVAE"),),
    "LoadWanVideoT5TextEncoder": (("wan_t5_model", "WANTEXTENCODER"),),
    "CLIPVisionLoader": (("CLIP_VISION", "CLIP_VISION"),),
    "WanVideoTextEncode": (("text_embeds", "WANVIDEOTEXTEMBEDS"),),
    "WanVideoTextEncodeSingle": (("text_embeds", "WANVIDEOTEXTEMBEDS"),),
    "WanVideoApplyNAG": (("text_embeds", "WANVIDEOTEXTEMBEDS"),),
    "WanVideoEmptyEmbeds": (("image_embeds", "WANVIDIMAGE_EMBEDS"),),
    "WanVideoImageToVideoEncode": (("image_embeds", "WANVIDIMAGE_EMBEDS"),),
    "WanVideoClipVisionEncode": (("image_embeds", "WANVIDIMAGE_CLIPEMBEDS"),),
    "WanVideoVACEEncode": (("vace_embeds", "WANVIDIMAGE_EMBEDS"),),
    "WanVideoVACEStartToEndFrame": (("images", "IMAGE"), ("masks", "MASK")),
    "WanVideoEncode": (("samples", "LATENT"),),
    "WanVideoSampler": (("samples", "LATENT"), ("denoised_samples", "LATENT")),
    "WanVideoDecode": (("images", "IMAGE"),),
    "WanVideoEnhanceAVideo": (("feta_args", "FETAARGS"),),
    "WanVideoContextOptions": (("context_options", "WANVIDCONTEXT"),),
    "WanVideoTeaCache": (("cache_args", "CACHEARGS"),),
    "WanVideoMagCache": (("cache_args", "CACHEARGS"),),
    "WanVideoEasyCache": (("cache_args", "CACHEARGS"),),
    "WanVideoSLG": (("slg_args", "SLGARGS"),),
    "WanVideoLoopArgs": (("loop_args", "LOOPARGS"),),
    "WanVideoExperimentalArgs": (("exp_args", "EXPERIMENTALARGS"),),
    "WanVideoFreeInitArgs": (("freeinit_args", "FREEINITARGS"),),
    "ManualSigmas": (("SIGMAS", "SIGMAS"),),
    "BasicScheduler": (("SIGMAS", "SIGMAS"),),
    "DummyComfyWanModelObject": (("model", "MODEL"),),
    "StringToFloatList": (("FLOAT", "FLOAT"),),
    "LoadImage": (("IMAGE", "IMAGE"), ("MASK", "MASK")),
    "VHS_LoadVideo": (("IMAGE", "IMAGE"), ("frame_count", "INT"), ("audio", "AUDIO"), ("video_info", "VHS_VIDEOINFO")),
    "VHS_VideoCombine": (("Filenames", "VHS_FILENAMES"),),
}
# Sockets of these names that are of ComfyUI's own type instead of WanVideoWrapper's.
_FOREIGN = {("BasicScheduler", "model"): "MODEL", ("VHS_VideoCombine", "vae"): "VAE"}


@dataclass
class Piece:
    """A node to be written: what its boxes hold where that is not the default, and what hangs on its sockets."""

    type: str
    column: int
    values: dict[str, Any] = field(default_factory=dict)
    links: dict[str, tuple[Piece, int]] = field(default_factory=dict)
    title: str = ""
    hints: dict[str, Any] = field(default_factory=dict)
    whole: bool = True  # all boxes of its kind, or only those that are given

    def boxes(self) -> dict[str, Any]:
        """All its boxes in the editor's order."""
        kind = KINDS.get(self.type) if self.whole else None
        return {**(kind.defaults if kind else {}), **self.values}


def as_server(pieces: Sequence[Piece]) -> dict[str, Any]:
    """What the server runs; notes are for people only."""
    ids = {id(piece): str(k) for k, piece in enumerate(pieces, start=1)}
    found = {}
    for piece in pieces:
        if piece.type == "Note":
            continue
        inputs = {name: _listed(value) for name, value in piece.boxes().items()}
        inputs |= {name: [ids[id(source)], slot] for name, (source, slot) in piece.links.items()}
        meta: dict[str, Any] = {"title": piece.title or piece.type}
        if piece.hints:
            meta["wanlab"] = piece.hints
        found[ids[id(piece)]] = {"class_type": piece.type, "inputs": inputs, "_meta": meta}
    return found


def as_editor(pieces: Sequence[Piece]) -> dict[str, Any]:
    """What the editor opens."""
    ids = {id(piece): k for k, piece in enumerate(pieces, start=1)}
    places = _places(pieces)
    nodes: list[dict[str, Any]] = []
    links: list[list[Any]] = []
    going: dict[tuple[int, int], list[int]] = {}
    for order, piece in enumerate(pieces):
        inputs = []
        for slot, (name, is_box) in enumerate(_sockets(piece)):
            kind = _type_of(piece, name)
            link = None
            if name in piece.links:
                source, output = piece.links[name]
                link = len(links) + 1
                links.append([link, ids[id(source)], output, ids[id(piece)], slot, kind])
                going.setdefault((ids[id(source)], output), []).append(link)
            inputs.append({"name": name, "type": kind, "link": link, **({"widget": {"name": name}} if is_box else {})})
        nodes.append(_node(piece, ids[id(piece)], order, inputs, places[id(piece)]))
    for node in nodes:
        for slot, output in enumerate(node["outputs"]):
            output["links"] = going.get((node["id"], slot), [])
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, repr([(piece.type, piece.boxes()) for piece in pieces]))),
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _node(piece: Piece, number: int, order: int, inputs: list[Any], place: tuple[int, int]) -> dict[str, Any]:
    outputs = [{"name": name, "type": kind, "links": []} for name, kind in _OUTPUTS.get(piece.type, ())]
    properties: dict[str, Any] = {} if piece.type == "Note" else {"Node name for S&R": piece.type}
    if piece.hints:
        properties["wanlab"] = piece.hints
    node = {
        "id": number,
        "type": piece.type,
        "pos": list(place),
        "size": [_WIDE, _height(piece)],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": properties,
        "widgets_values": _values(piece),
    }
    return {**node, **({"title": piece.title} if piece.title else {})}


def _values(piece: Piece) -> Any:
    boxes = piece.boxes()
    if piece.type == "VHS_VideoCombine":
        return boxes
    found = []
    for name, value in boxes.items():
        found.append(_listed(value))
        if name in _SEEDS:
            found.append("fixed")
    return found


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _sockets(piece: Piece) -> list[tuple[str, bool]]:
    """The inputs of a node by name: its sockets, and boxes that hang on something."""
    kind = KINDS.get(piece.type)
    named = [socket.name for socket in kind.sockets if not socket.why and socket.name in _SOCKET_TYPES] if kind else []
    named += [name for name in piece.links if name not in named and name not in piece.boxes()]
    return [(name, False) for name in named] + [(name, True) for name in piece.links if name in piece.boxes()]


def _type_of(piece: Piece, name: str) -> str:
    return _FOREIGN.get((piece.type, name)) or _SOCKET_TYPES.get(name, "FLOAT")


def _height(piece: Piece) -> int:
    if piece.type == "Note":
        lines = str(piece.values.get("text", "")).split("\n")
        return _TITLE + 18 * sum(1 + len(line) // 44 for line in lines)
    rows = len(piece.boxes()) + max(len(_sockets(piece)), len(_OUTPUTS.get(piece.type, ())))
    return max(_TITLE + _LINE * rows, _TALL.get(piece.type, 0))


def _places(pieces: Sequence[Piece]) -> dict[int, tuple[int, int]]:
    """Where each node stands: its column, below the ones before it."""
    tops: dict[int, int] = {}
    found = {}
    for piece in pieces:
        top = tops.get(piece.column, 0)
        found[id(piece)] = (piece.column * (_WIDE + 2 * _GAP), top)
        tops[piece.column] = top + _height(piece) + _GAP + 30  # the title bar stands above a node's place
    return found
