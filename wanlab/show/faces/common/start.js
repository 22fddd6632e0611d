/* Brings a page to life: its face is made in the element around this script. */

function start(Face) {
  // An application that inserts scripts in its own way may hide their place: then every element that waits is meant.
  const place = document.currentScript?.closest(".wanlab");
  for (const root of place ? [place] : document.querySelectorAll(`.wanlab[data-face="${Face.name}"][data-wanlab]`)) {
    if (root.shadowRoot) continue;
    const twin = root.dataset.twin && document.querySelector(`[data-live="${root.dataset.twin}"]`);
    if (twin) root.hidden = true; // a widget shows the same, and more
    else {
      new Face(root, JSON.parse(root.dataset.wanlab), null);
      hideComplaint(root);
    }
  }
}

/* Where the kernel is gone, the notebook says in the widget's place that it cannot show it: this page is there instead. */
function hideComplaint(root) {
  const before = root.dataset.twin && root.closest(".jp-OutputArea-child")?.previousElementSibling;
  if (!before) return;
  const look = () => {
    // Its own rules for display are stronger than the attribute hidden. A widget that comes after all is seen again.
    before.style.display = /Error displaying widget|Loading widget/.test(before.textContent) ? "none" : "";
  };
  new MutationObserver(look).observe(before, { childList: true, subtree: true, characterData: true });
  look();
}
