"""ComfyUI workflows are read into settings, and what is not taken is told with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wanlab as wl
from comfy_graphs import box, editor, hung, native, server, wrapper
from wanlab.comfy import FromComfy
from wanlab.comfy.guide import comfy_markdown
from wanlab.comfy.kinds import Kind
from wanlab.comfy.model_files import told
from wanlab.comfy.tables import KINDS
from wanlab.declare import switches
from wanlab.settings import ModelSettings, Settings, declared

ROOT = Path(__file__).parents[1]


def read(workflow: dict[str, Any], **given: Any) -> FromComfy:
    return wl.from_comfy(workflow, **given)


def lost(found: FromComfy, input: str = "") -> str:
    """The reasons why this input was not taken, all in one text."""
    return " ".join(entry.reason for entry in found.not_taken if entry.input == input)


def test_a_workflow_of_the_wrapper_becomes_settings() -> None:
    found = read(wrapper())
    values = found.settings.flat()
    wanted = {"prompt": "a red panda", "negative_prompt": "blurry", "width": 832, "height": 480, "frames": 81, "steps": 10}
    wanted |= {"cfg": 6.0, "shift": 5.0, "seed": 42, "solver": "unipc", "schedule": "wan_unipc", "clip.frame_rate": 16.0}
    wanted |= {"clip.filename_prefix": "panda", "clip.format": "mp4"}
    assert {name: values[name] for name in wanted} == wanted
    assert found.model.model == "mine.safetensors"
    assert found.model.base_precision == "bf16"
    assert found.model.force_offload is True
    assert found.model.vae == "vae.safetensors"
    assert found.clip is found.settings.clip
    assert not found.not_taken


def test_a_workflow_of_comfyuis_own_nodes_becomes_settings() -> None:
    found = read(native())
    values = found.settings.flat()
    wanted = {"prompt": "a blue square", "negative_prompt": "blurry", "width": 64, "height": 48, "frames": 17, "steps": 4}
    wanted |= {"cfg": 3.0, "shift": 5.0, "seed": 7, "solver": "euler", "schedule": "simple", "clip.frame_rate": 16.0}
    assert {name: values[name] for name in wanted} == wanted
    assert found.model.model == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert "brings its own text_encoder" in lost(found, "clip_name")


@pytest.mark.parametrize(
    ("socket", "node", "inputs", "wanted"),
    [
        (
            "feta_args",
            "WanVideoEnhanceAVideo",
            {"weight": 4.0, "start_percent": 0.1, "end_percent": 0.9},
            {"feta.weight": 4.0, "feta.start_percent": 0.1, "feta.end_percent": 0.9},
        ),
        (
            "context_options",
            "WanVideoContextOptions",
            {"context_schedule": "uniform_standard", "context_frames": 81, "context_stride": 8, "context_overlap": 16},
            {"context.schedule": "uniform_standard", "context.frames": 81, "context.stride": 8, "context.overlap": 16}
            | {"context.freenoise": True, "context.fuse": "linear"},
        ),
        (
            "cache_args",
            "WanVideoTeaCache",
            {"rel_l1_thresh": 0.25, "start_step": 2, "end_step": -1},
            {"cache.kind": "teacache", "cache.threshold": 0.25, "cache.start_percent": 0.2, "cache.end_percent": 1.0},
        ),
        (
            "cache_args",
            "WanVideoMagCache",
            {"magcache_thresh": 0.12, "magcache_K": 4, "start_step": 1, "end_step": 8},
            {"cache.kind": "magcache", "cache.threshold": 0.12, "cache.max_skip": 4, "cache.end_percent": 0.8},
        ),
        ("cache_args", "WanVideoEasyCache", {"easycache_thresh": 0.05}, {"cache.kind": "easycache", "cache.threshold": 0.05}),
        (
            "slg_args",
            "WanVideoSLG",
            {"blocks": "9, 10", "start_percent": 0.2},
            {"slg.blocks": "9, 10", "slg.start_percent": 0.2},
        ),
        ("loop_args", "WanVideoLoopArgs", {"shift_skip": 6}, {"loop.shift": 6}),
        (
            "experimental_args",
            "WanVideoExperimentalArgs",
            {"cfg_zero_star": True, "use_zero_init": True, "zero_star_steps": 1},
            {"cfg_zero.zero_steps": 2},
        ),
        (
            "freeinit_args",
            "WanVideoFreeInitArgs",
            {"freeinit_num_iters": 3, "freeinit_method": "gaussian", "freeinit_d_s": 0.5, "freeinit_d_t": 0.25},
            {"freeinit.rounds": 3, "freeinit.filter": "gaussian", "freeinit.spatial_cutoff": 0.5},
        ),
        ("sigmas", "ManualSigmas", {"sigmas": "1., 0.9, 0.5, 0"}, {"steps": 3, "sigmas": (1.0, 0.9, 0.5)}),
    ],
)
def test_techniques_on_the_sampler_become_groups(
    socket: str, node: str, inputs: dict[str, Any], wanted: dict[str, Any]
) -> None:
    found = read(hung(socket, node, **inputs))
    values = found.settings.flat()
    assert {name: values[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("node", "inputs", "wanted"),
    [
        (
            "SkipLayerGuidanceDiTSimple",
            {"double_layers": "9", "start_percent": 0.2},
            {"slg.blocks": "9", "slg.start_percent": 0.2},
        ),
        ("SkipLayerGuidanceDiT", {"double_layers": "9, 10", "scale": 3.0}, {"slg.blocks": "9, 10", "slg.end_percent": 0.15}),
        ("SkipLayerGuidanceWanVideo", {"blocks": "10"}, {"slg.blocks": "10", "slg.start_percent": 0.2}),
        ("CFGZeroStar", {}, {"cfg_zero.zero_steps": 0}),
        ("CFGZeroStarAndInit", {"use_zero_init": True, "zero_init_steps": 0}, {"cfg_zero.zero_steps": 1}),
        (
            "EasyCache",
            {"reuse_threshold": 0.1},
            {"cache.kind": "easycache", "cache.threshold": 0.1, "cache.start_percent": 0.15},
        ),
        ("WanVideoTeaCacheKJ", {"rel_l1_thresh": 0.2}, {"cache.kind": "teacache", "cache.threshold": 0.2}),
        ("WanVideoEnhanceAVideoKJ", {"weight": 3}, {"feta.weight": 3.0}),
        ("WanVideoNAG", {"nag_scale": 7.0}, {"nag.scale": 7.0, "nag.tau": 2.5}),
        (
            "WanContextWindowsManual",
            {"context_length": 81, "context_overlap": 30, "context_schedule": "standard_uniform", "context_stride": 2},
            {"context.frames": 81, "context.overlap": 32, "context.schedule": "uniform_standard", "context.stride": 8}
            | {"context.fuse": "pyramid", "context.closed_loop": False},
        ),
        ("SomebodysPatch", {}, {"cfg": 3.0}),
    ],
)
def test_techniques_between_the_loader_and_comfyuis_own_sampler(
    node: str, inputs: dict[str, Any], wanted: dict[str, Any]
) -> None:
    workflow = native()
    workflow["50"] = {"class_type": node, "inputs": {"model": ["2", 0], **inputs}}
    workflow["7"]["inputs"]["model"] = ["50", 0]
    found = read(workflow)
    values = found.settings.flat()
    assert {name: values[name] for name in wanted} == wanted
    assert found.settings.shift == 5.0  # the node behind it is read too


@pytest.mark.parametrize(
    ("node", "inputs", "wanted"),
    [
        ("PathchSageAttentionKJ", {"sage_attention": "auto"}, {"attention_mode": "sageattn"}),
        ("PathchSageAttentionKJ", {"sage_attention": "disabled"}, {"attention_mode": "sdpa"}),
        ("TorchCompileModel", {"backend": "inductor"}, {"compile.backend": "inductor"}),
        ("TorchCompileModelWanVideoV2", {"compile_transformer_blocks_only": False}, {"compile.whole": True}),
    ],
)
def test_models_changed_between_loader_and_sampler(node: str, inputs: dict[str, Any], wanted: dict[str, Any]) -> None:
    workflow = native()
    workflow["50"] = {"class_type": node, "inputs": {"model": ["2", 0], **inputs}}
    workflow["7"]["inputs"]["model"] = ["50", 0]
    values = read(workflow).model.flat()
    assert {name: values[name] for name in wanted} == wanted


def test_the_sampler_of_many_parts() -> None:
    workflow = native()
    del workflow["7"]
    guided = {"model": ["2", 0], "positive": ["4", 0], "negative": ["5", 0], "cfg": 4.0}
    levels = {"model": ["2", 0], "scheduler": "beta", "steps": 9, "denoise": 1.0}
    parts = {"noise": ["60", 0], "guider": ["61", 0], "sampler": ["62", 0], "sigmas": ["63", 0], "latent_image": ["6", 0]}
    workflow |= {
        "60": {"class_type": "RandomNoise", "inputs": {"noise_seed": 11}},
        "61": {"class_type": "CFGGuider", "inputs": guided},
        "62": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "dpmpp_2m"}},
        "63": {"class_type": "BasicScheduler", "inputs": levels},
        "64": {"class_type": "SamplerCustomAdvanced", "inputs": parts},
    }
    workflow["9"]["inputs"]["samples"] = ["64", 0]
    values = read(workflow).settings.flat()
    wanted = {
        "seed": 11,
        "cfg": 4.0,
        "solver": "dpm++",
        "schedule": "beta",
        "steps": 9,
        "shift": 5.0,
        "prompt": "a blue square",
    }
    assert {name: values[name] for name in wanted} == wanted
    assert values["width"] == 64


def test_the_second_sampler_of_the_wrapper() -> None:
    found = read(
        wrapper(
            levels=("WanVideoScheduler", {"scheduler": "euler", "steps": 12, "shift": 7.0, "start_step": 0, "end_step": -1}),
            feta=("WanVideoEnhanceAVideo", {"weight": 3.0}),
            extra=("WanVideoSamplerExtraArgs", {"riflex_freq_index": 6, "feta_args": ("feta", 0)}),
            sampler=(
                "WanVideoSamplerv2",
                {"model": ("loader", 0), "text_embeds": ("texts", 0), "image_embeds": ("size", 0), "cfg": 2.0, "seed": 3}
                | {"scheduler": ("levels", 0), "extra_args": ("extra", 0)},
            ),
        )
    )
    values = found.settings.flat()
    wanted = {"steps": 12, "shift": 7.0, "solver": "euler", "schedule": "ideal", "cfg": 2.0, "seed": 3}
    wanted |= {"riflex.index": 6, "feta.weight": 3.0, "width": 832}
    assert {name: values[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("save", "wanted"),
    [
        ({"format": "image/gif", "frame_rate": 12, "loop_count": 2}, {"clip.format": "gif", "clip.loop_count": 2}),
        ({"format": "video/webm", "pingpong": True, "save_output": False}, {"clip.format": "webm", "clip.pingpong": True}),
        ({"format": "image/webp"}, {"clip.format": "webp"}),
        ({"format": "video/16bit-png"}, {"clip.format": "png"}),
        ({"format": "video/h265-mp4"}, {"clip.format": "mp4"}),
        ({"format": "video/ProRes"}, {"clip.format": "mp4"}),
        ({"filename_prefix": "../../etc/x"}, {"clip.filename_prefix": "clip"}),
        ({"format": "image/gif", "frame_rate": 60}, {"clip.frame_rate": 60.0, "clip.format": "mp4"}),
    ],
)
def test_how_the_clip_is_written(save: dict[str, Any], wanted: dict[str, Any]) -> None:
    values = read(wrapper(save=save)).settings.flat()
    assert {name: values[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("node", "inputs", "format"),
    [
        ("SaveWEBM", {"fps": 24.0, "codec": "vp9"}, "webm"),
        ("SaveAnimatedWEBP", {"fps": 24.0}, "webp"),
        ("SaveAnimatedPNG", {"fps": 24.0}, "png"),
    ],
)
def test_comfyuis_own_ways_to_write_a_clip(node: str, inputs: dict[str, Any], format: str) -> None:
    workflow = native()
    del workflow["10"]
    workflow["11"] = {"class_type": node, "inputs": {"images": ["9", 0], "filename_prefix": "x", **inputs}}
    clip = read(workflow).clip
    assert (clip.format, clip.frame_rate, clip.filename_prefix) == (format, 24.0, "x")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"riflex_freq_index": 6}, {"riflex.index": 6}),
        ({"scheduler": "dpm++"}, {"solver": "dpm++", "schedule": "wan_dpmpp"}),
        ({"scheduler": "dpm++_sde/beta"}, {"solver": "dpm++_sde", "schedule": "beta"}),
        ({"end_step": 4}, {"end_step": 4}),
        ({"end_step": 10000}, {"end_step": 0}),
        ({"batched_cfg": True}, {"batched_cfg": True}),
        ({"steps": 4.0}, {"steps": 4}),
        ({"cfg": 8.000000000000002}, {"cfg": 8.0}),
    ],
)
def test_boxes_of_the_sampler(changes: dict[str, Any], wanted: dict[str, Any]) -> None:
    values = read(wrapper(sampler=changes)).settings.flat()
    assert {name: values[name] for name in wanted} == wanted


def test_riflex_at_0_is_off() -> None:
    assert read(wrapper()).settings.riflex is None


def test_what_is_refused_is_told_in_wanlabs_own_sentence() -> None:
    found = read(wrapper(size={"num_frames": 80}))
    assert found.settings.frames == Settings().frames
    [entry] = [entry for entry in found.not_taken if entry.input == "num_frames"]
    assert (entry.node, entry.value) == ("WanVideoEmptyEmbeds #4", 80)
    assert entry.reason == "frames is 80; it must be 4n + 1, for example 77 or 81. It stays 17."


def test_a_solver_that_there_is_not_is_told() -> None:
    found = read(wrapper(sampler={"scheduler": "lcm"}))
    assert found.settings.solver == Settings().solver
    assert "no solver of this name" in lost(found, "scheduler")


def test_what_cannot_go_together_is_told() -> None:
    found = read(wrapper(more=("WanVideoSLG", {"blocks": "9"}), sampler={"slg_args": ("more", 0), "batched_cfg": True}))
    assert found.settings.batched_cfg
    assert found.settings.slg is None
    assert "slg skips blocks of the negative pass alone" in lost(found, "blocks")


def test_models_and_what_hangs_on_the_loader() -> None:
    found = read(
        wrapper(
            swap=("WanVideoBlockSwap", {"blocks_to_swap": 10, "use_non_blocking": True, "prefetch_blocks": 1}),
            compiled=(
                "WanVideoTorchCompileSettings",
                {"mode": "max-autotune-no-cudagraphs", "compile_transformer_blocks": True},
            ),
            first=("WanVideoLoraSelect", {"lora": "one.safetensors", "strength": 0.5, "merge_loras": True}),
            second=(
                "WanVideoLoraSelect",
                {"lora": "two.safetensors", "strength": 1, "prev_lora": ("first", 0), "merge_loras": False},
            ),
            loader={
                "block_swap_args": ("swap", 0),
                "compile_args": ("compiled", 0),
                "lora": ("second", 0),
                "quantization": "fp8_e4m3fn_fast",
                "attention_mode": "sageattn",
            },
            frames={"enable_vae_tiling": True, "tile_x": 272, "tile_y": 272, "tile_stride_x": 144, "tile_stride_y": 128},
        )
    )
    model = found.model
    assert (model.blocks_to_swap, model.prefetch_blocks, model.use_non_blocking) == (10, 1, True)
    assert model.compile is not None
    assert model.compile.mode == "max-autotune-no-cudagraphs"
    assert not model.compile.whole
    assert [(lora.file, lora.strength, lora.merge) for lora in model.loras] == [
        ("one.safetensors", 0.5, True),
        ("two.safetensors", 1.0, False),
    ]
    assert (model.quantization, model.attention_mode) == ("fp8_e4m3fn", "sageattn")
    assert (model.vae_tiling, model.vae_tile, model.vae_tile_stride) == (True, 272, 144)
    notes = " ".join(entry.reason for entry in found.notes)
    assert "tile_stride_y (128) is not" in notes
    assert "wanlab multiplies in base_precision" in notes


def test_loras_of_strength_0_or_none_are_left_out_and_those_set_later_are_not_merged() -> None:
    found = read(
        wrapper(
            many=("WanVideoLoraSelectMulti", {"lora_0": "a.safetensors", "strength_0": 0.0, "lora_1": "b.safetensors"}),
            set=("WanVideoSetLoRAs", {"model": ("loader", 0), "lora": ("many", 0)}),
            sampler={"model": ("set", 0)},
        )
    )
    assert [(lora.file, lora.merge) for lora in found.model.loras] == [("b.safetensors", False)]


def test_chosen_blocks_of_a_lora() -> None:
    chosen = {f"blocks.{k}.": k < 3 or k == 7 for k in range(40)}
    found = read(
        wrapper(
            blocks=("WanVideoLoraBlockEdit", chosen),
            lora=("WanVideoLoraSelect", {"lora": "a.safetensors", "strength": 1.0, "blocks": ("blocks", 0)}),
            loader={"lora": ("lora", 0)},
        )
    )
    assert found.model.loras[0].blocks == "0-2,7"


def test_nag_takes_its_own_prompt() -> None:
    found = read(
        wrapper(
            no=("WanVideoTextEncodeSingle", {"t5": ("t5", 0), "prompt": "grey"}),
            nag=("WanVideoApplyNAG", {"original_text_embeds": ("texts", 0), "nag_text_embeds": ("no", 0), "nag_scale": 5.0}),
            texts={"negative_prompt": ""},
            sampler={"text_embeds": ("nag", 0), "cfg": 1.0},
        )
    )
    assert found.settings.nag is not None
    assert found.settings.nag.scale == 5.0
    assert found.settings.negative_prompt == "grey"


def test_pictures_of_image_to_video() -> None:
    found = read(
        wrapper(
            first=("LoadImage", {"image": "first.png"}),
            last=("LoadImage", {"image": "last.png"}),
            size=(
                "WanVideoImageToVideoEncode",
                {
                    "width": 832,
                    "height": 480,
                    "num_frames": 33,
                    "noise_aug_strength": 0.1,
                    "vae": ("vae", 0),
                    "start_image": ("first", 0),
                    "end_image": ("last", 0),
                },
            ),
        )
    )
    values = found.settings
    assert (values.image, values.end_image, values.frames, values.noise_aug_strength) == ("first.png", "last.png", 33, 0.1)


@pytest.mark.parametrize("seen", ["first", "other"])
def test_clip_vision_sees_the_pictures_of_the_clip(seen: str) -> None:
    found = read(
        wrapper(
            first=("LoadImage", {"image": "first.png"}),
            other=("LoadImage", {"image": "other.png"}),
            sees=("WanVideoClipVisionEncode", {"image_1": (seen, 0), "strength_1": 0.5}),
            size=("WanVideoImageToVideoEncode", {"start_image": ("first", 0), "clip_embeds": ("sees", 0)}),
        )
    )
    assert (found.settings.image, found.settings.clip_embed_strength) == ("first.png", 0.5)
    assert bool(lost(found, "image")) is (seen == "other")


def test_the_size_is_read_through_a_resizing_that_does_not_depend_on_the_picture() -> None:
    def resized(keep: str) -> FromComfy:
        boxes = {"width": 720, "height": 700, "keep_proportion": keep, "divisible_by": 32, "upscale_method": "lanczos"}
        return read(
            wrapper(
                picture=("LoadImage", {"image": "a.png"}),
                small=("ImageResizeKJv2", {"image": ("picture", 0), **boxes}),
                count=("GetImageSizeAndCount", {"image": ("small", 0)}),
                size={"width": ("count", 1), "height": ("small", 2)},
            )
        )

    found = resized("crop")
    assert (found.settings.width, found.settings.height) == (704, 672)
    assert "depends on the picture" in lost(resized("resize"), "width")


def test_a_clip_to_start_from() -> None:
    found = read(
        wrapper(
            video=("VHS_LoadVideo", {"video": "walk.mp4"}),
            encode=("WanVideoEncode", {"vae": ("vae", 0), "image": ("video", 0)}),
            sampler={"samples": ("encode", 0), "denoise_strength": 0.5},
        )
    )
    assert (found.settings.samples, found.settings.denoise_strength) == ("walk.mp4", 0.5)


def test_denoise_without_a_clip_is_told() -> None:
    found = read(native(denoise=0.5))
    assert "it needs samples" in lost(found, "denoise")


def test_comfyuis_denoise_lengthens_the_schedule() -> None:
    workflow = native(denoise=0.5)
    workflow["20"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    workflow["21"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["20", 0], "vae": ["8", 0]}}
    workflow["7"]["inputs"]["latent_image"] = ["21", 0]
    found = read(workflow)
    assert (found.settings.samples, found.settings.steps, len(found.settings.grid)) == ("a.png", 8, 4)


def two_samplers(**low: Any) -> dict[str, Any]:
    """Wan2.2 with ComfyUI's own nodes."""
    shared = {"positive": ("yes", 0), "negative": ("no", 0), "steps": 20, "sampler_name": "euler", "scheduler": "simple"}
    shared |= {"cfg": 3.5, "noise_seed": 5}
    return server(
        high=("UNETLoader", {"unet_name": "wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "weight_dtype": "default"}),
        low=("UNETLoader", {"unet_name": "wan2.2_t2v_low_noise_14B_fp8_scaled.safetensors", "weight_dtype": "default"}),
        fast=("LoraLoaderModelOnly", {"model": ("low", 0), "lora_name": "low.safetensors", "strength_model": 1.0}),
        yes=("CLIPTextEncode", {"text": "a horse"}),
        no=("CLIPTextEncode", {"text": "blurry"}),
        size=("EmptyHunyuanLatentVideo", {"width": 640, "height": 640, "length": 81, "batch_size": 1}),
        first=(
            "KSamplerAdvanced",
            {**shared, "model": ("high", 0), "latent_image": ("size", 0), "add_noise": "enable"}
            | {"start_at_step": 0, "end_at_step": 10, "return_with_leftover_noise": "enable"},
        ),
        second=(
            "KSamplerAdvanced",
            {**shared, "model": ("fast", 0), "latent_image": ("first", 0), "add_noise": "disable"}
            | {"start_at_step": 10, "end_at_step": 10000, "return_with_leftover_noise": "disable", **low},
        ),
        frames=("VAEDecode", {"samples": ("second", 0)}),
        save=("SaveWEBM", {"images": ("frames", 0), "filename_prefix": "horse", "codec": "vp9", "fps": 16.0, "crf": 32.0}),
    )


def test_two_samplers_of_which_one_goes_on_with_the_other_are_one_run() -> None:
    found = read(two_samplers())
    assert (found.read, found.settings.steps, found.settings.start_step, found.settings.end_step) == (2, 20, 0, 0)
    assert found.model.model == "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
    assert found.model.boundary_ratio is not None
    times = found.settings.levels().timesteps
    assert times[9] >= found.model.boundary_ratio * 1000 > times[10]
    assert [(lora.file, lora.expert) for lora in found.model.loras] == [("low.safetensors", "low")]
    assert found.settings.shift == 8.0  # ComfyUI's own, which no node says
    assert found.clip.format == "webm"


def test_another_cfg_of_the_second_sampler_is_a_list() -> None:
    assert read(two_samplers(cfg=1.0)).settings.cfg == (3.5,) * 10 + (1.0,) * 10


@pytest.mark.parametrize("change", [{"start_at_step": 11}, {"add_noise": "enable"}, {"sampler_name": "uni_pc"}, {"steps": 30}])
def test_samplers_that_are_no_halves_are_two_runs(change: dict[str, Any]) -> None:
    found = read(two_samplers(**change))
    assert found.read == 1
    assert "Another sampler's latents" in lost(found, "latent_image")
    assert "sampler= reads another" in " ".join(entry.reason for entry in found.notes)


def test_a_sampler_is_chosen_by_number_or_title() -> None:
    workflow = two_samplers()
    workflow["7"]["_meta"] = {"title": "the first"}
    by_number, by_title = read(workflow, sampler=7), read(workflow, sampler="the first")
    assert by_number.settings == by_title.settings
    assert by_number.settings.end_step == 10
    with pytest.raises(wl.SettingsError, match="the samplers are KSamplerAdvanced #7"):
        read(workflow, sampler="nobody")


def test_unknown_nodes_are_told_and_what_they_hand_on_is_still_read() -> None:
    found = read(
        wrapper(
            patch=("SomebodysPatch", {"model": ("loader", 0), "amount": 3}),
            after=("SomebodysFilter", {"images": ("frames", 0)}),
            sampler={"model": ("patch", 0)},
            save={"images": ("after", 0)},
        )
    )
    told_of = {entry.node.partition(" ")[0]: entry.reason for entry in found.not_taken}
    assert told_of == {
        "SomebodysPatch": "wanlab does not know this node.",
        "SomebodysFilter": "wanlab does not know this node.",
    }
    assert found.model.model == "mine.safetensors"
    assert found.clip.filename_prefix == "panda"


def test_a_strange_loader_of_one_file_is_taken_for_the_transformers() -> None:
    workflow = native()
    workflow["1"] = {"class_type": "SomebodysLoader", "inputs": {"file": "wan2.1_t2v_14B_bf16.safetensors", "fast": True}}
    found = read(workflow)
    assert found.model.model == "Wan-AI/Wan2.1-T2V-14B-Diffusers"
    assert "its file is taken" in " ".join(entry.reason for entry in found.notes)


def test_rows_of_rgthrees_loader() -> None:
    found = read(
        editor(
            box(1, "UNETLoader", ["m.safetensors", "default"], outputs=("MODEL",)),
            box(
                2,
                "Power Lora Loader (rgthree)",
                [
                    {},
                    {"type": "PowerLoraLoaderHeaderWidget"},
                    {"on": True, "lora": "a.safetensors", "strength": 0.75},
                    {"on": False, "lora": "b.safetensors", "strength": 1},
                    {},
                    "",
                ],
                {"model": ("MODEL", (1, 0))},
                outputs=("MODEL", "CLIP"),
            ),
            box(
                3,
                "KSampler",
                [5, "randomize", 4, 1, "euler", "simple", 1],
                {"model": ("MODEL", (2, 0)), "latent_image": ("LATENT", None)},
            ),
        )
    )
    assert [(lora.file, lora.strength) for lora in found.model.loras] == [("a.safetensors", 0.75)]
    assert (found.settings.seed, found.settings.steps) == (5, 4)


def test_what_serves_only_what_is_not_taken_is_told_too() -> None:
    found = read(
        wrapper(
            voice=("LoadAudio", {"audio": "voice.wav"}),
            heard=("MultiTalkWav2VecEmbeds", {"audio_1": ("voice", 0)}),
            sampler={"multitalk_embeds": ("heard", 0)},
        )
    )
    nodes = [entry.node.partition(" ")[0] for entry in found.not_taken]
    assert nodes == ["WanVideoSampler", "MultiTalkWav2VecEmbeds", "LoadAudio"]


def test_the_editors_lists_get_their_names_also_from_older_versions() -> None:
    found = read(
        editor(
            box(1, "WanVideoTeaCache", [0.04, 6, "offload_device"], outputs=("CACHEARGS",)),
            box(2, "WanVideoTextEncode", ["a panda", "blurry", True], outputs=("WANVIDEOTEXTEMBEDS",)),
            box(3, "WanVideoEmptyEmbeds", [832, 480, 81], outputs=("WANVIDIMAGE_EMBEDS",)),
            box(
                4,
                "WanVideoSampler",
                [25, 6, 5, 1057359483639287, "fixed", True, "dpm++", 0, 1, ""],
                {
                    "text_embeds": ("WANVIDEOTEXTEMBEDS", (2, 0)),
                    "image_embeds": ("WANVIDIMAGE_EMBEDS", (3, 0)),
                    "teacache_args": ("CACHEARGS", (1, 0)),
                },
            ),
        )
    )
    settings = found.settings
    assert (settings.seed, settings.solver, settings.steps) == (1057359483639287, "dpm++", 25)
    assert settings.cache is not None
    assert (settings.cache.threshold, settings.cache.start_percent) == (0.04, 6 / 25)


def test_reroutes_names_constants_and_bypassed_nodes_are_followed() -> None:
    found = read(
        editor(
            box(1, "INTConstant", [12], outputs=("INT",)),
            box(2, "SetNode", ["steps"], {"INT": ("INT", (1, 0))}, outputs=("INT",)),
            box(3, "GetNode", ["steps"], outputs=("INT",)),
            box(4, "PrimitiveNode", [3.5, "fixed"], outputs=("FLOAT",)),
            box(5, "Reroute", [], {"": ("*", (4, 0))}, outputs=("FLOAT",)),
            box(6, "WanVideoModelLoader", ["m.safetensors", "bf16", "disabled", "main_device"], outputs=("WANVIDEOMODEL",)),
            box(
                7,
                "WanVideoSetBlockSwap",
                [],
                {"model": ("WANVIDEOMODEL", (6, 0)), "block_swap_args": ("BLOCKSWAPARGS", (10, 0))},
                outputs=("WANVIDEOMODEL",),
            )
            | {"mode": 4},
            box(
                8,
                "WanVideoSampler",
                [30, 6, 5, 1, "randomize", True, "unipc", 0, 1],
                {
                    "model": ("WANVIDEOMODEL", (7, 0)),
                    "feta_args": ("FETAARGS", (9, 0)),
                    "steps": ("INT", (3, 0)),
                    "cfg": ("FLOAT", (5, 0)),
                },
                widgets=("steps", "cfg"),
            ),
            box(9, "WanVideoEnhanceAVideo", [4, 0, 1], outputs=("FETAARGS",)) | {"mode": 2},
            box(10, "WanVideoBlockSwap", [30], outputs=("BLOCKSWAPARGS",)),
        )
    )
    assert (found.settings.steps, found.settings.cfg) == (12, 3.5)
    assert found.model.model == "m.safetensors"
    assert found.model.blocks_to_swap == 0  # its node is bypassed
    assert found.settings.feta is None  # its node is muted


def subgraph() -> dict[str, Any]:
    """A sampler in a group of nodes, whose steps are set from outside and whose cfg hangs on a node outside."""
    within = editor(
        box(
            5,
            "WanVideoSampler",
            [30, 6, 5, 1, "fixed", True, "unipc", 0, 1],
            {"steps": ("INT", (-10, 0)), "cfg": ("FLOAT", (-10, 1)), "image_embeds": ("WANVIDIMAGE_EMBEDS", (6, 0))},
            outputs=("LATENT",),
            widgets=("steps", "cfg"),
        ),
        box(6, "WanVideoEmptyEmbeds", [320, 240, 33], outputs=("WANVIDIMAGE_EMBEDS",)),
    )
    rows = [
        dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link, strict=True))
        for link in within["links"]
    ]
    rows.append({"id": 99, "origin_id": 5, "origin_slot": 0, "target_id": -20, "target_slot": 0, "type": "LATENT"})
    definition = {
        "id": "aaaa-bbbb",
        "name": "Sample",
        "inputs": [{"name": "steps", "type": "INT"}, {"name": "cfg", "type": "FLOAT"}],
        "outputs": [{"name": "LATENT", "type": "LATENT"}],
        "nodes": within["nodes"],
        "links": rows,
    }
    return editor(
        box(
            1,
            "aaaa-bbbb",
            [8, 640],
            {"steps": ("INT", None), "cfg": ("FLOAT", (2, 0))},
            outputs=("LATENT",),
            widgets=("steps", "cfg"),
            properties={"proxyWidgets": [["-1", "steps"], ["6", "width"]]},
        ),
        box(2, "FloatConstant", [2.5], outputs=("FLOAT",)),
        box(3, "WanVideoDecode", [False, 272, 272, 144, 128], {"samples": ("LATENT", (1, 0))}, outputs=("IMAGE",)),
        box(4, "VHS_VideoCombine", {"frame_rate": 12, "format": "image/webp"}, {"images": ("IMAGE", (3, 0))}),
        definitions={"subgraphs": [definition]},
    )


