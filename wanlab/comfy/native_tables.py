"""ComfyUI's own nodes for Wan. No torch.

Read from the nodes of ComfyUI's version of October 2025.
"""

from __future__ import annotations

from wanlab.comfy import lora_readings as loras
from wanlab.comfy import native_readings as native
from wanlab.comfy import readings as read
from wanlab.comfy import sentences as why
from wanlab.comfy.kinds import Box, Kind, Socket, along, out, take

_MODEL = Socket("model", role="model")
_TEXTS = (Socket("positive", role="positive"), Socket("negative", role="negative"))
_INTO = (_MODEL, *_TEXTS, Socket("latent_image", role="samples"))
_CFG = take("cfg", 8.0, "cfg", read.fraction)
_STEPS = take("steps", 20, "steps", read.whole)
_SAMPLER = take("sampler_name", "euler", "solver", native.sampler)
_SCHEDULER = take("scheduler", "simple", "schedule", native.schedule)
_DENOISE = take("denoise", 1.0, "denoise_strength", native.denoise, "ComfyUI lengthens the schedule by it.")


def _adds(value: object, at: read.At) -> object:
    """Whether noise is added; only of importance where there are samples."""
    off = value in ("disable", False)
    return False if off else read.Many()


SAMPLERS: dict[str, Kind] = {
    "KSampler": Kind(
        "Samples.",
        (take("seed", 0, "seed", read.whole), _STEPS, _CFG, _SAMPLER, _SCHEDULER, _DENOISE),
        _INTO,
        samples=True,
    ),
    "KSamplerAdvanced": Kind(
        "Samples some of the steps.",
        (
            take("add_noise", "enable", "add_noise", _adds),
            take("noise_seed", 0, "seed", read.whole),
            _STEPS,
            _CFG,
            _SAMPLER,
            _SCHEDULER,
            take("start_at_step", 0, "start_step", read.whole),
            take("end_at_step", 10000, "end_step", read.end_step),
            out(
                "return_with_leftover_noise",
                "disable",
                "A run that ends early shows what the model believes the clip to be.",
                "enable",
            ),
        ),
        _INTO,
        samples=True,
    ),
    "SamplerCustom": Kind(
        "Samples; solver and noise levels hang on it.",
        (take("add_noise", True, "add_noise", _adds), take("noise_seed", 0, "seed", read.whole), _CFG),
        (*_INTO, Socket("sampler"), Socket("sigmas")),
        samples=True,
    ),
    "SamplerCustomAdvanced": Kind(
        "Samples; all else hangs on it.",
        sockets=(
            Socket("sigmas"),
            Socket("noise"),
            Socket("guider"),
            Socket("sampler"),
            Socket("latent_image", role="samples"),
        ),
        samples=True,
    ),
}

PARTS: dict[str, Kind] = {
    "KSamplerSelect": Kind("The solver.", (_SAMPLER,)),
    "RandomNoise": Kind("The seed.", (take("noise_seed", 0, "seed", read.whole),)),
    "CFGGuider": Kind("Model, prompts and cfg.", (_CFG,), (_MODEL, *_TEXTS)),
    "BasicGuider": Kind(
        "Model and prompt, without guidance.",
        sockets=(_MODEL, Socket("conditioning", role="positive")),
    ),
    "BasicScheduler": Kind("Noise levels by name.", (_SCHEDULER, _STEPS, _DENOISE), (_MODEL,)),
    "ManualSigmas": Kind("Noise levels one by one.", (take("sigmas", "", "sigmas, steps", read.sigmas),)),
    "FloatToSigmas": Kind("Noise levels of a list (KJNodes).", (take("float_list", 0.0, "sigmas, steps", read.sigmas),)),
    "DummyComfyWanModelObject": Kind("The shift for BasicScheduler.", (take("shift", 1.0, "shift", read.fraction),)),
    "ModelSamplingSD3": Kind("The shift.", (take("shift", 3.0, "shift", read.fraction),), (Socket("model"),)),
}

