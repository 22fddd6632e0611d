"""The nodes of ComfyUI-WanVideoWrapper that sample, and what hangs on them. No torch.

Read from the INPUT_TYPES of its versions of March 2025 to June 2026; boxes that came later stand behind the older ones, so
that the lists of older files fit, and `older` has the lists that differ otherwise.
"""

from __future__ import annotations

from wanlab.comfy import readings as read
from wanlab.comfy import sentences as why
from wanlab.comfy.kinds import Box, Kind, Socket, along, out, take

_ROPE = "It computes the rotary embedding in another way with the same result."
_PARTS = (
    Socket("feta_args"),
    Socket("context_options"),
    Socket("cache_args"),
    Socket("teacache_args"),
    Socket("slg_args"),
    Socket("loop_args"),
    Socket("experimental_args"),
    Socket("freeinit_args"),
    Socket("flowedit_args", why="Editing a clip by FlowEdit is not made; the wrapper has dropped it too."),
    Socket("unianimate_poses", why=why.POSES),
    Socket("uni3c_embeds", why=why.POSES),
    Socket("fantasytalking_embeds", why=why.TALKING),
    Socket("multitalk_embeds", why=why.TALKING),
)
_INTO = (
    Socket("model", role="model"),
    Socket("image_embeds"),
    Socket("text_embeds", role="text"),
    Socket("samples", role="samples"),
)


def _wrapper_samples(value: object, at: read.At) -> object:
    """Noise on samples: off is only meant where there are samples and no denoise_strength."""
    strength = at.value("denoise_strength")
    if at.linked("samples") and value is False and strength in (1, None):
        return False
    return read.Many()


def _once(value: object, at: read.At) -> object:
    """The shift, unless the noise levels come from elsewhere with one of their own."""
    return read.Many() if at.linked("sigmas") and at.asked("shift") is not None else read.fraction(value, at)


def _count(value: object, at: read.At) -> object:
    """The steps, unless the noise levels come from elsewhere."""
    return read.Many() if at.linked("sigmas") and at.asked("steps") is not None else read.whole(value, at)


_STEPS = take("steps", 30, "steps", _count)
_CFG = take("cfg", 6.0, "cfg", lambda value, at: read.listed(value) if isinstance(value, list) else read.fraction(value, at))
_SHIFT = take("shift", 5.0, "shift", _once)
_SEED = take("seed", 0, "seed", read.whole)
_OFFLOAD = take("force_offload", True, "force_offload")
_SCHEDULER = take("scheduler", "unipc", "solver, schedule", read.solver)
_RIFLEX = take("riflex_freq_index", 0, "riflex.index", read.riflex)
_START = take("start_step", 0, "start_step", read.whole)
_END = take("end_step", -1, "end_step", read.end_step)
_NOISE = take("add_noise_to_samples", False, "add_noise", _wrapper_samples)
_ROPES = out("rope_function", "comfy", _ROPE, "default", "comfy_chunked")

