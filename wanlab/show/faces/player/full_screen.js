/* The whole screen for one element. Where a page may not have it (a frame that does not allow it, some editors), the element
 * fills the window instead: as a popover, since only the top layer is free of what notebooks do to their cells. */

class FullScreen {
  #stop = new AbortController();

  /* `changed` is called when it is on or off, whoever did it: the browser itself leaves on Esc. */
  constructor(root, changed) {
    Object.assign(this, { root, changed });
    root.addEventListener("fullscreenchange", (event) => event.target === root && changed(), { signal: this.#stop.signal });
  }

  get filling() {
    return "filling" in this.root.dataset;
  }

  get on() {
    return this.filling || this.root.matches(":fullscreen");
  }

  async toggle() {
    if (this.on) return this.leave();
    try {
      await this.root.requestFullscreen();
    } catch {
      this.#fill(true);
    }
  }

  leave() {
    if (this.filling) this.#fill(false);
    else if (this.on) document.exitFullscreen();
  }

  stop() {
    this.leave();
    this.#stop.abort();
  }

  #fill(on) {
    const { root } = this;
    const popover = "showPopover" in root;
    if (on) {
      root.dataset.filling = "1";
      if (popover) {
        root.popover = "manual";
        root.showPopover();
      }
    } else {
      delete root.dataset.filling;
      if (popover) {
        root.hidePopover();
        root.popover = null;
      }
    }
    this.changed();
  }
}