MODELS: dict[str, Kind] = {
    "UNETLoader": Kind(
        "Loads the transformer.",
        (
            take("unet_name", "", "model", read.model_file),
            take("weight_dtype", "default", "quantization", read.quantization),
        ),
    ),
    "UnetLoaderGGUF": Kind("Loads the transformer of a GGUF file.", (take("unet_name", "", "model", read.model_file),)),
    "UnetLoaderGGUFAdvanced": Kind(
        "Loads the transformer of a GGUF file.",
        (
            take("unet_name", "", "model", read.model_file),
            out("dequant_dtype", "default", "Weights are brought to base_precision."),
            out("patch_dtype", "default", "LoRAs are computed in base_precision."),
            out("patch_on_device", False, why.WAITING, True),
        ),
    ),
    "DiffusionModelLoaderKJ": Kind(
        "Loads the transformer (KJNodes).",
        (
            take("model_name", "", "model", read.model_file),
            take("weight_dtype", "default", "quantization", read.quantization),
            out("compute_dtype", "default", "Say base_precision."),
            out("patch_cublaslinear", False, "wanlab multiplies by PyTorch's own."),
            out("sage_attention", "disabled", "Say attention_mode='sageattn'.", False),
            out("enable_fp16_accumulation", False, "Say base_precision='fp16_fast'."),
        ),
    ),
    "CLIPLoader": Kind(
        "Loads the text encoder.",
        (
            take("clip_name", "", "text_encoder", read.part_file),
            out("type", "wan", "The text encoder is Wan's."),
            out("device", "default", why.ENCODER),
        ),
    ),
    "CLIPLoaderGGUF": Kind(
        "Loads the text encoder of a GGUF file.",
        (take("clip_name", "", "text_encoder", read.part_file), out("type", "wan", "The text encoder is Wan's.")),
    ),
    "VAELoader": Kind("Loads the VAE.", (take("vae_name", "", "vae", read.part_file),)),
    "CLIPVisionLoader": Kind("Loads CLIP vision.", (take("clip_name", "", "image_encoder", read.part_file),)),
    "LoraLoaderModelOnly": Kind(
        "A LoRA.",
        (
            take("lora_name", "", "loras", loras.native_lora),
            along("strength_model", 1.0, "loras", "Becomes strength."),
        ),
        (Socket("model"),),
    ),
    "LoraLoader": Kind(
        "A LoRA.",
        (
            take("lora_name", "", "loras", loras.native_lora),
            along("strength_model", 1.0, "loras", "Becomes strength."),
            out("strength_clip", 1.0, "LoRAs change the transformer, not the text encoder.", 0, 0.0, 1),
        ),
        (Socket("model"), Socket("clip")),
    ),
    "Power Lora Loader (rgthree)": Kind(
        "Several LoRAs.",
        tuple(take(f"lora_{k}", None, "loras", loras.power_loras) for k in range(1, 21)),
        (Socket("model"), Socket("clip")),
    ),
    "TorchCompileModel": Kind("torch.compile.", (take("backend", "inductor", "compile.backend"),), (Socket("model"),)),
    "TorchCompileModelWanVideoV2": Kind(
        "torch.compile (KJNodes).",
        (
            take("backend", "inductor", "compile.backend"),
            take("fullgraph", False, "compile.fullgraph"),
            take("mode", "default", "compile.mode"),
            take("dynamic", False, "compile.dynamic"),
            take("compile_transformer_blocks_only", True, "compile.whole", read.blocks_only, "The opposite."),
            take("dynamo_cache_size_limit", 64, "compile.recompile_limit", read.whole),
            out("force_parameter_static_shapes", True, why.COMPILER, False),
        ),
        (Socket("model"),),
    ),
    "PathchSageAttentionKJ": Kind(
        "Another attention (KJNodes).",
        (
            take("sage_attention", "disabled", "attention_mode", native.sage),
            out("allow_compile", False, why.COMPILER, True),
        ),
        (Socket("model"),),
    ),
    "ModelPatchTorchSettings": Kind(
        "Sums in fp16 (KJNodes).",
        (out("enable_fp16_accumulation", False, "Say base_precision='fp16_fast'."),),
        (Socket("model"),),
    ),
}