SAMPLERS: dict[str, Kind] = {
    "WanVideoSampler": Kind(
        "Samples: steps, guidance, shift, seed.",
        (
            _STEPS,
            _CFG,
            _SHIFT,
            _SEED,
            _OFFLOAD,
            _SCHEDULER,
            _RIFLEX,
            take("denoise_strength", 1.0, "denoise_strength", read.strength),
            take("batched_cfg", False, "batched_cfg"),
            _ROPES,
            _START,
            _END,
            _NOISE,
        ),
        (*_INTO, *_PARTS, Socket("sigmas")),
        older=(("steps", "cfg", "shift", "seed", "force_offload", "scheduler", "riflex_freq_index", "denoise_strength"),),
        samples=True,
    ),
    "WanVideoSamplerv2": Kind(
        "Samples; steps and shift are in WanVideoScheduler, techniques in WanVideoSamplerExtraArgs.",
        (_CFG, _SEED, _OFFLOAD, _NOISE),
        (*_INTO, Socket("scheduler"), Socket("extra_args")),
        samples=True,
    ),
    "WanVideoSamplerExtraArgs": Kind("Techniques for WanVideoSamplerv2.", (_RIFLEX, _ROPES), _PARTS),
    "WanVideoScheduler": Kind(
        "Steps, shift and solver for WanVideoSamplerv2.",
        (
            _SCHEDULER,
            _STEPS,
            _SHIFT,
            _START,
            _END,
            out("enhance_hf", False, "Other levels for finer detail are not made; give sigmas."),
        ),
        (Socket("sigmas"),),
    ),
    "WanVideoDiffusionForcingSampler": Kind(
        "Samples with a noise level for each frame (SkyReels V2).",
        (
            out("addnoise_condition", 10, "Frames with noise levels of their own are not made."),
            out("fps", 24.0, "The model is not told a frame rate.", 16.0),
            _STEPS,
            _CFG,
            _SHIFT,
            _SEED,
            _OFFLOAD,
            _SCHEDULER,
            take("denoise_strength", 1.0, "denoise_strength", read.strength),
            _ROPES,
        ),
        (*_INTO, *_PARTS, Socket("prefix_samples", why="Going on from a clip in this way is not made; see lab.extend.")),
        samples=True,
    ),
}
SAMPLERS["WanVideoSamplerSettings"] = Kind(
    "The boxes and sockets of WanVideoSampler, run by WanVideoSamplerFromSettings.",
    SAMPLERS["WanVideoSampler"].boxes,
    SAMPLERS["WanVideoSampler"].sockets,
    SAMPLERS["WanVideoSampler"].older,
)
SAMPLERS["WanVideoSamplerFromSettings"] = Kind(
    "Runs WanVideoSamplerSettings.", sockets=(Socket("sampler_inputs"),), samples=True
)
SAMPLERS["WanVideoSchedulerv2"] = SAMPLERS["WanVideoScheduler"]

_FIRST = take("start_step", 1, "cache.start_percent", read.start_of_cache, "Divided by the number of steps.")
_LAST = take("end_step", -1, "cache.end_percent", read.end_of_cache, "Divided by the number of steps.")
_CACHE_DEVICE = out("cache_device", "main_device", "What is kept waits where the model computes.")


def _percents(setting: str, start: float = 0.0, end: float = 1.0) -> tuple[Box, Box]:
    return (
        take("start_percent", start, f"{setting}.start_percent", read.fraction),
        take("end_percent", end, f"{setting}.end_percent", read.fraction),
    )


