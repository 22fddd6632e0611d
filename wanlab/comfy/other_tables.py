"""Nodes that save clips, that load and change pictures, and that only hand something on. No torch."""

from __future__ import annotations

from wanlab.comfy import native_readings as native
from wanlab.comfy import readings as read
from wanlab.comfy import sentences as why
from wanlab.comfy.kinds import Box, Kind, Socket, along, out, take

_IMAGES = Socket("images", role="frames made")
_SOUND = Socket("audio", why=why.AUDIO)
_PREFIX = take("filename_prefix", "ComfyUI", "clip.filename_prefix")

SAVERS: dict[str, Kind] = {
    "VHS_VideoCombine": Kind(
        "Writes the clip (VideoHelperSuite).",
        (
            take("frame_rate", 8, "clip.frame_rate", read.fraction),
            take("loop_count", 0, "clip.loop_count", read.whole),
            take("filename_prefix", "AnimateDiff", "clip.filename_prefix"),
            take("format", "image/gif", "clip.format", read.clip_format),
            take("pingpong", False, "clip.pingpong"),
            take("save_output", True, "clip.save_output"),
            out("pix_fmt", "yuv420p", why.WRITING),
            out("crf", 19, why.WRITING, 20, 18),
            out("lossless", True, why.WRITING),
            out("save_metadata", True, "Settings are always written into the clip.", "Yes"),
            out("trim_to_audio", False, why.AUDIO),
        ),
        (_IMAGES, _SOUND, Socket("meta_batch", why="Frames go to the file one by one anyway."), Socket("vae")),
        saves=True,
    ),
    "SaveAnimatedWEBP": Kind(
        "Writes a webp.",
        (
            _PREFIX,
            take("fps", 6.0, "clip.frame_rate, clip.format", native.saved_as("webp")),
            out("lossless", True, why.WRITING),
            out("quality", 80, why.WRITING, 90, 85, 75),
            out("method", "default", why.WRITING, "fastest", "slowest"),
        ),
        (_IMAGES,),
        saves=True,
    ),
    "SaveAnimatedPNG": Kind(
        "Writes a png that moves.",
        (
            _PREFIX,
            take("fps", 6.0, "clip.frame_rate, clip.format", native.saved_as("png"), "A folder with a picture for each frame."),
            out("compress_level", 4, why.WRITING),
        ),
        (_IMAGES,),
        saves=True,
    ),
    "SaveWEBM": Kind(
        "Writes a webm.",
        (
            _PREFIX,
            out("codec", "vp9", "wanlab's webm is VP9."),
            take("fps", 24.0, "clip.frame_rate, clip.format", native.saved_as("webm")),
            out("crf", 32.0, why.WRITING, 32, 20, 20.0, 13, 13.0),
        ),
        (_IMAGES,),
        saves=True,
    ),
    "SaveVideo": Kind(
        "Writes a mp4.",
        (
            take("filename_prefix", "video/ComfyUI", "clip.filename_prefix"),
            take("format", "auto", "clip.format", native.native_format),
            out("codec", "auto", why.WRITING, "h264"),
        ),
        (Socket("video", role="frames made"),),
        saves=True,
    ),
    "SaveImage": Kind(
        "Writes pictures.",
        (_PREFIX, Box("", None, "clip.format", "png, a folder with a picture for each frame.", native.as_pictures)),
        (_IMAGES,),
        saves=True,
    ),
    "CreateVideo": Kind("The frame rate.", (take("fps", 30.0, "clip.frame_rate", read.fraction),), (_IMAGES, _SOUND)),
}

_PART = "A video is read from its first frame to its last."
_RESIZED = "wanlab cuts pictures itself to the clip's size."

PICTURES: dict[str, Kind] = {
    "LoadImage": Kind("The file of a picture.", (take("image", "", "image, end_image or samples", read.picture),)),
    "VHS_LoadVideo": Kind(
        "The file of a video (VideoHelperSuite).",
        (
            take("video", "", "samples", read.picture),
            out("force_rate", 0, "Frames are taken as they are."),
            out("custom_width", 0, _RESIZED),
            out("custom_height", 0, _RESIZED),
            out("frame_load_cap", 0, _PART),
            out("skip_first_frames", 0, _PART),
            out("select_every_nth", 1, _PART),
            out("format", "None", "Frames are taken as they are.", "AnimateDiff", "Wan"),
        ),
    ),
    "LoadVideo": Kind("The file of a video.", (take("file", "", "samples", read.picture),)),
    "GetVideoComponents": Kind("The frames of a video.", sockets=(Socket("video"),)),
    "ImageResizeKJv2": Kind(
        "Changes a picture's size (KJNodes); its width and height are read where the clip's size hangs on them.",
        tuple(
            along(name, default, "", "")
            for name, default in (
                ("width", 512),
                ("height", 512),
                ("upscale_method", "nearest-exact"),
                ("keep_proportion", "stretch"),
                ("pad_color", "0, 0, 0"),
                ("crop_position", "center"),
                ("divisible_by", 2),
                ("device", "cpu"),
            )
        ),
        (Socket("image"),),
        lost=_RESIZED,
    ),
    "GetImageSizeAndCount": Kind("A picture and its size (KJNodes).", sockets=(Socket("image"),), hands_on="image"),
}

