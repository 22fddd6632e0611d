/* What a run takes: a bar of memory for each stage against the device, the verdict with what to change, and seconds. */

const gib = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/* Seconds as people say them. */
function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

class Costs {
  /* `take` is called with the change that somebody clicks, `calibrate`, where there is a kernel, to measure this machine. */
  constructor(parent, { take, calibrate }) {
    Object.assign(this, { take, calibrate });
    this.verdict = make("p", { className: "verdict" });
    this.changes = make("p", { className: "changes" });
    this.bars = make("div", { className: "bars", role: "list" });
    this.seconds = make("p", { className: "seconds" });
    this.notes = make("p", { className: "note" });
    parent.append(this.verdict, this.changes, this.bars, this.seconds, this.notes);
  }

  show(cost) {
    const { verdict } = this;
    verdict.dataset.fits = String(cost.fits);
    const peak = Math.max(...cost.stages.map(([, most]) => most));
    const room = cost.device === null ? "" : ` of ${gib(cost.device)} GiB`;
    const word = { true: "Fits", false: "Does not fit", null: "Memory of the device is not known" }[String(cost.fits)];
    verdict.replaceChildren(make("b", { textContent: word }), ` ${gib(peak)} GiB${room} at the peak`);
    verdict.title = cost.verdict;
    this.offer(cost);
    this.draw(cost, peak);
    const parts = Object.entries(cost.seconds).map(([stage, seconds]) => `${stage} ${duration(seconds)}`);
    const surely = cost.calibrated ? "about" : "roughly";
    this.seconds.replaceChildren(make("b", { textContent: `${surely} ${duration(cost.total)}` }), ` ${parts.join(" · ")}`);
    this.notes.textContent = cost.notes.join(" ");
    if (!this.calibrate || cost.calibrated || !cost.here) return;
    const measure = make("button", { type: "button", className: "link", textContent: "Measure", title: "Measure one block on this machine: about a second" });
    measure.addEventListener("click", () => {
      measure.disabled = true;
      this.calibrate();
    });
    this.notes.append(" ", measure);
  }

  offer(cost) {
    const { changes } = this;
    changes.hidden = cost.fits !== false;
    if (changes.hidden) return;
    if (!cost.changes.length) {
      changes.textContent = "No change of these settings makes it fit: take a smaller model or a larger device.";
      return;
    }
    const buttons = cost.changes.map(({ told, change }) => {
      const taken = make("button", { type: "button", className: "link", textContent: told, title: `Set ${told}` });
      taken.addEventListener("click", () => this.take(change));
      return taken;
    });
    changes.replaceChildren("It fits with ", ...buttons.flatMap((each, index) => (index ? [" or ", each] : [each])));
  }

  draw(cost, peak) {
    const whole = Math.max(peak, cost.device ?? 0) * 1.02;
    const percent = (value) => `${(100 * value) / whole}%`;
    const limit = cost.device === null ? null : cost.device - cost.margin;
    const rows = cost.stages.map(([stage, most, held]) => {
      const bar = make("span", { className: "bar-of" });
      const weights = make("i", { className: "held" });
      const rest = make("i", { className: "work" });
      weights.style.width = percent(held);
      rest.style.width = percent(most - held);
      bar.append(weights, rest);
      if (limit !== null) {
        const line = make("i", { className: "limit", title: `${gib(cost.device)} GiB, of which ${cost.margin} are left free` });
        line.style.left = percent(Math.max(0, limit));
        bar.append(line);
      }
      const row = make("div", { className: "stage-row", role: "listitem" });
      row.dataset.over = String(limit !== null && most > limit);
      row.title = `${stage}: ${gib(most)} GiB, of which ${gib(held)} are weights`;
      row.append(make("span", { className: "stage-name", textContent: stage }), bar, make("span", { className: "number", textContent: `${gib(most)} GiB` }));
      return row;
    });
    this.bars.replaceChildren(...rows);
  }
}
