"""The nodes of ComfyUI-WanVideoWrapper that load, that encode texts and pictures, and that decode. No torch."""

from __future__ import annotations

from wanlab.comfy import lora_readings as loras
from wanlab.comfy import readings as read
from wanlab.comfy import sentences as why
from wanlab.comfy.kinds import Box, Kind, Socket, along, out, take

_DEBUG = "It is for finding faults."
_LOADS = out("load_device", "offload_device", why.WAITING, "main_device")
_MERGE = along("merge_loras", True, "loras", "Becomes merge.")
_LOW = out("low_mem_load", False, "It is about how the file is read.", True)

LOADERS: dict[str, Kind] = {
    "WanVideoModelLoader": Kind(
        "Loads the transformer.",
        (
            take("model", "", "model", read.model_file),
            take("base_precision", "bf16", "base_precision"),
            take("quantization", "disabled", "quantization", read.quantization),
            out("load_device", "main_device", why.WAITING),
            take("attention_mode", "sdpa", "attention_mode"),
            out("rms_norm_function", "default", "It computes the norm in another way with the same result.", "pytorch"),
        ),
        (
            Socket("compile_args"),
            Socket("block_swap_args"),
            Socket("lora", role="merged"),
            Socket("vram_management_args"),
            Socket("vace_model", role="vace"),
            Socket("extra_model", role="vace"),
            Socket("fantasytalking_model", why=why.TALKING),
            Socket("multitalk_model", why=why.TALKING),
            Socket("fantasyportrait_model", why=why.POSES),
        ),
    ),
    "WanVideoBlockSwap": Kind(
        "How many blocks wait outside the GPU.",
        (
            take("blocks_to_swap", 20, "blocks_to_swap", read.whole),
            take("offload_img_emb", False, "offload_image_embedding"),
            take("offload_txt_emb", False, "offload_text_embedding"),
            take("use_non_blocking", False, "use_non_blocking"),
            out("vace_blocks_to_swap", 0, "The blocks of VACE itself stay on the device."),
            take("prefetch_blocks", 0, "prefetch_blocks", read.whole),
            out("block_swap_debug", False, _DEBUG),
        ),
    ),
    "WanVideoSetBlockSwap": Kind("Adds WanVideoBlockSwap.", sockets=(Socket("model"), Socket("block_swap_args"))),
    "WanVideoVRAMManagement": Kind(
        "Layers that wait outside the GPU one by one.",
        (Box("offload_percent", None, "", "wanlab moves whole blocks: blocks_to_swap, or placement='auto' to choose it."),),
    ),
    "WanVideoTorchCompileSettings": Kind(
        "torch.compile.",
        (
            take("backend", "inductor", "compile.backend"),
            take("fullgraph", False, "compile.fullgraph"),
            take("mode", "default", "compile.mode"),
            take("dynamic", False, "compile.dynamic"),
            take("dynamo_cache_size_limit", 64, "compile.recompile_limit", read.whole),
            take("compile_transformer_blocks_only", True, "compile.whole", read.blocks_only, "The opposite."),
            out("dynamo_recompile_limit", 128, why.COMPILER),
            out("force_parameter_static_shapes", False, why.COMPILER, True),
            out("allow_unmerged_lora_compile", False, why.COMPILER),
        ),
        older=(("backend", "fullgraph", "mode", "dynamic", "dynamo_cache_size_limit", "compile_transformer_blocks"),),
    ),
    "WanVideoLoraSelect": Kind(
        "A LoRA.",
        (
            take("lora", "", "loras", loras.wrapper_lora),
            along("strength", 1.0, "loras", "Becomes strength."),
            _LOW,
            _MERGE,
        ),
        (Socket("prev_lora"), Socket("blocks", role="blocks")),
    ),
    "WanVideoLoraSelectMulti": Kind(
        "Five LoRAs.",
        (
            take("lora_0", "none", "loras", loras.wrapper_loras),
            along("strength_0", 1.0, "loras", "Becomes strength."),
            *(
                along(f"{name}_{k}", default, "loras", note)
                for k in range(1, 5)
                for name, default, note in (("lora", "none", "The next one."), ("strength", 1.0, "Becomes strength."))
            ),
            _LOW,
            _MERGE,
        ),
        (Socket("prev_lora"), Socket("blocks", role="blocks")),
    ),
    "WanVideoLoraBlockEdit": Kind(
        "The blocks that a LoRA changes.",
        (
            *(along(f"blocks.{k}.", True, "loras", "Becomes blocks.") for k in range(40)),
            out("layer_filter", "", "A LoRA is for all layers of a block."),
        ),
    ),
    "WanVideoSetLoRAs": Kind(
        "Adds LoRAs that are computed beside the weights.", sockets=(Socket("model"), Socket("lora", role=loras.BESIDE))
    ),
    "WanVideoSetAttentionModeOverride": Kind(
        "Another attention for some steps.",
        tuple(
            Box(name, None, "", "The way to compute attention is the same on all steps.")
            for name in ("attention_mode", "start_step", "end_step", "verbose")
        ),
        (Socket("model"), Socket("blocks", role="same")),
    ),
    "WanVideoVACEModelSelect": Kind(
        "The part of VACE, beside a text-to-video model.",
        (take("vace_model", None, "model", read.vace_file, "With its text-to-video model it is VACE as one model."),),
    ),
    "WanVideoExtraModelSelect": Kind(
        "A part beside the model, mostly VACE.",
        (take("extra_model", None, "model", read.vace_file, "With its text-to-video model it is VACE as one model."),),
        (Socket("prev_model"),),
    ),
    "WanVideoVAELoader": Kind(
        "Loads the VAE.",
        (
            take("model_name", "", "vae", read.part_file),
            take("precision", "bf16", "vae_precision"),
            out("use_cpu_cache", False, why.WAITING),
            out("verbose", False, _DEBUG),
        ),
        (Socket("compile_args", why="The VAE is not compiled."),),
    ),
    "LoadWanVideoT5TextEncoder": Kind(
        "Loads the text encoder.",
        (
            take("model_name", "", "text_encoder", read.part_file),
            out("precision", "bf16", why.ENCODER),
            _LOADS,
            out("quantization", "disabled", why.ENCODER),
        ),
    ),
    "LoadWanVideoClipTextEncoder": Kind(
        "Loads CLIP vision.",
        (take("model_name", "", "image_encoder", read.part_file), out("precision", "fp16", why.ENCODER), _LOADS),
    ),
}

