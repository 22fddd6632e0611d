"""The table of runs in a real browser: filters as in Python, rows, charts, notes that are kept, runs that come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from test_run_table import CASES, COLUMNS, ROWS, WRONG, log_of
from wanlab.log import RunLog
from wanlab.run_table import RunTable
from wanlab.show.runtable import RUN_TABLE

pytestmark = pytest.mark.browser

UNKNOWN = "\u2013"

# A table with a line to this process instead of a kernel
MOUNT = """content => {
  const heard = [];
  const live = {
    send: async message => {
      const answer = JSON.parse(await window.ask(JSON.stringify(message)));
      heard.forEach(one => one(answer));
    },
    listen: one => (heard.push(one), () => heard.splice(heard.indexOf(one), 1)),
  };
  document.body.innerHTML = '<div class="wanlab"></div>';
  window.face = new window.RunTable(document.querySelector('.wanlab'), content, live);
}"""


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return log_of(tmp_path / "runs", ROWS)


@pytest.fixture
def shown(new_page: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Saves the page of a table, opens it as a file, and waits for its rows."""

    def show(table: RunTable, **options: Any) -> Any:
        tab = new_page(**options)
        tab.goto(table.to_html(tmp_path / "page.html").as_uri())
        root = tab.locator(".wanlab")
        expect(root).to_have_attribute("data-ready", "1")
        return root

    return show


@pytest.fixture
def living(new_page: Callable[..., Any]) -> Callable[..., Any]:
    """The table in a page with a line to this process."""

    def show(table: RunTable) -> Any:
        tab = new_page()

        def answer(message: str) -> str:
            asked = json.loads(message)
            return json.dumps({"answered": asked["ask"], **(table._answer(asked) or {})})

        tab.expose_function("ask", answer)
        tab.set_content("<!doctype html><meta charset=utf-8><body>")
        tab.add_script_tag(content=f"{RUN_TABLE.script}\nwindow.RunTable = RunTable;")
        content = {**table._content(table.log.rows()).told(), "title": "Runs", "notes": [], "css": RUN_TABLE.css}
        tab.evaluate(MOUNT, content)
        root = tab.locator(".wanlab").first
        expect(root).to_have_attribute("data-ready", "1")
        return root

    return show


def table_of(log: RunLog, **given: Any) -> RunTable:
    return RunTable(log, lambda id: pytest.fail(f"run {id} was opened"), **given)


def ids(root: Any) -> list[str]:
    return root.locator("tbody tr[data-run]").evaluate_all("rows => rows.map(row => row.dataset.run)")


def row(root: Any, id: str) -> Any:
    return root.locator(f'tbody tr[data-run="{id}"]')


def column(root: Any, name: str) -> list[str]:
    return root.locator(f'tbody td[data-column="{name}"]').all_inner_texts()


def test_filters_mean_in_the_browser_what_they_mean_in_python(page: Any) -> None:
    script = files("wanlab.show").joinpath("faces/run_table/filter.js").read_text()
    page.add_script_tag(content=f"{script}\nwindow.RunFilter = RunFilter;")
    found = page.evaluate(
        """([texts, rows, columns]) => texts.map(text => {
            try {
                const wanted = RunFilter.parse(text, columns);
                return rows.map((row, place) => [row, place]).filter(([row]) => wanted(name => name === "seed" && typeof
                    row.seed === "string" ? BigInt(row.seed) : row[name] ?? null)).map(([, place]) => place);
            } catch (error) { return error.message; } })""",
        [
            [text for text, _ in (*CASES, *WRONG)],
            [
                {**one, "id": f"run-{place}", "seed": str(one["seed"]) if one["seed"] > 2**53 else one["seed"]}
                for place, one in enumerate(ROWS)
            ],
            COLUMNS,
        ],
    )
    for (text, wanted), answer in zip((*CASES, *WRONG), found, strict=True):
        assert answer == wanted, text


