"""Five hundred hostile texts in every face, in a real browser: nothing runs, opens, or is there that was not meant."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hostile import STRINGS
from test_hostile import FACES

pytestmark = pytest.mark.browser

TOGETHER = 60  # faces in one document
# All elements of the document and of the faces' shadow roots: what is wrong with them, and how many there are
LOOK = """() => {
    const wrong = [], runs = /^\\s*(javascript|data:text)/i;
    let count = 0;
    const walk = (root) => {
        for (const element of root.querySelectorAll('*')) {
            const name = element.localName;
            count += name !== 'wbr'; // where a long name may break
            const meant = name === 'script' && element.parentElement === document.body;
            if (!meant && /^(script|iframe|object|embed|base|link|frame|form)$/.test(name)) wrong.push(name);
            for (const { name, value } of element.attributes)
                if (/^on/i.test(name) || (/^(src|href|action|formaction|srcdoc|data)$/.test(name) && runs.test(value)))
                    wrong.push(`${element.localName} ${name}=${value}`);
            if (element.shadowRoot) walk(element.shadowRoot);
        }
    };
    walk(document);
    return { wrong, count, broken: window.broken ?? null, faces: document.querySelectorAll('.wanlab').length,
        ready: document.querySelectorAll('.wanlab[data-ready="1"]').length };
}"""


@pytest.mark.parametrize("face", FACES)
def test_no_text_runs_or_opens_anything(new_page: Callable[..., Any], tmp_path: Path, face: str) -> None:
    dialogs: list[str] = []
    counts = set()
    for start in range(0, len(STRINGS), TOGETHER):
        tab = new_page(reduced_motion="reduce", viewport={"width": 1000, "height": 700})
        tab.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        texts = [text or "empty" for text in STRINGS[start : start + TOGETHER]]
        pages = [FACES[face](text).html for text in texts]
        # The script once for all of them: it wakes every face of its kind
        scripts = [page[page.rindex("<script>") :].removesuffix("</div>").strip() for page in pages]
        assert len(set(scripts)) == 1
        body = "".join(page.replace(scripts[0], "") for page in pages) + scripts[0]
        (tmp_path / "page.html").write_bytes(f"<!doctype html><meta charset=utf-8><body>{body}".encode("utf-8", "replace"))
        tab.goto((tmp_path / "page.html").as_uri())
        tab.wait_for_function("() => !document.querySelector('.wanlab:not([data-ready])')")
        for button in ("Difference", "Keys", "Columns", "Scatter", "Parallel coordinates"):  # a face shows more when it is used
            for found in tab.get_by_role("button", name=button, exact=True).all()[:3]:
                found.click()
        found = tab.evaluate(LOOK)
        assert not found["wrong"]
        assert found["broken"] is None
        assert found["faces"] == found["ready"] == len(texts)
        if len(texts) == TOGETHER:
            counts.add(found["count"])
        tab.context.close()
    assert not dialogs
    assert len(counts) == 1, "some text brought elements of its own"
