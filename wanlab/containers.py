"""Pictures and a comment into mp4, webm, gif, webp and png, and out again: the formats under `wanlab.clip`.

PyAV brings its own encoders, so no ffmpeg program is needed. Pictures reach the encoder one by one. What the decoders
raise for damaged bytes can be anything; `wanlab.clip` turns it into a FileError.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from wanlab.errors import FileError
from wanlab.settings import ClipSettings

Picture = npt.NDArray[np.uint8]  # (h, w, 3) RGB

MOST_TEXT = 2**20  # bytes of comment; Pillow joins the blocks of a gif comment one by one, so more would be slow
_MOST_BYTES = 4 * 2**30  # of decoded frames: 3600 frames of 832 x 480; a hostile file of 1 kB can ask for far more
_MOST_PIXELS = 2**26  # of one frame
_EXIF_DESCRIPTION = 0x010E
_BT709, _TV_RANGE = 1, 1

_CODECS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {  # codec, its options, the container's
    "mp4": ("libx264", {"crf": "18"}, {"movflags": "faststart"}),
    # b=0: constant quality; cpu-used 4 takes a third of the time for 4 % more bytes.
    "webm": ("libvpx-vp9", {"crf": "20", "b": "0", "row-mt": "1", "cpu-used": "4"}, {}),
}


def _write_video(path: Path, pictures: list[Picture], settings: ClipSettings, comment: str) -> None:
    import av
    from av.video.reformatter import VideoReformatter

    codec, codec_options, options = _CODECS[settings.format]
    rate = Fraction(settings.frame_rate).limit_denominator(1001)  # television has 30000/1001
    h, w, _ = pictures[0].shape
    with av.open(str(path.absolute()), "w", format=settings.format, options=options) as file:
        file.metadata["comment"] = comment
        stream = cast(av.VideoStream, file.add_stream(codec, rate=rate, options=codec_options))
        stream.width, stream.height, stream.pix_fmt = w + w % 2, h + h % 2, "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / rate
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _TV_RANGE
        convert = VideoReformatter()  # one for all: a new one for each frame takes most of the time of small clips
        for k, picture in enumerate(pictures):
            even = np.pad(picture, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
            rgb = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame = convert.reformat(rgb, format="yuv420p", dst_colorspace=_BT709, dst_color_range=_TV_RANGE)
            frame.color_primaries = frame.color_trc = _BT709
            frame.pts, frame.duration, frame.time_base = k, 1, 1 / rate
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _write_gif(path: Path, pictures: list[Picture], settings: ClipSettings, comment: str) -> None:
    """One palette for the whole clip, made from all its frames, and sierra dithering.

    Measured against Pillow (a palette for each frame, no dithering): fewer bands, less flicker, a third of the time; both
    keep clips of few colours exact, and this one also keeps each frame of a clip that stands still.
    """
    import av
    from av.error import EOFError as NoMoreFrames

    h, w, _ = pictures[0].shape
    tick = Fraction(1, 100)
    times = _ticks(len(pictures), settings.frame_rate, 100)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=w, height=h, format=av.VideoFormat("rgb24"), time_base=tick)
    split, palette, use = graph.add("split"), graph.add("palettegen"), graph.add("paletteuse", "dither=sierra2_4a")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(graph.add("buffersink"))
    graph.configure()
    options = {"loop": str(settings.loop_count), "final_delay": str(times[-1] - times[-2])}
    with av.open(str(path.absolute()), "w", format="gif", options=options) as file:
        stream = file.add_stream("gif", rate=100)
        stream.width, stream.height, stream.pix_fmt = w, h, "pal8"
        stream.codec_context.time_base = tick
        for time, picture in zip(times, pictures, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = time, tick
            graph.push(frame)
        graph.push(None)
        with contextlib.suppress(NoMoreFrames):
            while True:
                file.mux(stream.encode(cast(av.VideoFrame, graph.pull())))
        file.mux(stream.encode())
    _add_gif_comment(path, comment.encode())


def _add_gif_comment(path: Path, comment: bytes) -> None:
    """Put a comment extension in front of the first picture; ffmpeg writes none."""
    content = path.read_bytes()
    start = 13 + (6 << (content[10] & 7) if content[10] & 0x80 else 0)  # after the header and the global palette
    blocks = (comment[k : k + 255] for k in range(0, len(comment), 255))
    extension = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    path.write_bytes(content[:start] + extension + content[start:])


def _write_webp(path: Path, pictures: list[Picture], settings: ClipSettings, comment: str) -> None:
    """Lossless stills as the frames of an animation (Google, "WebP Container Specification").

    Pillow's own animations merge equal frames, lose the duration of a clip that stands still and hold it in memory twice.
    """
    from PIL import Image

    exif = Image.Exif()
    exif[_EXIF_DESCRIPTION] = comment
    times = _ticks(len(pictures), settings.frame_rate, 1000)
    h, w, _ = pictures[0].shape
    size = _uint24(w - 1) + _uint24(h - 1)
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        _webp_chunk(file, b"VP8X", struct.pack("<I", 0b1010) + size)  # has EXIF, is animated
        _webp_chunk(file, b"ANIM", struct.pack("<IH", 0, settings.loop_count))
        for k, picture in enumerate(pictures):
            still = io.BytesIO()
            # method 1 is 2 % larger than Pillow's default 4, in a quarter of the time.
            Image.fromarray(picture).save(still, "WEBP", lossless=True, method=1)
            place = bytes(6) + size + _uint24(times[k + 1] - times[k]) + b"\2"  # at (0, 0), no blending
            _webp_chunk(file, b"ANMF", place + still.getvalue()[12:])
        _webp_chunk(file, b"EXIF", exif.tobytes().removeprefix(b"Exif\0\0"))
        length = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", length))


def _webp_chunk(file: BinaryIO, name: bytes, content: bytes) -> None:
    file.write(name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2))


def _uint24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _ticks(count: int, frame_rate: float, per_second: int) -> list[int]:
    """When each frame begins and the last one ends. Rounded times, not rounded durations: so the clip keeps its length."""
    return [round(per_second * k / frame_rate) for k in range(count + 1)]


def _write_pictures(path: Path, pictures: list[Picture], settings: ClipSettings, comment: str) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path.mkdir()
    note = PngInfo()
    note.add_text("Comment", comment)
    for k, picture in enumerate(pictures, start=1):
        Image.fromarray(picture).save(path / f"{k:05}.png", pnginfo=note if k == 1 else None)


WRITERS: dict[str, Callable[[Path, list[Picture], ClipSettings, str], None]] = {
    "mp4": _write_video,
    "webm": _write_video,
    "gif": _write_gif,
    "webp": _write_webp,
    "png": _write_pictures,
}


def read_comment(path: Path) -> bytes:
    """The comment in the file or in the first picture of the folder, b"" if it has none."""
    import av
    from PIL import Image

    if path.is_dir():
        path = path / "00001.png"
    kind = _kind(path)
    with path.open("rb") as file:
        if kind in ("mp4", "webm"):
            with av.open(file, "r", format=_DEMUXERS[kind]) as container:
                return {name.lower(): value for name, value in container.metadata.items()}.get("comment", "").encode()
        source = io.BytesIO(file.read(2 * MOST_TEXT)) if kind == "gif" else file
        with Image.open(source, formats=[kind]) as image:
            if kind == "gif":
                return bytes(image.info.get("comment", b""))
            return str(image.getexif().get(_EXIF_DESCRIPTION, "") if kind == "webp" else image.info.get("Comment", "")).encode()


def read_pictures(path: Path) -> tuple[list[Picture], float]:
    """The pictures and how many seconds they last, NaN for a png or a folder of them."""
    if path.is_dir():
        files = sorted(path.glob("[0-9]*.png"), key=lambda file: (len(file.name), file.name))
        pictures: list[Picture] = []
        for file in files:
            pictures += _read_with_pillow(file)[0]
            _check_size(path, pictures[-1].shape[1], pictures[-1].shape[0], len(pictures))
        return pictures, math.nan
    return (_read_with_pillow if _kind(path) in ("webp", "png") else _read_with_av)(path)


def _read_with_av(path: Path) -> tuple[list[Picture], float]:
    import av

    pictures: list[Picture] = []
    kind = _kind(path)
    with path.open("rb") as file, av.open(file, "r", format=_DEMUXERS[kind]) as container:
        if not container.streams.video:
            return [], math.nan
        stream = container.streams.video[0]
        _check_size(path, stream.width, stream.height, 1)
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise FileError(f"{path} is damaged at frame {len(pictures)}.")
            pictures.append(cast(Picture, frame.to_ndarray(format="rgb24")))
            _check_size(path, frame.width, frame.height, len(pictures))
        if kind == "gif":
            return pictures, float((stream.duration or 0) * (stream.time_base or 0))
        return pictures, float(len(pictures) / stream.average_rate) if stream.average_rate else math.nan


def _read_with_pillow(path: Path) -> tuple[list[Picture], float]:
    from PIL import Image

    pictures: list[Picture] = []
    milliseconds = 0.0
    with Image.open(path, formats=["webp", "png"]) as image:
        count = getattr(image, "n_frames", 1)
        _check_size(path, *image.size, count)
        for k in range(count):
            image.seek(k)
            pictures.append(np.asarray(image.convert("RGB")))
            milliseconds += image.info.get("duration", math.nan)
    return pictures, milliseconds / 1000


_DEMUXERS = {"mp4": "mov", "webm": "matroska", "gif": "gif"}


def _kind(path: Path) -> str:
    """The format by the first bytes: endings can lie, and ffmpeg's own guess also opens playlists, which name other files."""
    with path.open("rb") as file:
        head = file.read(16)
    kinds = {"mp4": head[4:8] == b"ftyp", "webm": head[:4] == b"\x1aE\xdf\xa3", "gif": head[:4] == b"GIF8"}
    kinds |= {"webp": head[:4] == b"RIFF" and head[8:12] == b"WEBP", "png": head[:4] == b"\x89PNG"}
    for kind, matches in kinds.items():
        if matches:
            return kind
    raise FileError(f"{path} is no clip: it must be mp4, webm, gif, webp, a png picture or a folder of them.")


def _check_size(path: Path, width: int, height: int, count: int) -> None:
    if width * height > _MOST_PIXELS or width * height * 3 * count > _MOST_BYTES:
        raise FileError(
            f"{path} has {count} or more frames of {width} x {height}; the most are {_MOST_BYTES / 2**30:g} GiB in all "
            f"and {_MOST_PIXELS / 1e6:.0f} million pixels in one."
        )