_DISK = out("use_disk_cache", False, "The lab keeps what the encoder said anyway.", True)
_T5 = Socket("t5")
_MODEL = Socket("model_to_offload", why="It says only what makes room for the encoder.")


def _device(value: object, at: read.At) -> object:
    """Where the text encoder computes; gpu is where the model does."""
    return "cpu" if value == "cpu" else read.Many()


_DEVICE = take("device", "gpu", "text_encoder_device", _device, "cpu is taken; gpu is where the model computes.")
_SIZE = (
    take("width", 832, "width", read.whole),
    take("height", 480, "height", read.whole),
    take("num_frames", 81, "frames", read.whole),
)
_EMBEDS = Socket("control_embeds", why=why.POSES)
_EXTRA = Socket("extra_latents", why="Further latents behind the clip's are not made.")
_STARTS = take("start_latent_strength", 1.0, "start_latent_strength", read.fraction)
_NOISE = take("noise_aug_strength", 0.0, "noise_aug_strength", read.fraction)
_KEEPS = out("force_offload", True, why.WAITING, False)
_TILED = out("tiled_vae", False, "vae_tiling holds for encoding and decoding.")
_TILES = (
    take("enable_vae_tiling", False, "vae_tiling"),
    take("tile_x", 272, "vae_tile", read.tile),
    along("tile_y", 272, "vae_tile", "Must be as tile_x."),
    take("tile_stride_x", 144, "vae_tile_stride", read.tile_stride),
    along("tile_stride_y", 128, "vae_tile_stride", "Must be as tile_stride_x."),
)

