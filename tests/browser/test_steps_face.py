"""The face of the steps in a real browser: every picture and number where it belongs, whatever is pressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from test_faces import clip
from wanlab.show import Curve, Denoising, Page, denoising_page, steps_page

pytestmark = pytest.mark.browser

STEPS, CHANNELS, LATENT_FRAMES = 4, 16, 3
CLIPS = [clip(seed, 9) for seed in range(STEPS)]
SIGMAS = [1.0, 0.8, 0.5, 0.2]
GENERATOR = np.random.default_rng(0)
LATENTS = [GENERATOR.normal(size=(CHANNELS, LATENT_FRAMES, 8, 8)).astype(np.float32) for _ in range(STEPS)]
VELOCITY = [GENERATOR.normal(size=(CHANNELS, LATENT_FRAMES, 8, 8)).astype(np.float32) for _ in range(STEPS)]
CANVAS = """canvas => [canvas.width, canvas.height,
    [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]]"""


def told(label: str = "", seed: int = 0, **more: Any) -> Denoising:
    clips = [clip(step + seed, 9) for step in range(STEPS)]
    noisy = [255 - frames[::4] for frames in clips]
    return Denoising(label, SIGMAS, clips, noisy, LATENTS, VELOCITY, **more)


def one(**more: Any) -> Page:
    curves = [
        Curve("sigma", SIGMAS, shown=True),
        Curve("seconds", [0.5, None, 0.25, 0.125], "s"),
    ]
    return denoising_page([told(reused=[True, True, False, False], forks=[(2, "cfg 1.0")], **more)], curves, title="Emerging")


def two() -> Page:
    curves = [Curve("latents apart", [0.0, 0.0, 0.01, 0.1], shown=True, log=True)]
    other = Denoising("second", SIGMAS, [clip(step + 9, 9) for step in range(STEPS)], (), VELOCITY, LATENTS)
    return denoising_page([told("first"), other], curves, told=["They part at step 2."], parted=2)


@pytest.fixture
def shown(new_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Saves a page and opens it as a file, still and at step 0."""

    def show(page: Page, **options: Any) -> Any:
        tab = new_page(reduced_motion="reduce", **options)
        tab.goto(page.to_html(tmp_path / "page.html").as_uri())
        root = tab.locator(".wanlab")
        expect(root).to_have_attribute("data-ready", "1")
        to(root, 0)
        return root

    return show


def to(root: Any, step: int | None = None, frame: int | None = None) -> None:
    for label, name, value in (("Denoising step", "step", step), ("Frame", "frame", frame)):
        if value is not None:
            root.get_by_label(label, exact=True).fill(str(value))
            expect(root).to_have_attribute(f"data-{name}", str(value))


def pixels(canvas: Any) -> np.ndarray:
    width, height, values = canvas.evaluate(CANVAS)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def view(root: Any, name: str) -> None:
    root.get_by_role("group", name="View").get_by_role("button", name=name).click()


def picture(root: Any, name: str) -> Any:
    return root.get_by_role("img", name=name, exact=True)


def test_every_step_and_frame_shows_its_exact_picture(shown: Callable[..., Any]) -> None:
    root = shown(one())
    for step, frame in ((0, 0), (1, 3), (3, 8), (2, 5)):
        to(root, step, frame)
        np.testing.assert_array_equal(pixels(picture(root, "Clean estimates")), CLIPS[step][frame])
    expect(root.get_by_text("sigma 0.5")).to_be_visible()
    expect(root.get_by_text("2 of 0\u20133", exact=True)).to_be_visible()


