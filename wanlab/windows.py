"""Context windows: a long video as overlapping short ones, seen one at a time. All counted in latent frames; no torch.

At every step the model predicts the velocity of each window by itself, and the predictions are fused frame by frame,

    fused = sum_k w_k out_k / sum_k w_k        over the windows k that show the frame,

before the solver takes its one step on the whole video (MultiDiffusion, Bar-Tal et al. 2023, arXiv 2302.08113, in time as in
Gen-L-Video, Wang et al. 2023, arXiv 2305.18264). A window that moves from step to step leaves no seam in one place; one that
shows every second frame (dilation 2) sees twice as far. The schedules are those of AnimateDiff-Evolved, as ComfyUI and
WanVideoWrapper have them. With a stride above 1 theirs may name frames that do not exist, name one frame twice or leave one
out. Here no option does, and where theirs do nothing of it ours are equal, but for the first of these rules on a ring:

- a dilation c is used only if a window of it fits into the video, (length - 1) c + 1 <= latent_frames. On a ring of odd length
  a longer one can wind around twice without meeting itself; that is neither near nor far, and left out.
- a window that is there already is dropped.
- a frame that no window shows gets one more window around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from wanlab.errors import SettingsError

Window = list[int]

SCHEDULES = ("static_standard", "uniform_standard", "uniform_looped", "batched")
FUSES = ("partition", "linear", "pyramid", "flat", "relative")
SILENT = 1e-6  # the weight of every window for a frame that all of them would leave out


def windows(
    schedule: str, latent_frames: int, length: int, stride: int, overlap: int, step: int, closed_loop: bool = True
) -> list[Window]:
    """The windows of a step: lists of frames, each in range and unique within its window, and every frame in some window.

    - static_standard: the same at all steps, each `overlap` frames into the one before, the last one moved back to the end.
    - uniform_looped: windows of `stride` dilations 1, 2, 4, ... on the video as a ring, turned by another part of it at each
      step. One may wrap from the last frame to the first. Without `closed_loop` the ring is left open where windows meet.
    - uniform_standard: the same, but a window that would wrap is moved back to the end. It depends on `closed_loop` too:
      WanVideoWrapper has it closed, ComfyUI open.
    - batched: one block after the other, without overlap; the last is what remains.

    `stride` is how many dilations are tried, as in the known nodes, not a distance: more of it is more windows. A video that
    is no longer than one window is one window.

    >>> [(window[0], window[-1]) for window in windows("static_standard", 41, 21, 1, 4, step=0)]
    [(0, 20), (17, 37), (20, 40)]
    """
    if schedule not in SCHEDULES:
        raise SettingsError(f"There is no window schedule {schedule!r}; there are {', '.join(SCHEDULES)}.")
    if length < 1 or stride < 1 or not 0 <= overlap < length:
        raise SettingsError(
            f"Windows of {length} latent frames with an overlap of {overlap} and a stride of {stride} cannot be: "
            "length and stride must be at least 1, and the overlap at least 0 and less than the length."
        )
    if latent_frames <= length:
        return [list(range(latent_frames))]
    if schedule == "static_standard":
        starts = [*range(0, latent_frames - length, length - overlap), latent_frames - length]
        return [list(range(start, start + length)) for start in starts]
    if schedule == "batched":
        return [list(range(start, min(start + length, latent_frames))) for start in range(0, latent_frames, length)]
    made = _on_a_ring(latent_frames, length, stride, overlap, step, closed_loop)
    if schedule == "uniform_standard":
        made = _straight(made, latent_frames)
    return _covering(made, latent_frames, length)


def _on_a_ring(latent_frames: int, length: int, stride: int, overlap: int, step: int, closed_loop: bool) -> list[Window]:
    """The windows of uniform_looped, dilation after dilation."""
    turn = _halving(step)
    pad = round(latent_frames * turn)
    end = latent_frames + pad - (0 if closed_loop else overlap)
    made = []
    for dilation in _dilations(latent_frames, length, stride):
        for start in range(int(turn * dilation) + pad, end, length * dilation - overlap):
            made.append([(start + k * dilation) % latent_frames for k in range(length)])
    return made


def _halving(step: int) -> float:
    """How far the ring is turned at a step: 0, 1/2, 1/4, 3/4, 1/8, 5/8, ..., the van der Corput sequence to the base 2."""
    return int(f"{step:b}"[::-1], 2) / 2 ** step.bit_length()


def _dilations(latent_frames: int, length: int, stride: int) -> Iterator[int]:
    """1, 2, 4, ...: at most `stride` of them, and only those of which a window fits into the video."""
    dilation = 1
    while stride and max(length - 1, 1) * dilation < latent_frames:
        yield dilation
        dilation, stride = 2 * dilation, stride - 1


def _straight(ring: list[Window], latent_frames: int) -> list[Window]:
    """Windows that wrap, moved back to the end of the video; after one, a window for its other side if the next lacks it."""
    made: list[Window] = []
    for window, following in zip(ring, [*ring[1:], None], strict=True):
        wrap = _wrap(window)
        if wrap is None:
            made.append(window)
            continue
        dilation = (window[1] - window[0]) % latent_frames
        made.append(list(range(latent_frames - 1 - (len(window) - 1) * dilation, latent_frames, dilation)))
        first = window[wrap]
        if first not in (made[0] if following is None else following):
            made.append(list(range(first, first + len(window))))
    return made


def _wrap(window: Window) -> int | None:
    """The place in a window where it goes on at the beginning of the video; None if it does not."""
    return next((k for k in range(1, len(window)) if window[k] < window[k - 1]), None)


def _covering(made: list[Window], latent_frames: int, length: int) -> list[Window]:
    """Without windows that are there already, and with a window around each frame that is in none."""
    kept = [list(window) for window in dict.fromkeys(map(tuple, made))]
    covered = {frame for window in kept for frame in window}
    for frame in range(latent_frames):
        if frame not in covered:
            start = min(max(frame - length // 2, 0), latent_frames - length)
            kept.append(list(range(start, start + length)))
            covered.update(kept[-1])
    return kept


def blend_weights(fuse: str, windows: list[Window], latent_frames: int, overlap: int) -> list[np.ndarray]:
    """The weights of each window's frames, (len(window),) float64 each; their sum over windows is positive for every frame.

    An edge of a window is inner unless it is an end of the video: the first frame at the left, the last at the right.

    - partition: 1, with ramps (k + 1/2) / overlap at inner edges, never 0 or 1, so that all frames of an overlap mix.
      Neighbours that overlap as asked for sum to 1. If a window wraps, the video is a ring and every edge is inner.
    - linear: 1, with ramps from 0 to 1 at inner edges, of which the two ends do not mix: a hard cut for an overlap of 1 or 2.
      ComfyUI's "overlap-linear" and WanVideoWrapper's "linear". For windows that wrap that is its later looped flavour, with
      two ramps; the first one (March 2025) gave them none. Both take the least and the greatest frame for the edges of a
      window, ours its first and last: different for dilated windows that wrap.
    - pyramid: 1, 2, 3, ..., 3, 2, 1 for every window: ComfyUI's. WanVideoWrapper's is scaled to 1 and lifted at the ends.
    - flat: 1.
    - relative: 1 in the middle, falling straight to .01 at the edges. ComfyUI takes the running average of the windows with
      these weights, which is their weighted mean. Theirs is for static windows; here places in the window count, so it is
      right for all.

    A frame for which all windows have the weight 0, as "linear" does with strides above 1, gets 1e-6 from each of them, their
    plain mean. All others stay as they are.
    """
    if fuse not in FUSES:
        raise SettingsError(f"There is no way to fuse windows named {fuse!r}; there are {', '.join(FUSES)}.")
    if len(windows) == 1:
        return [np.ones(len(windows[0]))]
    ring = fuse == "partition" and any(_wrap(window) for window in windows)
    weights, total = [], np.zeros(latent_frames)
    for window in windows:
        left = overlap if ring or window[0] > 0 else 0
        right = overlap if ring or window[-1] < latent_frames - 1 else 0
        weights.append(_weights(fuse, len(window), left, right))
        total[window] += weights[-1]
    return [np.where(total[window] == 0, SILENT, own) for window, own in zip(windows, weights, strict=True)]


def _weights(fuse: str, length: int, left: int, right: int) -> np.ndarray:
    """The weights of one window whose ramps are `left` and `right` frames long."""
    place = np.arange(length)
    if fuse == "partition":
        up, down = (np.minimum((place + 0.5) / ramp, 1) if ramp else np.ones(length) for ramp in (left, right))
        return np.minimum(up, down[::-1])
    if fuse == "linear":
        weights = np.ones(length)
        weights[:left] = np.linspace(0, 1, left)[:length]
        weights[max(length - right, 0) :] = np.linspace(1, 0, right)[-length:]
        return weights
    if fuse == "pyramid":
        return np.minimum(place, place[::-1]) + 1.0
    if fuse == "relative":
        return np.maximum(1 - np.abs(2 * place - (length - 1)) / (length - 1 + 0.01), 0.01)
    return np.ones(length)


def freenoise_order(latent_frames: int, length: int, overlap: int, permute: Callable[[int], list[int]]) -> list[int]:
    """FreeNoise (Qiu et al. 2023, arXiv 2310.15169): the frame from which each frame takes its noise.

    Only the first window has noise of its own. What follows it repeats, `length - overlap` frames at a time and each time in
    another order, the frames one window earlier, so that every window sees nearly the same noise: the look stays, at the price
    of motion that repeats. `permute(n)` gives a permutation of 0 to n - 1; drawn from the noise's own generator after the
    noise, as WanVideoWrapper does, the seed decides it too.

    >>> freenoise_order(12, 6, 2, lambda n: list(range(n))[::-1])
    [0, 1, 2, 3, 4, 5, 3, 2, 1, 0, 5, 4]
    """
    order = list(range(min(length, latent_frames)))
    while len(order) < latent_frames:
        start = len(order) - length
        order += [order[start + k] for k in permute(min(length - overlap, latent_frames - len(order)))]
    return order


def section(window: Window, latent_frames: int, sections: int) -> int:
    """Which of the prompts "a | b | c" a window gets: that of the equal section of the video in which its centre lies.

    The centre is the mean of its frames, or the middle one of a window that wraps. WanVideoWrapper goes by the last frame,
    which is early, and may leave the first prompt without a window.

    >>> [section(window, 41, 3) for window in windows("static_standard", 41, 21, 1, 4, step=0)]
    [0, 1, 2]
    """
    if _wrap(window) is not None:
        return window[len(window) // 2] * sections // latent_frames
    return sum(window) * sections // (len(window) * latent_frames)


def sections_without_window(steps: Iterable[list[Window]], latent_frames: int, sections: int) -> list[int]:
    """The sections that get no window at any of the steps, given the windows of each step: their prompts would do nothing."""
    used = {section(window, latent_frames, sections) for made in steps for window in made}
    return [k for k in range(sections) if k not in used]