ENCODERS: dict[str, Kind] = {
    "WanVideoTextEncode": Kind(
        "Reads the prompts.",
        (
            take("positive_prompt", "", "prompt", read.text),
            take("negative_prompt", "", "negative_prompt", read.negative),
            _KEEPS,
            _DISK,
            _DEVICE,
        ),
        (_T5, _MODEL),
    ),
    "WanVideoTextEncodeCached": Kind(
        "Loads the text encoder and reads the prompts.",
        (
            take("model_name", "", "text_encoder", read.part_file),
            out("precision", "bf16", why.ENCODER),
            take("positive_prompt", "", "prompt", read.text),
            take("negative_prompt", "", "negative_prompt", read.negative),
            out("quantization", "disabled", why.ENCODER),
            out("use_disk_cache", True, "The lab keeps what the encoder said anyway.", False),
            _DEVICE,
        ),
        (Socket("extender_args", why="Prompts are not rewritten by a language model."),),
    ),
    "WanVideoTextEncodeSingle": Kind(
        "Reads one prompt.",
        (take("prompt", "", "prompt or negative_prompt", read.text), _KEEPS, _DISK, _DEVICE),
        (_T5, _MODEL),
    ),
    "WanVideoTextEmbedBridge": Kind(
        "Takes what ComfyUI's own nodes read.",
        sockets=(Socket("positive", role="positive"), Socket("negative", role="negative")),
    ),
    "WanVideoEmptyEmbeds": Kind("The clip's size and length.", _SIZE, (_EMBEDS, _EXTRA)),
    "WanVideoImageToVideoEncode": Kind(
        "First and last picture, size and length.",
        (
            *_SIZE,
            _NOISE,
            _STARTS,
            take("end_latent_strength", 1.0, "end_latent_strength", read.fraction),
            _KEEPS,
            out("fun_or_fl2v_model", True, "wanlab knows from the weights how a last picture is given.", False),
            _TILED,
            out("augment_empty_frames", 0.0, "The empty frames stay as the model knows them."),
        ),
        (
            Socket("vae"),
            Socket("start_image", role="image"),
            Socket("end_image", role="end_image"),
            Socket("clip_embeds"),  # after the pictures, which CLIP vision mostly sees too
            _EMBEDS,
            Socket("temporal_mask", why=why.NO_MASK),
            _EXTRA,
            Socket("add_cond_latents", why=why.POSES),
            Socket("empty_frame_pad_image", why="The empty frames stay as the model knows them."),
        ),
    ),
    "WanVideoImageClipEncode": Kind(
        "First picture, size and length (an older node).",
        (
            take("generation_width", 832, "width", read.whole),
            take("generation_height", 480, "height", read.whole),
            take("num_frames", 81, "frames", read.whole),
            _KEEPS,
            _NOISE,
            take("latent_strength", 1.0, "start_latent_strength", read.fraction),
            take("clip_embed_strength", 1.0, "clip_embed_strength", read.fraction),
            out("adjust_resolution", False, "The size is as width and height say, whatever the picture's proportions."),
        ),
        (Socket("clip_vision"), Socket("clip"), Socket("image", role="image"), Socket("vae")),
    ),
    "WanVideoClipVisionEncode": Kind(
        "What CLIP vision sees in the pictures.",
        (
            take("strength_1", 1.0, "clip_embed_strength", read.fraction),
            out("strength_2", 1.0, "clip_embed_strength holds for both pictures."),
            out("crop", "center", "CLIP vision sees the whole picture.", "disabled"),
            out("combine_embeds", "average", "How two pictures are put together is as the model was trained.", "concat"),
            _KEEPS,
            out("tiles", 0, "Pictures are not seen in tiles."),
            out("ratio", 0.5, "Pictures are not seen in tiles.", 0.2, 0.20000000000000004),
        ),
        (
            Socket("clip_vision"),
            Socket("image_1", role="seen"),
            Socket("image_2", role="seen"),
            Socket("negative_image", why="A picture for the negative pass is not made."),
        ),
    ),
    "WanVideoVACEEncode": Kind(
        "Size, length and known frames for VACE.",
        (
            *_SIZE,
            take("strength", 1.0, "vace_strength", read.fraction),
            out("vace_start_percent", 0.0, why.ALL_STEPS),
            out("vace_end_percent", 1.0, why.ALL_STEPS),
            _TILED,
        ),
        (
            Socket("vae"),
            Socket("input_frames", role="frames"),
            Socket("ref_images", why="Pictures of what is to be seen are not given to VACE, only first and last frames."),
            Socket("input_masks", role="mask"),
            Socket("prev_vace_embeds", why="One set of known frames is given to VACE."),
        ),
    ),
    "WanVideoVACEStartToEndFrame": Kind(
        "First and last frame as known frames for VACE.",
        (
            along("num_frames", 81, "frames", "Of the node that it feeds."),
            out("empty_frame_level", 0.5, "Frames to be made are grey."),
            out("start_index", 0, "The first picture is the first frame."),
            out("end_index", -1, "The last picture is the last frame."),
        ),
        (
            Socket("start_image", role="image"),
            Socket("end_image", role="end_image"),
            Socket("control_images", why=why.POSES),
            Socket("inpaint_mask", why=why.NO_MASK),
        ),
    ),
    "WanVideoEncode": Kind(
        "A clip to start from.",
        (
            *_TILES,
            out("noise_aug_strength", 0.0, "Noise on samples is that of the first step."),
            out("latent_strength", 1.0, "Samples are taken as they are."),
        ),
        (Socket("vae"), Socket("image"), Socket("driving_video"), Socket("mask", why=why.NO_MASK)),
    ),
    "WanVideoDecode": Kind(
        "Makes frames of latents.",
        (*_TILES, out("normalization", "default", "Frames are clamped to what the VAE means by black and white.")),
        (Socket("vae"), Socket("samples", role="samples")),
    ),
}