def _percents(setting: str, start: float, end: float) -> tuple[Box, Box]:
    return (
        take("start_percent", start, f"{setting}.start_percent", read.fraction),
        take("end_percent", end, f"{setting}.end_percent", read.fraction),
    )


TECHNIQUES: dict[str, Kind] = {
    "SkipLayerGuidanceDiTSimple": Kind(
        "Skip-layer guidance in the negative pass.",
        (
            take("double_layers", "7, 8, 9", "slg.blocks", read.skipped),
            out("single_layers", "7, 8, 9", "Wan has one kind of block.", ""),
            *_percents("slg", 0.0, 1.0),
        ),
        (Socket("model"),),
    ),
    "SkipLayerGuidanceDiT": Kind(
        "Skip-layer guidance by a third pass.",
        (
            take("double_layers", "7, 8, 9", "slg.blocks", native.skipped_in_third),
            out("single_layers", "7, 8, 9", "Wan has one kind of block.", ""),
            Box("scale", None, "", "The blocks are skipped in the negative pass, whose strength is cfg."),
            *_percents("slg", 0.01, 0.15),
            out("rescaling_scale", 0.0, "It is not made."),
        ),
        (Socket("model"),),
    ),
    "SkipLayerGuidanceWanVideo": Kind(
        "Skip-layer guidance (KJNodes).",
        (take("blocks", "10", "slg.blocks", read.skipped), *_percents("slg", 0.2, 1.0)),
        (Socket("model"),),
    ),
    "CFGZeroStar": Kind(
        "CFG-Zero*.",
        (Box("", None, "cfg_zero.zero_steps", "On, with no step left out.", native.zero_star),),
        (Socket("model"),),
    ),
    "CFGZeroStarAndInit": Kind(
        "CFG-Zero* (KJNodes).",
        (
            take("use_zero_init", True, "cfg_zero.zero_steps", native.zero_init),
            along("zero_init_steps", 0, "cfg_zero.zero_steps", "One more, since the node counts from 0."),
        ),
        (Socket("model"),),
    ),
    "EasyCache": Kind(
        "EasyCache.",
        (
            take("reuse_threshold", 0.2, "cache.threshold", read.cached("easycache", "cache.threshold")),
            *_percents("cache", 0.15, 0.95),
            out("verbose", False, "The run's table of steps shows what was skipped.", True),
        ),
        (Socket("model"),),
    ),
    "WanVideoTeaCacheKJ": Kind(
        "TeaCache (KJNodes).",
        (
            take("rel_l1_thresh", 0.275, "cache.threshold", read.cached("teacache", "cache.threshold")),
            *_percents("cache", 0.1, 1.0),
            out("cache_device", "main_device", "What is kept waits where the model computes."),
            along("coefficients", "i2v_480", "cache.threshold", "wanlab takes those of the model."),
        ),
        (Socket("model"),),
    ),
    "WanVideoEnhanceAVideoKJ": Kind(
        "Enhance-A-Video (KJNodes).",
        (take("weight", 2.0, "feta.weight", read.fraction),),
        (Socket("model"), Socket("latent", role="same")),
    ),
    "WanVideoNAG": Kind(
        "Normalized attention guidance (KJNodes).",
        (
            take("nag_scale", 11.0, "nag.scale", read.fraction),
            take("nag_alpha", 0.25, "nag.alpha", read.fraction),
            take("nag_tau", 2.5, "nag.tau", read.fraction),
            out("input_type", "default", "The negative prompt is one text."),
            out("inplace", True, "It is computed in place or not, with the same result.", False),
        ),
        (Socket("model"), Socket("conditioning", role="nag")),
    ),
    "WanContextWindowsManual": Kind(
        "Context windows.",
        (
            take("context_length", 81, "context.frames", read.whole),
            take("context_overlap", 30, "context.overlap", native.native_overlap),
            take("context_schedule", "standard_static", "context.schedule", native.native_schedule),
            take("context_stride", 1, "context.stride", native.native_stride, "Latent frames: four times as many frames."),
            take("closed_loop", False, "context.closed_loop"),
            take("fuse_method", "pyramid", "context.fuse", native.native_fuse),
            take("freenoise", False, "context.freenoise"),
        ),
        (Socket("model"),),
    ),
}