def test_it_plays_the_steps_once_and_stays_with_the_clip(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page()
    tab.goto(one().to_html(tmp_path / "page.html").as_uri())
    root = tab.locator(".wanlab")
    expect(root).to_have_attribute("data-step", "3")
    expect(root).to_have_attribute("data-playing", "true")
    root.get_by_role("button", name="Pause", exact=True).click()
    root.get_by_role("button", name="Play the steps").click()
    expect(root.get_by_role("button", name="Pause the steps")).to_be_visible()
    expect(root.get_by_role("button", name="Play the steps")).to_be_visible()


@pytest.mark.parametrize(("name", "numbers"), [("Latents", LATENTS), ("Velocity", VELOCITY)])
def test_a_channel_is_painted_from_blue_to_red(shown: Callable[..., Any], name: str, numbers: list[np.ndarray]) -> None:
    root = shown(one())
    view(root, name)
    root.get_by_role("button", name="Channel 5", exact=True).click()
    for step, frame, latent_frame in ((0, 0, 0), (2, 1, 1), (3, 5, 2), (1, 8, 2)):
        to(root, step, frame)
        found, values = pixels(picture(root, name)).astype(int), numbers[step][5, latent_frame]
        limit = np.quantile(np.abs(np.stack(numbers)), 0.995)
        part = np.clip(np.abs(values) / limit, 0, 1)[..., None]
        expected = 247 + part * (np.where(values[..., None] > 0, [178, 24, 43], [33, 102, 172]) - 247)
        np.testing.assert_allclose(found, expected, atol=5)  # 8 bits
    expect(root.get_by_text("channel 5")).to_be_visible()
    expect(root.get_by_text(f"≥ +{limit:.3g}")).to_be_visible()


def test_all_channels_together_are_a_norm(shown: Callable[..., Any]) -> None:
    root = shown(one())
    view(root, "Velocity")
    to(root, 1, 4)
    found = pixels(picture(root, "Velocity"))[..., 0].astype(float)
    norms = np.sqrt(np.square(np.stack(VELOCITY)).sum(1))
    limit = np.sort(norms.ravel())[int(0.995 * (norms.size - 1))]
    np.testing.assert_allclose(found, 255 * np.minimum(1, norms[1, 1] / limit), atol=6)
    assert len(root.get_by_role("group", name="Channels").get_by_role("button").all()) == 17


def test_noise_to_clean_shows_all_steps_and_a_click_goes_to_one(shown: Callable[..., Any]) -> None:
    root = shown(one())
    view(root, "Noise to clean")
    to(root, None, 8)
    thumb = root.get_by_role("button", name="Step 2", exact=True)
    expect(root).to_have_attribute("data-view", "all")
    noisy, clean = thumb.locator("canvas").all()
    np.testing.assert_array_equal(pixels(clean), CLIPS[2][8])
    assert np.abs(pixels(noisy).astype(int) - (255 - CLIPS[2][8])).mean() < 40  # JPEG of random colours
    thumb.click()
    expect(root).to_have_attribute("data-step", "2")
    expect(thumb).to_have_attribute("aria-pressed", "true")
    expect(root.get_by_text("above the latents, below the clean estimate")).to_be_visible()


def test_curves_are_switched_and_a_click_goes_to_the_step(shown: Callable[..., Any]) -> None:
    root = shown(one())
    legend = root.get_by_role("group", name="Curves")
    chart = root.get_by_role("img", name="Curves over the steps")
    expect(legend.get_by_role("button", name="sigma")).to_have_attribute("aria-pressed", "true")
    assert chart.locator("circle.hollow").count() == chart.locator("circle.mark").count() == 2  # two steps are reused
    legend.get_by_role("button", name="seconds").click()
    assert chart.locator("path.line").count() == 2
    assert chart.locator("circle").count() == 4 + 3  # an unknown number is no point
    to(root, 1)
    expect(legend.get_by_role("button", name="seconds")).to_have_text("secondsunknown")
    box = chart.bounding_box()
    root.page.mouse.click(box["x"] + box["width"] - 14, box["y"] + 60)
    expect(root).to_have_attribute("data-step", "3")
    expect(chart.locator("path.fork title")).to_have_text("from step 2: cfg 1.0")
    expect(root.get_by_role("paragraph").get_by_text("from step 2: cfg 1.0")).to_be_visible()


def test_the_seconds_of_blocks_are_a_map_on_the_axis_of_the_steps(shown: Callable[..., Any]) -> None:
    seconds = [[0.004, 0.002], [0.002, 0.0], [], [0.001, 0.001]]
    root = shown(one(block_seconds=seconds))
    blocks = root.get_by_role("img", name="Seconds of each block over the steps")
    assert blocks.locator("rect[fill-opacity]").count() == 5  # one was left out, and two are unknown
    told = root.get_by_text("Time of each block")
    expect(told).to_contain_text("Here 6 ms in 2 blocks.")
    to(root, 1)
    expect(told).to_contain_text("Here 2 ms in 1 block.")
    box = blocks.bounding_box()
    root.page.mouse.move(box["x"] + 50, box["y"] + 14)
    expect(root.get_by_text("block 0, step 0: 4 ms")).to_be_visible()
    root.page.mouse.click(box["x"] + box["width"] - 14, box["y"] + box["height"] - 16)
    expect(root).to_have_attribute("data-step", "3")
    expect(root.get_by_text("block 1, step 3: 1 ms")).to_be_hidden()
    assert shown(one()).get_by_role("img", name="Seconds of each block over the steps").count() == 0


def test_what_the_pointer_is_on_stays_told_while_the_frames_play(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page()
    tab.goto(one(block_seconds=[[0.004, 0.002]] * STEPS).to_html(tmp_path / "page.html").as_uri())
    root = tab.locator(".wanlab")
    expect(root).to_have_attribute("data-step", str(STEPS - 1))
    box = root.get_by_role("img", name="Seconds of each block over the steps").bounding_box()
    tab.mouse.move(box["x"] + 50, box["y"] + 14)
    for frame in ("2", "5"):
        expect(root).to_have_attribute("data-frame", frame)
        expect(root.get_by_text("block 0, step 0: 4 ms")).to_be_visible(timeout=1)
    tab.mouse.move(0, 0)
    expect(root.get_by_text("Time of each block")).to_be_visible()


def test_two_runs_have_a_map_each(shown: Callable[..., Any]) -> None:
    runs = [told(label, block_seconds=[[0.002, 0.001]] * STEPS) for label in ("first", "second")]
    curves = [Curve("sigma", SIGMAS, shown=True)]
    root = shown(denoising_page(runs, curves))
    blocks = root.get_by_role("img", name="Seconds of each block over the steps")
    assert blocks.locator("rect[fill-opacity]").count() == 2 * 2 * STEPS
    box = blocks.bounding_box()
    root.page.mouse.move(box["x"] + 50, box["y"] + box["height"] - 20)
    expect(root.get_by_text("second, block 1, step 0: 1 ms")).to_be_visible()


def test_keys_do_what_the_help_says(shown: Callable[..., Any]) -> None:
    root = shown(one())
    root.focus()
    for key, name, value in (
        ("ArrowUp", "step", "1"),
        ("ArrowDown", "step", "0"),
        ("ArrowDown", "step", "3"),
        ("ArrowRight", "frame", "1"),
        ("End", "frame", "8"),
        ("Home", "frame", "0"),
        ("2", "view", "latents"),
        ("4", "view", "all"),
        ("1", "view", "clean"),
        ("Space", "playing", "true"),
    ):
        root.press(key)
        expect(root).to_have_attribute(f"data-{name}", value)
    root.get_by_role("button", name="Keys").click()
    expect(root.get_by_text("1 to 4 choose the view")).to_be_visible()


def test_two_runs_stand_beside_their_difference(shown: Callable[..., Any]) -> None:
    root = shown(two())
    expect(root.get_by_text("They part at step 2.", exact=True)).to_be_visible()
    to(root, 3, 4)
    first, second = CLIPS[3][4], clip(12, 9)[4]
    np.testing.assert_array_equal(pixels(picture(root, "Clean estimates: first")), first)
    np.testing.assert_array_equal(pixels(picture(root, "Clean estimates: second")), second)
    root.get_by_label("Amplification").select_option("2")
    expected = np.minimum(255, 2 * np.abs(first.astype(int) - second))
    np.testing.assert_array_equal(pixels(picture(root, "Clean estimates: difference")), expected)
    view(root, "Latents")
    root.get_by_role("button", name="Channel 0", exact=True).click()
    found = pixels(picture(root, "Latents: difference")).astype(int)
    apart = LATENTS[3][0, 1] - VELOCITY[3][0, 1]
    np.testing.assert_array_equal((found[..., 0] > found[..., 2])[np.abs(apart) > 0.2], (apart > 0)[np.abs(apart) > 0.2])
    chart = root.get_by_role("img", name="Curves over the steps")
    expect(chart.locator("path.parted title")).to_have_text("they part at step 2")
    heights = [float(mark.get_attribute("cy")) for mark in chart.locator("circle").all()]
    assert heights[0] == heights[1] > heights[2] > heights[3]  # zero lies beneath the logarithmic axis


def test_runs_that_never_part_have_an_axis_all_the_same(shown: Callable[..., Any]) -> None:
    curves = [Curve("latents apart", [0.0] * STEPS, shown=True, log=True)]
    chart = shown(denoising_page([told("first"), told("second")], curves)).get_by_role("img", name="Curves over the steps")
    assert chart.locator("text").all_text_contents()[-3:] == ["0.1", "1", "0"]


def test_a_page_of_estimates_alone_has_no_latents_and_shows_its_captions(shown: Callable[..., Any]) -> None:
    root = shown(steps_page(CLIPS, [f"step {k} it is" for k in range(STEPS)], SIGMAS))
    expect(root).to_have_attribute("aria-label", "Denoising, step by step")
    to(root, 2)
    expect(root.get_by_text("sigma 0.5 · step 2 it is")).to_be_visible()
    expect(root.get_by_role("button", name="Latents")).to_be_hidden()
    root.focus()
    root.press("2")
    expect(root).to_have_attribute("data-view", "clean")


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("page", [one, two])
def test_nothing_sticks_out(shown: Callable[..., Any], width: int, page: Callable[[], Page]) -> None:
    root = shown(page(), viewport={"width": width, "height": 900})
    for name in ("Latents", "Velocity", "All steps" if page is two else "Noise to clean", "Clean estimates"):
        view(root, name)
        assert root.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_a_sheet_and_the_numbers_remain(new_page: Callable[..., Any], tmp_path: Path) -> None:
    tab = new_page(java_script_enabled=False)
    tab.goto(one().to_html(tmp_path / "page.html").as_uri())
    expect(tab.get_by_role("img", name="Denoising in 4 steps")).to_be_visible()
    tab.get_by_text("Numbers of all steps").click()
    expect(tab.get_by_text("from here cfg 1.0")).to_be_visible()


def test_damaged_pictures_bring_the_still_back(new_page: Callable[..., Any], tmp_path: Path) -> None:
    text = one().to_html(tmp_path / "page.html").read_text()
    start = text.index("stills&quot;: &quot;") + len("stills&quot;: &quot;")
    (tmp_path / "page.html").write_text(text[:start] + 40 * "A" + text[start + 40 :])
    tab = new_page(reduced_motion="reduce")
    tab.goto((tmp_path / "page.html").as_uri())
    expect(tab.get_by_text("These steps stopped")).to_be_visible()
    expect(tab.locator(".wanlab img")).to_be_visible()
