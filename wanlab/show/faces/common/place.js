/* A face in its place: its shadow root, the page's light or dark, the keys that reach it, and painting. */

/* Give a face its shadow root, which hides the still part, and the elements of `template` by the names of their data-part. */
function furnish(face, css, template) {
  face.shadow = face.root.attachShadow({ mode: "open" });
  face.shadow.innerHTML = template;
  face.shadow.prepend(make("style", { textContent: css }));
  face.part = {};
  for (const element of face.shadow.querySelectorAll("[data-part]")) face.part[element.dataset.part] = element;
}

/* Copies of the still part's own tables, so that there is one of each. */
function tablesOf(root) {
  return [...root.children].filter((child) => child.matches("table, details")).map((table) => table.cloneNode(true));
}

/* Lists that open, and what stays above what passes, have the browser's own colours: those must follow a dark page, which its
 * light text gives away. Returns whether it is dark; null while the element is not in the document. */
function followPage(root, card) {
  const ink = getComputedStyle(root).color.match(/[\d.]+/g);
  if (!ink) return null;
  const [red, green, blue] = ink;
  const dark = 0.3 * red + 0.6 * green + 0.1 * blue > 128;
  card.style.colorScheme = dark ? "dark" : "light";
  return dark;
}

const stillWanted = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/* Hear keys while the focus is in `root`; returns how to stop.
 * At the window, where nothing comes before it: some versions of JupyterLab take keys on their way down. */
function hearKeys(root, heard) {
  const events = Object.entries(heard);
  const stop = () => events.forEach(([name, hear]) => window.removeEventListener(name, hear, true));
  root.addEventListener("focusin", () => events.forEach(([name, hear]) => window.addEventListener(name, hear, true)));
  root.addEventListener("focusout", stop);
  return stop;
}

/* Painting: pictures may come late, so one moment is painted at a time, and again if another is due by then. */
class Painter {
  constructor(paint, failed) {
    Object.assign(this, { paint, failed });
  }

  async ask() {
    this.stale = true;
    if (this.painting) return;
    this.painting = true;
    try {
      while (this.stale) {
        this.stale = false;
        await this.paint();
      }
    } catch (error) {
      if (!this.failed) throw error;
      this.failed(error);
    } finally {
      this.painting = false;
    }
  }
}