_SIZE = (
    take("width", 832, "width", read.whole),
    take("height", 480, "height", read.whole),
    take("length", 81, "frames", read.whole),
    out("batch_size", 1, why.ONE_BATCH),
)
_CLIP_SEES = Socket("clip_vision_output")
_IMAGES = (*_TEXTS, Socket("vae"), Socket("start_image", role="image"), Socket("end_image", role="end_image"), _CLIP_SEES)

LATENTS: dict[str, Kind] = {
    "CLIPTextEncode": Kind("Reads a prompt.", (take("text", "", "prompt or negative_prompt", read.text),), (Socket("clip"),)),
    "ConditioningZeroOut": Kind(
        "Zeros in place of a negative prompt.",
        (Box("", None, "", "Zeros in place of a text are not made; at cfg 1 there is no negative pass.", native.zeros),),
        (Socket("conditioning", role="zeros"),),
    ),
    "EmptyHunyuanLatentVideo": Kind("The clip's size and length.", _SIZE),
    "EmptyLatentImage": Kind("The picture's size.", (_SIZE[0], _SIZE[1], _SIZE[3])),
    "WanImageToVideo": Kind("First picture, size and length.", _SIZE, _IMAGES),
    "WanFirstLastFrameToVideo": Kind(
        "First and last picture, size and length.",
        _SIZE,
        (
            *_IMAGES,
            Socket("clip_vision_start_image"),
            Socket("clip_vision_end_image"),
        ),
    ),
    "WanFunInpaintToVideo": Kind("First and last picture, size and length.", _SIZE, _IMAGES),
    "WanVaceToVideo": Kind(
        "Size, length and known frames for VACE.",
        (*_SIZE, take("strength", 1.0, "vace_strength", read.fraction)),
        (
            *_TEXTS,
            Socket("vae"),
            Socket("control_video", why=why.POSES),
            Socket("control_masks", why=why.NO_MASK),
            Socket("reference_image", why="Pictures of what is to be seen are not given to VACE, only first and last frames."),
        ),
    ),
    "Wan22ImageToVideoLatent": Kind(
        "First picture, size and length of the 5B model.", _SIZE, (Socket("vae"), Socket("start_image", role="image"))
    ),
    "WanFunControlToVideo": Kind("A control video.", _SIZE, (*_IMAGES, Socket("control_video", why=why.POSES))),
    "Wan22FunControlToVideo": Kind(
        "A control video.", _SIZE, (*_IMAGES, Socket("control_video", why=why.POSES), Socket("ref_image", why=why.POSES))
    ),
    "WanCameraImageToVideo": Kind(
        "A camera that moves.",
        _SIZE,
        (*_IMAGES, Socket("camera_conditions", why="A camera that moves as asked is not made.")),
    ),
    "CLIPVisionEncode": Kind(
        "What CLIP vision sees.",
        (out("crop", "none", "CLIP vision sees the whole picture.", "center"),),
        (Socket("clip_vision"), Socket("image", role="seen")),
    ),
    "VAEEncode": Kind("A clip to start from.", (), (Socket("pixels"), Socket("vae"))),
    "TrimVideoLatent": Kind(
        "Cuts latents off.", (out("trim_amount", 0, "Frames are not cut off."),), (Socket("samples", role="samples"),)
    ),
    "VAEDecode": Kind("Makes frames of latents.", (), (Socket("vae"), Socket("samples", role="samples"))),
    "VAEDecodeTiled": Kind(
        "Makes frames of latents in tiles.",
        (
            take("tile_size", 512, "vae_tile", native.native_tile),
            along("overlap", 64, "vae_tile_stride", "Tile less overlap."),
            out("temporal_size", 64, "Tiles are in height and width only; a clip is decoded frame by frame anyway.", 4096),
            out("temporal_overlap", 8, "Tiles are in height and width only.", 64),
        ),
        (Socket("vae"), Socket("samples", role="samples")),
    ),
}