TECHNIQUES: dict[str, Kind] = {
    "WanVideoEnhanceAVideo": Kind("Enhance-A-Video.", (take("weight", 2.0, "feta.weight", read.fraction), *_percents("feta"))),
    "HyVideoEnhanceAVideo": Kind(
        "Enhance-A-Video, as the first versions borrowed it.",
        (
            take("weight", 2.0, "feta.weight", read.fraction),
            out("single_blocks", True, "Wan has one kind of block.", False),
            out("double_blocks", True, "Wan has one kind of block.", False),
            *_percents("feta"),
        ),
    ),
    "WanVideoContextOptions": Kind(
        "Context windows.",
        (
            take("context_schedule", "uniform_standard", "context.schedule"),
            take("context_frames", 81, "context.frames", read.whole),
            take("context_stride", 4, "context.stride", read.whole),
            take("context_overlap", 16, "context.overlap", read.whole),
            take("freenoise", True, "context.freenoise"),
            out("verbose", False, "The plan shows the windows.", True),
            take("fuse_method", "linear", "context.fuse"),
        ),
        (Socket("reference_latent", why="A picture for the start of each window is not made; see context.anchor."),),
        older=(("context_schedule", "context_frames", "context_stride", "context_overlap", "freenoise"),),
    ),
    "WanVideoTeaCache": Kind(
        "TeaCache.",
        (
            take("rel_l1_thresh", 0.3, "cache.threshold", read.cached("teacache", "cache.threshold")),
            _FIRST,
            _LAST,
            _CACHE_DEVICE,
            along("use_coefficients", True, "cache.threshold", "Off, the threshold means another change."),
            out("mode", "e", "wanlab measures the change of the embedded timestep, which is mode e."),
        ),
        older=(("rel_l1_thresh", "start_step", "cache_device"),),
    ),
    "WanVideoMagCache": Kind(
        "MagCache.",
        (
            take("magcache_thresh", 0.02, "cache.threshold", read.cached("magcache", "cache.threshold")),
            take("magcache_K", 4, "cache.max_skip", read.whole),
            _FIRST,
            _LAST,
            _CACHE_DEVICE,
        ),
    ),
    "WanVideoEasyCache": Kind(
        "EasyCache.",
        (
            take("easycache_thresh", 0.015, "cache.threshold", read.cached("easycache", "cache.threshold")),
            _FIRST,
            _LAST,
            _CACHE_DEVICE,
        ),
    ),
    "WanVideoSLG": Kind("Skip-layer guidance.", (take("blocks", "10", "slg.blocks", read.skipped), *_percents("slg", 0.1))),
    "WanVideoLoopArgs": Kind(
        "Clips that repeat without a seam.", (take("shift_skip", 6, "loop.shift", read.whole), *_percents("loop"))
    ),
    "WanVideoFreeInitArgs": Kind(
        "FreeInit.",
        (
            take("freeinit_num_iters", 3, "freeinit.rounds", read.freeinit),
            take("freeinit_method", "ideal", "freeinit.filter", read.of_freeinit("freeinit.filter")),
            take("freeinit_n", 4, "freeinit.order", read.of_freeinit("freeinit.order")),
            take("freeinit_d_s", 1.0, "freeinit.spatial_cutoff", read.of_freeinit("freeinit.spatial_cutoff")),
            take("freeinit_d_t", 1.0, "freeinit.temporal_cutoff", read.of_freeinit("freeinit.temporal_cutoff")),
        ),
    ),
    "WanVideoApplyNAG": Kind(
        "Normalized attention guidance.",
        (
            take("nag_scale", 11.0, "nag.scale", read.fraction),
            take("nag_tau", 2.5, "nag.tau", read.fraction),
            take("nag_alpha", 0.25, "nag.alpha", read.fraction),
            out("inplace", True, "It is computed in place or not, with the same result.", False),
        ),
        (Socket("original_text_embeds"), Socket("nag_text_embeds", role="nag")),
    ),
    "WanVideoExperimentalArgs": Kind(
        "CFG-Zero* and what the wrapper tries out.",
        (
            out("video_attention_split_steps", "", "Steps with attention inside frames only are not made."),
            take("cfg_zero_star", False, "cfg_zero", read.zero_steps),
            along("use_zero_init", False, "cfg_zero.zero_steps", "Off is 0."),
            along("zero_star_steps", 0, "cfg_zero.zero_steps", "One more, since the wrapper counts from 0."),
            out("use_fresca", False, "FreSca is not made."),
            out("fresca_scale_low", 1.0, "FreSca is not made."),
            out("fresca_scale_high", 1.25, "FreSca is not made."),
            out("fresca_freq_cutoff", 20, "FreSca is not made."),
            out("use_tcfg", False, "Tangential guidance is not made; apg is near to it."),
            out("raag_alpha", 0.0, "Guidance by the ratio of the predictions is not made; cfg may be a list."),
            out("bidirectional_sampling", False, "Sampling in both directions of time is not made."),
            out("temporal_score_rescaling", False, "It is not made."),
            out("tsr_k", 0.95, "It is not made.", 1.0),
            out("tsr_sigma", 1.0, "It is not made."),
        ),
    ),
}