def test_typing_filters_the_rows_and_a_wrong_filter_says_why_and_keeps_them(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    assert ids(root) == log.ids()
    box = root.get_by_label("Filter", exact=True)
    box.fill("cfg > 3")
    expect(root).to_have_attribute("data-rows", "2")
    expect(root.get_by_text(f"2 of {len(ROWS)} runs")).to_be_visible()
    box.fill("cfg > 3 and cgf")
    box.fill("cgf > 3")
    expect(root.get_by_role("alert")).to_have_text("The filter is not understood: cgf is no column; did you mean cfg?")
    box.fill("nothing like this")
    expect(root.get_by_text("No run fits the filter.")).to_be_visible()


def test_a_click_sorts_and_shift_sorts_within(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log, columns=["cfg", "seconds"]))
    root.get_by_role("button", name="Sort by cfg").click()
    assert column(root, "cfg") == ["1", "3", "3", "5", "7.5", UNKNOWN]
    root.get_by_role("button", name="Sort by seconds").click(modifiers=["Shift"])
    root.get_by_role("button", name="Sort by seconds").click(modifiers=["Shift"])
    assert column(root, "cfg") == ["1", "3", "3", "5", "7.5", UNKNOWN]
    within = [float(text.split()[0]) for text in column(root, "seconds")[1:3]]
    assert within == sorted(within, reverse=True)
    expect(root.locator("th[data-column=seconds]")).to_have_attribute("aria-sort", "descending")
    root.get_by_role("button", name="Sort by cfg").click()  # falling; what is unknown stays last
    assert column(root, "cfg")[-1] == UNKNOWN


