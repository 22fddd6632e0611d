"""Small workflows, written by hand, for the tests: in the form of ComfyUI's server and of its editor."""

from __future__ import annotations

from typing import Any


def server(**nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Nodes by name, each a type and its inputs; ("name", slot) as an input is a link."""
    numbers = {name: str(k) for k, name in enumerate(nodes, start=1)}

    def resolved(value: Any) -> Any:
        return [numbers[value[0]], value[1]] if isinstance(value, tuple) else value

    return {
        numbers[name]: {"class_type": type, "inputs": {key: resolved(value) for key, value in inputs.items()}}
        for name, (type, inputs) in nodes.items()
    }


def native(**changes: Any) -> dict[str, Any]:
    """Text to video with ComfyUI's own nodes; `changes` go into the KSampler."""
    return server(
        unet=("UNETLoader", {"unet_name": "wan2.1_t2v_1.3B_fp16.safetensors", "weight_dtype": "default"}),
        shifted=("ModelSamplingSD3", {"model": ("unet", 0), "shift": 5.0}),
        clip=("CLIPLoader", {"clip_name": "umt5_xxl_fp16.safetensors", "type": "wan", "device": "default"}),
        yes=("CLIPTextEncode", {"clip": ("clip", 0), "text": "a blue square"}),
        no=("CLIPTextEncode", {"clip": ("clip", 0), "text": "blurry"}),
        size=("EmptyHunyuanLatentVideo", {"width": 64, "height": 48, "length": 17, "batch_size": 1}),
        sampler=(
            "KSampler",
            {
                "model": ("shifted", 0),
                "positive": ("yes", 0),
                "negative": ("no", 0),
                "latent_image": ("size", 0),
                "seed": 7,
                "steps": 4,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": 1.0,
                **changes,
            },
        ),
        vae=("VAELoader", {"vae_name": "wan_2.1_vae.safetensors"}),
        frames=("VAEDecode", {"samples": ("sampler", 0), "vae": ("vae", 0)}),
        film=("CreateVideo", {"images": ("frames", 0), "fps": 16.0}),
        save=("SaveVideo", {"video": ("film", 0), "filename_prefix": "video/square", "format": "auto", "codec": "auto"}),
    )


def wrapper(**more: Any) -> dict[str, Any]:
    """Text to video with WanVideoWrapper's nodes; `more` are nodes by name, or changes of a node's inputs."""
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "t5": ("LoadWanVideoT5TextEncoder", {"model_name": "umt5.safetensors", "precision": "bf16"}),
        "loader": (
            "WanVideoModelLoader",
            {"model": "mine.safetensors", "base_precision": "bf16", "quantization": "disabled", "load_device": "main_device"},
        ),
        "texts": ("WanVideoTextEncode", {"t5": ("t5", 0), "positive_prompt": "a red panda", "negative_prompt": "blurry"}),
        "size": ("WanVideoEmptyEmbeds", {"width": 832, "height": 480, "num_frames": 81}),
        "sampler": (
            "WanVideoSampler",
            {
                "model": ("loader", 0),
                "text_embeds": ("texts", 0),
                "image_embeds": ("size", 0),
                "steps": 10,
                "cfg": 6.0,
                "shift": 5.0,
                "seed": 42,
                "force_offload": True,
                "scheduler": "unipc",
                "riflex_freq_index": 0,
            },
        ),
        "vae": ("WanVideoVAELoader", {"model_name": "vae.safetensors", "precision": "bf16"}),
        "frames": ("WanVideoDecode", {"vae": ("vae", 0), "samples": ("sampler", 0), "enable_vae_tiling": False}),
        "save": (
            "VHS_VideoCombine",
            {"images": ("frames", 0), "frame_rate": 16, "format": "video/h264-mp4", "filename_prefix": "panda"},
        ),
    }
    for name, change in more.items():
        nodes[name] = (nodes[name][0], {**nodes[name][1], **change}) if isinstance(change, dict) else change
    return server(**nodes)


def hung(socket: str, type: str, **inputs: Any) -> dict[str, Any]:
    """WanVideoWrapper's workflow with one node more on a socket of its sampler."""
    return wrapper(more=(type, inputs), sampler={socket: ("more", 0)})


def editor(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The editor's form of nodes made by `box`; `more` goes into the document."""
    links, found = [], []
    for node in nodes:
        inputs = []
        for slot, (name, (kind, source)) in enumerate(node.pop("links").items()):
            link = None
            if source:
                link = len(links) + 1
                links.append([link, source[0], source[1], node["id"], slot, kind])
            socket = {"name": name, "type": kind, "link": link}
            inputs.append({**socket, "widget": {"name": name}} if name in node["widgets"] else socket)
        node.pop("widgets")
        found.append({**node, "inputs": inputs})
    return {"nodes": found, "links": links, "version": 0.4, **more}


def box(
    id: int | str,
    type: str,
    values: Any = (),
    links: dict[str, tuple[str, tuple[int | str, int] | None]] | None = None,
    *,
    outputs: tuple[str, ...] = (),
    widgets: tuple[str, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    """A node of the editor: its list of values, and its inputs by name with a type and what they hang on."""
    return {
        "id": id,
        "type": type,
        "mode": 0,
        "widgets_values": values if isinstance(values, dict) else list(values),
        "links": dict(links or {}),
        "widgets": widgets,
        "outputs": [{"name": kind, "type": kind} for kind in outputs],
        **more,
    }