def test_groups_of_nodes_are_unfolded() -> None:
    found = read(subgraph())
    assert (found.settings.steps, found.settings.cfg, found.settings.width, found.settings.height) == (8, 2.5, 640, 240)
    assert (found.clip.frame_rate, found.clip.format) == (12.0, "webp")
    assert found.samplers == ("WanVideoSampler #1:5",)


def test_links_without_a_line_are_followed() -> None:
    workflow = editor(
        box(1, "WanVideoEnhanceAVideo", [3, 0, 1], outputs=("FETAARGS",)),
        box(2, "WanVideoSampler", [5, 6, 5, 1, "fixed", True, "unipc", 0, 1], {"feta_args": ("FETAARGS", None)}),
        extra={"ue_links": [{"downstream": 2, "downstream_slot": 0, "upstream": "1", "upstream_slot": 0, "type": "FETAARGS"}]},
    )
    feta = read(workflow).settings.feta
    assert feta is not None
    assert feta.weight == 3.0


@pytest.mark.parametrize(
    ("file", "name", "expert"),
    [
        ("WanVideo\\Wan2_1-T2V-14B_fp8_e4m3fn.safetensors", "Wan2.1-T2V-14B", ""),
        ("wan2.1_i2v_480p_14B_fp16.safetensors", "Wan2.1-I2V-14B-480P", ""),
        ("2_2/Wan2_2-I2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", "Wan2.2-I2V-A14B", "low"),
        ("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "Wan2.2-T2V-A14B", "high"),
        ("wan2.2_ti2v_5B_fp16.safetensors", "Wan2.2-TI2V-5B", ""),
        ("Wan2_1-T2V-14B-Phantom_fp16.safetensors", None, ""),
        ("Wan2_1-SkyReels-V2-DF-1_3B-540P_fp32.safetensors", None, ""),
        ("wan2.1-i2v-14b-480p-Q8_0.gguf", None, ""),
        ("wan2.1_i2v_14B_fp16.safetensors", None, ""),  # of 480p or of 720p?
        ("", None, ""),
    ],
)
def test_files_of_published_checkpoints_are_known_by_name(file: str, name: str | None, expert: str) -> None:
    found = told(file)
    assert (found.known and found.known.name, found.expert) == (name, expert)


def test_every_table_names_settings_that_there_are() -> None:
    known = {**declared(), **declared(ModelSettings), **switches(Settings)}
    words = {"or", "model", "cfg,", "sigmas,", ""}
    for name, kind in KINDS.items():
        for part in kind.boxes:
            for setting in part.becomes.replace(",", " ").split():
                assert setting in known or setting in words, (name, part.name, setting)


def all_boxes(kind: Kind) -> list[str]:
    return [part.name for part in kind.boxes] + [socket.name for socket in kind.sockets]


def test_no_input_stands_twice_in_a_table() -> None:
    for name, kind in KINDS.items():
        assert len(set(all_boxes(kind))) == len(all_boxes(kind)), name


def test_whatever_is_not_taken_has_a_reason_for_people() -> None:
    for name, kind in KINDS.items():
        for part in kind.boxes:
            if not part.becomes and not kind.lost and part.default != "" and "Constant" not in name:
                assert part.read or part.why.endswith("."), (name, part.name)


def test_the_guide_is_up_to_date() -> None:
    assert (ROOT / "docs/comfyui.md").read_text() == comfy_markdown()


def test_the_tables_of_what_was_read_escape_what_people_wrote(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    workflow = wrapper(texts={"positive_prompt": nasty}, more=(nasty, {"x": 1}), sampler={"feta_args": ("more", 0)})
    found = read(workflow)
    page = found.to_html(tmp_path / "read.html").read_text()
    for text in (page, found._repr_html_(), found.not_taken._repr_html_()):
        assert nasty not in text
    assert "&lt;script&gt;" in page


def test_the_code_makes_the_same_settings() -> None:
    found = read(hung("feta_args", "WanVideoEnhanceAVideo", weight=4.0))
    names: dict[str, Any] = {}
    calls: dict[str, Any] = {}

    class Lab:
        def __init__(self, **settings: Any) -> None:
            calls["model"] = ModelSettings().but(settings)

        def run(self, prompt: str, changes: Any = (), **settings: Any) -> None:
            calls["run"] = Settings().but({"prompt": prompt, **dict(changes), **settings})

    code = found.code().replace("import wanlab as wl", "")
    names["wl"] = type("wl", (), {"Lab": Lab})
    exec(code, names)
    assert calls["run"] == found.settings
    assert calls["model"] == found.model