_CHANGES = "wanlab does not change pictures or finished frames."
_OTHER = "It is for a model or a way of control that wanlab does not have."
# Nodes that people use with Wan and that wanlab has nothing for, with a better reason than that it does not know them.
STRANGERS = {
    **dict.fromkeys(
        (
            "AddLabel",
            "ColorMatch",
            "EmptyImage",
            "GetImageRangeFromBatch",
            "ImageBatch",
            "ImageBatchMulti",
            "ImageCompositeMasked",
            "ImageConcanate",
            "ImageConcatMulti",
            "ImageCrop",
            "ImagePadKJ",
            "ImageResize+",
            "ImageResizeKJ",
            "ImageScale",
            "ImageScaleBy",
            "ImageScaleToTotalPixels",
            "ImageUpscaleWithModel",
            "RIFE VFI",
            "FILM VFI",
        ),
        _CHANGES,
    ),
    **dict.fromkeys(
        (
            "HuMoEmbeds",
            "MochaEmbeds",
            "UNetTemporalAttentionMultiply",
            "WanAnimateToVideo",
            "WanCameraEmbedding",
            "WanHuMoImageToVideo",
            "WanPhantomSubjectToVideo",
            "WanSoundImageToVideo",
            "WanTrackToVideo",
            "WanVideoATITracks",
            "WanVideoAddControlEmbeds",
            "WanVideoAddPusaNoise",
            "WanVideoAddS2VEmbeds",
            "WanVideoAddStandInLatent",
            "WanVideoAddTTMLatents",
            "WanVideoAnimateEmbeds",
            "WanVideoControlEmbeds",
            "WanVideoControlnet",
            "WanVideoImageToVideoMultiTalk",
            "WanVideoPhantomEmbeds",
            "WanVideoReCamMasterCameraEmbed",
            "WanVideoUni3C_embeds",
            "WanVideoUniLumosEmbeds",
        ),
        _OTHER,
    ),
}

# Nodes through which a link goes on as if they were not there: the socket that they hand on.
THROUGH = {
    "Reroute": "",
    "Reroute (rgthree)": "",
    "SetNode": "",
    "PreviewAny": "",
    "WanVideoPassImagesFromSamples": "samples",
    "VRAM_Debug": "any_input",
    "easy showAnything": "anything",
    "easy cleanGpuUsed": "anything",
    "ModelPatchTorchSettings": "model",
}
# Nodes that hold a value for others: the box that has it.
CONSTANTS = {
    "PrimitiveNode": "value",
    "PrimitiveInt": "value",
    "PrimitiveFloat": "value",
    "PrimitiveBoolean": "value",
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "INTConstant": "value",
    "FloatConstant": "value",
    "BOOLConstant": "value",
    "StringConstant": "string",
    "StringConstantMultiline": "string",
    "Seed (rgthree)": "seed",
    "easy int": "value",
    "easy float": "value",
    "easy seed": "seed",
    "Int": "Number",
    "Float": "Number",
    "CR Prompt Text": "prompt",
    "Text Multiline": "text",
    "JWInteger": "value",
    "JWFloat": "value",
    "mxSlider": "Xi",
    "ttN text": "text",
    "CM_IntInput": "value",
}
# Notes for people, which nothing hangs on.
NOTES = ("Note", "MarkdownNote", "Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)")

HELPERS: dict[str, Kind] = {
    name: Kind("A value for other nodes.", (along(box, None, "", "Taken where it hangs."),)) for name, box in CONSTANTS.items()
} | {
    "CreateCFGScheduleFloatList": Kind(
        "A cfg for each step (WanVideoWrapper).",
        tuple(
            along(name, default, "cfg", "A list with a value for each step.")
            for name, default in (
                ("steps", 30),
                ("cfg_scale_start", 5.0),
                ("cfg_scale_end", 5.0),
                ("interpolation", "linear"),
                ("start_percent", 0.0),
                ("end_percent", 1.0),
            )
        ),
    ),
    "StringToFloatList": Kind("A list of numbers (KJNodes).", (along("string", "1, 2, 3", "cfg, sigmas", "The list."),)),
    "GetNode": Kind("Takes what a SetNode holds (KJNodes).", (along("name", "", "", "Which one."),)),
    "SetNode": Kind("Holds something under a name (KJNodes).", (along("name", "", "", "Which one."),)),
}