def test_columns_are_found_and_chosen_and_only_differing_ones_shown(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    root.get_by_role("button", name="Columns", exact=True).click()
    root.get_by_label("Find a column").fill("frame_rate")
    root.get_by_role("checkbox", name="clip.frame_rate").check()
    expect(root.locator("th[data-column='clip.frame_rate']")).to_be_visible()
    root.get_by_role("checkbox", name="Only differing settings").check()
    heads = root.locator("thead th").evaluate_all("heads => heads.map(head => head.dataset.column)")
    assert "clip.frame_rate" not in heads
    assert {"cfg", "seed", "feta.weight", "seconds"} <= set(heads)


def test_keys_move_select_and_never_leave_for_the_notebook(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    root.page.evaluate("window.reached = []; window.addEventListener('keydown', event => reached.push(event.key))")
    row(root, log.ids()[0]).focus()
    for key in ("ArrowDown", "ArrowDown", "Space", "End", "Space", "Home"):
        root.page.keyboard.press(key)
    expect(root).to_have_attribute("data-selected", f"{log.ids()[2]} {log.ids()[-1]}")
    expect(root).to_have_attribute("data-active", log.ids()[0])
    assert root.page.evaluate("reached") == []


def test_the_clip_of_the_row_one_points_at_moves(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    first, second, *_ = log.ids()
    row(root, first).hover()
    canvas = root.locator("canvas")
    expect(canvas).to_have_attribute("data-run", first)
    expect(canvas).to_have_attribute("data-frames", "9")
    colours = set()
    for _ in range(8):
        root.page.wait_for_timeout(100)
        colours.add(canvas.evaluate("one => one.getContext('2d').getImageData(20, 20, 1, 1).data[0] >> 4"))
    assert len(colours) > 2
    row(root, second).hover()  # a run without a picture
    expect(root.get_by_text("No picture of this run is here.")).to_be_visible()


def test_two_selected_runs_are_told_apart_by_meaning(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    first, second, *_ = log.ids()
    for id in (first, second):
        root.get_by_label(f"Select run {id}").check()
    root.get_by_role("button", name="Diff", exact=True).click()
    expect(root.get_by_text("These two clips can only differ through cfg.")).to_be_visible()
    expect(root.get_by_role("row", name="cfg 3 5")).to_be_visible()


def test_a_brush_on_an_axis_keeps_the_rows_that_pass_there(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log, columns=["cfg", "seed", "seconds"]))
    root.get_by_role("button", name="Parallel coordinates").click()
    axis = root.get_by_role("slider", name="Stretch of cfg")
    axis.focus()
    root.page.keyboard.press("ArrowUp")  # the upper half
    assert column(root, "cfg") == ["5", "7.5"]
    expect(axis).to_have_attribute("aria-valuetext", "4.25 to 7.5")
    root.page.keyboard.press("Escape")
    expect(root).to_have_attribute("data-rows", str(len(ROWS)))
    box = axis.locator(".grip").bounding_box()
    middle = box["x"] + box["width"] / 2
    root.page.mouse.move(middle, box["y"] + box["height"] - 4)
    root.page.mouse.down()
    root.page.mouse.move(middle, box["y"] + box["height"] * 0.6, steps=4)
    root.page.mouse.up()
    assert column(root, "cfg") == ["3", "1", "3"]
    root.get_by_role("button", name="Remove the axis cfg").click()
    expect(root).to_have_attribute("data-rows", str(len(ROWS)))


def test_a_point_of_the_scatter_shows_its_clip_and_selects_its_run(shown: Callable[..., Any], log: RunLog) -> None:
    root = shown(table_of(log))
    root.get_by_role("button", name="Scatter").click()
    root.get_by_label("Horizontal", exact=True).select_option("cfg")
    root.get_by_label("Vertical", exact=True).select_option("seconds")
    expect(root.get_by_text("2 of 6 runs lack a value and are not drawn.")).to_be_visible()
    first = log.ids()[0]
    point = root.get_by_role("checkbox", name=f"Run {first}: cfg 3")
    point.hover()
    expect(root).to_have_attribute("data-active", first)
    expect(root.locator("canvas")).to_have_attribute("data-run", first)
    point.click()
    expect(root).to_have_attribute("data-selected", first)
    point.focus()
    root.page.keyboard.press("ArrowRight")
    expect(root).to_have_attribute("data-active", log.ids()[1])
    root.get_by_label("Horizontal logarithmic").check()
    expect(root.get_by_text("cfg (log)")).to_be_visible()


def test_stars_tags_and_notes_are_kept_in_the_log(living: Callable[..., Any], log: RunLog) -> None:
    root = living(table_of(log))
    id = log.ids()[2]
    root.get_by_role("button", name=f"Star run {id}").click()
    expect(root.get_by_role("button", name=f"Star run {id}")).to_have_attribute("aria-pressed", "true")
    row(root, id).focus()
    root.page.keyboard.press("t")
    root.get_by_label(f"Tags of run {id}").fill("good, for the talk, good")
    root.page.keyboard.press("Enter")
    root.page.keyboard.press("n")
    root.get_by_label(f"Note of run {id}").fill("round")
    root.page.keyboard.press("Enter")
    root.page.keyboard.press("n")
    root.get_by_label(f"Note of run {id}").fill("not kept")
    root.page.keyboard.press("Escape")
    expect(row(root, id).locator("td[data-column=note]")).to_have_text("round")
    root.get_by_label("Filter", exact=True).fill('starred tag:good tag:"for the talk"')
    expect(root).to_have_attribute("data-rows", "1")
    kept = log.frame().loc[id]
    assert (kept["star"], kept["tags"], kept["note"]) == (True, ["good", "for the talk"], "round")


def test_a_tag_that_cannot_be_kept_is_taken_back_and_told(living: Callable[..., Any], log: RunLog) -> None:
    root = living(table_of(log))
    id = log.ids()[1]
    row(root, id).focus()
    root.page.keyboard.press("t")
    root.get_by_label(f"Tags of run {id}").fill("x" * 61)
    root.page.keyboard.press("Enter")
    expect(root.get_by_role("status")).to_contain_text("a list of at most 50 texts of at most 60 letters")
    expect(row(root, id).locator(".tag")).to_have_count(0)


def test_deleting_is_undone_and_emptying_asks(living: Callable[..., Any], log: RunLog) -> None:
    root = living(table_of(log))
    all_ids = log.ids()
    running = [id for id in all_ids if log.read(id)["status"] == "running"]
    for id in (all_ids[0], *running):
        root.get_by_label(f"Select run {id}").check()
    root.get_by_role("button", name="Delete").click()
    expect(root.get_by_role("status")).to_contain_text("1 run moved to the trash.")
    expect(root.get_by_role("status")).to_contain_text("is still running; stop it before it is deleted.")
    assert log.ids() == all_ids[1:]
    expect(root.get_by_text("In the trash: 1 run")).to_be_visible()
    root.get_by_role("button", name="Undo").click()
    expect(root).to_have_attribute("data-rows", str(len(all_ids)))
    assert log.ids() == all_ids
    root.get_by_role("button", name="Clear selection").click()
    root.get_by_label(f"Select run {all_ids[0]}").check()
    root.get_by_role("button", name="Delete").click()
    root.get_by_role("button", name="Empty the trash").click()
    root.get_by_role("button", name="Keep").click()
    assert log.trash.ids() == [all_ids[0]]
    root.get_by_role("button", name="Empty the trash").click()
    root.get_by_role("button", name="Remove 1 run for good").click()
    expect(root.get_by_text("The trash is empty")).to_be_visible()
    assert log.trash.ids() == []


def test_python_hears_what_is_shown_and_selected(living: Callable[..., Any], log: RunLog) -> None:
    table = table_of(log, columns=["cfg", "status"])
    root = living(table)
    root.get_by_label("Filter", exact=True).fill("cfg >= 3")
    root.get_by_role("button", name="Sort by cfg").click()
    root.get_by_role("button", name="Sort by cfg").click()
    root.get_by_label(f"Select run {log.ids()[1]}").check()
    root.page.wait_for_timeout(600)  # it is told a few times a second
    assert (table.where, table.sort, table.selected) == ("cfg >= 3", ["-cfg"], [log.ids()[1]])
    assert list(table.frame()["cfg"]) == [float(text) for text in column(root, "cfg")]


def test_previews_are_asked_for_when_they_are_wanted(living: Callable[..., Any], log: RunLog) -> None:
    root = living(table_of(log))
    first = log.ids()[0]
    row(root, first).hover()
    expect(root.locator("canvas")).to_have_attribute("data-run", first)
    expect(root.locator("canvas")).to_have_attribute("data-frames", "9")


def test_what_other_kernels_changed_comes_with_refresh(living: Callable[..., Any], log: RunLog) -> None:
    root = living(table_of(log))
    log.annotate(log.ids()[0], note="from elsewhere")
    log.start({"settings": {"cfg": 4.0}}).finish("done")
    root.get_by_role("button", name="Refresh").click()
    expect(root).to_have_attribute("data-rows", str(len(ROWS) + 1))
    expect(row(root, log.ids()[0]).locator("td[data-column=note]")).to_have_text("from elsewhere")


def test_thousands_of_runs_have_few_rows_in_the_document(shown: Callable[..., Any], tmp_path: Path) -> None:
    many = log_of(tmp_path / "many", [{**ROWS[0], "seed": seed} for seed in range(2000)])
    root = shown(table_of(many, columns=["seed", "cfg"]))
    assert len(ids(root)) < 60
    row(root, many.ids()[0]).focus()
    root.page.keyboard.press("End")
    expect(row(root, many.ids()[-1])).to_be_focused()
    assert column(root, "seed")[-1] == "1999"
    root.get_by_label("Filter", exact=True).fill("seed == 1234")
    assert ids(root) == [many.ids()[1234]]


def test_hostile_text_is_shown_and_never_run(shown: Callable[..., Any], tmp_path: Path) -> None:
    text = "</script><img src=x onerror='window.broken = 1'>\"><script>window.broken = 1</script>"
    log = log_of(tmp_path / "hostile", [{**ROWS[0], "prompt": text, text: text, "note": text, "tags": [text[:60]]}, ROWS[1]])
    root = shown(table_of(log, columns=["prompt", text, "tags", "note"]))
    root.get_by_role("button", name="Columns", exact=True).click()
    root.get_by_role("button", name="Parallel coordinates").click()
    root.get_by_role("button", name="Scatter").click()
    root.get_by_label("Vertical", exact=True).select_option(text)
    for id in log.ids():
        root.get_by_label(f"Select run {id}").check()
    root.get_by_role("button", name="Diff", exact=True).click()
    expect(row(root, log.ids()[0]).locator("td[data-column=prompt]")).to_have_text(text)
    assert root.evaluate("() => window.broken") is None
    assert root.evaluate("root => root.shadowRoot.querySelectorAll('script, img').length") == 0


def test_without_scripts_a_table_remains(new_page: Callable[..., Any], tmp_path: Path, log: RunLog) -> None:
    tab = new_page(java_script_enabled=False)
    tab.goto(table_of(log).to_html(tmp_path / "page.html").as_uri())
    tab.get_by_text("The runs as a table").click()
    expect(tab.get_by_role("rowheader", name=log.ids()[0])).to_be_visible()
