/* Runs as they happen: where the present one is, what it looks like, which ones wait, and the clip that came of the last. */

const STAGES = {
  wait: "waiting for a cell that uses the model",
  load: "reading the weights",
  encode: "reading the prompt",
  denoise: "denoising",
  decode: "decoding the clip",
  save: "writing the clip",
};

/* Small pictures of the clean estimate, playing on a clock of their own. */
class PreviewPicture {
  constructor(parent) {
    this.canvas = make("canvas", { role: "img", ariaLabel: "Preview of the clip at this step" });
    this.figure = make("div", { className: "preview", hidden: true }, this.canvas);
    parent.append(this.figure);
    this.still = stillWanted();
    new IntersectionObserver((entries) => this.clock?.set({ awake: (this.awake = entries.at(-1).isIntersecting) })).observe(this.figure);
  }

  show(preview) {
    this.figure.hidden = !preview;
    if (!preview) return this.stop();
    const { width, height, rate } = preview;
    this.stills = unpack(preview, "image/jpeg");
    this.decoder = new Decoder(this.stills.length);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const scale = Math.max(1, Math.min(Math.floor(240 / height), Math.floor(340 / width)));
    this.canvas.style.width = `${width * scale}px`;
    if (this.clock?.count !== this.stills.length) {
      this.stop();
      this.clock = new Clock(this.stills.length, rate, () => this.paint());
      this.clock.set({ awake: this.awake ?? true, playing: !this.still });
      if (this.still) this.clock.seek(Math.floor(this.stills.length / 2));
    }
    this.paint();
  }

  stop() {
    this.clock?.set({ playing: false });
    this.clock = null;
  }

  async paint() {
    if (!this.clock) return;
    const { stills, decoder } = this;
    const picture = await decoder.picture(stills[Math.min(this.clock.index, stills.length - 1)]);
    if (stills === this.stills) this.canvas.getContext("2d").drawImage(picture, 0, 0);
  }
}

class Progress {
  constructor(parent) {
    this.box = make("div", { className: "progress", hidden: true });
    this.bar = make("progress", { ariaLabel: "Steps made" });
    this.text = make("p", { className: "where" });
    this.text.setAttribute("role", "status");
    this.box.append(this.bar, this.text);
    parent.append(this.box);
    this.preview = new PreviewPicture(this.box);
  }

  show(running) {
    this.box.hidden = !running;
    this.running = running;
    if (!running) return this.preview.show(null);
    Object.assign(this.bar, { value: running.done, max: running.of || 1 });
    this.box.dataset.step = running.done;
    this.text.replaceChildren(...this.told(running).map((text) => make("span", { textContent: text })));
    if (running.preview || running.number !== this.number) this.preview.show(running.preview);
    this.number = running.number;
    this.box.dataset.seen = running.seen ?? "";
  }

  /* Said at once, for the run itself hears of it after the step. */
  stopping() {
    if (this.running) this.show({ ...this.running, stopping: true, preview: null });
  }

  told({ stage, done, of, sigma, step_seconds: step, left, stopping, reused }) {
    if (stopping) return [`stopping after this step${step ? `; a step takes about ${duration(step)}` : ""}`];
    if (stage !== "denoise") return [STAGES[stage] ?? stage];
    const parts = [`step ${done} of ${of}`];
    if (done) parts.push(`sigma ${sigma.toFixed(3)}`);
    if (reused) parts.push("reused");
    if (step) parts.push(`${duration(step)} a step`);
    if (left !== null && left !== undefined) parts.push(`${duration(left)} left`);
    return parts;
  }
}

/* What waits and what has ended, with ways to change the order. */
class QueueList {
  constructor(parent, send) {
    Object.assign(this, { parent, send });
    this.list = make("ol", { className: "queue", ariaLabel: "Runs" });
    parent.append(this.list);
  }

  show({ running, waiting, ended }) {
    this.list.replaceChildren(
      ...(running ? [this.row(running, "running", [])] : []),
      ...waiting.map((job, place) => this.row(job, `waiting, ${place + 1} of ${waiting.length}`, this.ways(job, place, waiting.length))),
      ...ended.map((job) => this.row(job, this.outcome(job), [])),
    );
    this.parent.hidden = !this.list.children.length;
  }

  row(job, state, ways) {
    const label = make("span", { className: "label", textContent: job.label, title: job.label });
    const row = make("li", {}, make("span", { className: "state", textContent: state }), label, ...ways);
    row.dataset.status = job.status;
    if (job.problem) row.append(make("span", { className: "why", textContent: job.problem }));
    return row;
  }

  outcome({ status, seconds, steps }) {
    const time = seconds === null ? "" : ` in ${duration(seconds)}`;
    return status === "stopped" && steps ? `stopped after ${steps[0]} of ${steps[1]} steps, which are kept` : `${status}${time}`;
  }

  ways({ number, label }, place, count) {
    const way = (text, name, message, disabled = false) => {
      const button = make("button", { type: "button", textContent: text, title: name, ariaLabel: `${name}: ${label}`, disabled });
      button.addEventListener("click", () => this.send(message));
      return button;
    };
    return [
      way("↑", "Sooner", { do: "move", number, places: -1 }, place === 0),
      way("↓", "Later", { do: "move", number, places: 1 }, place === count - 1),
      way("✕", "Remove from the queue", { do: "remove", number }),
    ];
  }
}

/* The clip that came of the last run, in a player, with what it took beside what was planned. */
class LastClip {
  /* `still` is a picture for where the clip itself was too large to be kept. */
  constructor(parent, send, still) {
    Object.assign(this, { parent, still });
    parent.hidden = true;
    this.title = make("h4");
    this.place = make("div");
    this.table = make("table", { className: "measured" });
    this.compare = make("button", { type: "button", className: "link", textContent: "Compare with the one before" });
    this.compare.addEventListener("click", () => send?.({ do: "compare" }));
    this.compare.hidden = !send;
    parent.append(this.title, this.place, this.compare, this.table);
  }

  show(clip) {
    if (!clip || clip.run === this.run) return;
    this.run = clip.run;
    this.parent.hidden = false;
    this.title.textContent = `Run ${clip.number}`;
    if (clip.content) this.play(clip.content);
    else this.place.replaceChildren(this.still);
    this.measured(clip.measured);
  }

  play(content) {
    const root = make("div", { className: "player" });
    this.place.replaceChildren(root);
    new Player(root, content, null);
  }

  measured(rows) {
    const cell = (value, unit) => (value === null ? "unknown" : unit === "s" ? duration(value) : unit === "GiB" ? `${gib(value)} GiB` : String(value));
    const head = make("tr", {}, ...["", "planned", "measured"].map((text) => make("th", { textContent: text })));
    const body = rows.map(([name, unit, planned, measured]) =>
      make("tr", {}, make("th", { textContent: name }), ...[planned, measured].map((value) => make("td", { textContent: cell(value ?? null, unit) }))));
    this.table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  }
}
