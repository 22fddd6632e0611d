/* The control panel: the form, beside it the plan and the runs. In a page it only shows how the panel was left.
 *
 * The kernel says what is so as `state`, part by part; whoever opens a view says hello and is told all of it. Changes carry
 * the view's own count, and a plan says up to which of them it knows, so that a late answer is told from the present one.
 */

const PANEL = `
  <div class="panel" data-part="card">
    <header>
      <h3>Control panel</h3>
      <span class="around" data-part="tools"></span>
    </header>
    <p class="alarm" role="alert" data-part="problem"></p>
    <p class="note" role="status" data-part="notice"></p>
    <div class="halves">
      <section class="asking" aria-label="Settings" data-part="form"></section>
      <div class="answers">
        <section class="making" aria-label="Runs" data-part="making">
          <div class="actions" data-part="actions"></div>
        </section>
        <div class="results" data-part="results">
          <section class="planning" aria-label="Plan" data-part="plan"><h4>Plan</h4></section>
          <section aria-label="Queue" data-part="waiting" hidden></section>
          <section class="ending" aria-label="Last clip" data-part="ending"></section>
          <section class="code" aria-label="Settings as code" data-part="code"></section>
        </div>
      </div>
    </div>
  </div>`;

/* Which keys a control has its own use of: a notebook would take them for its shortcuts, and see no control in a shadow root. */
const OWN_KEYS = [
  ["input:not([type=range], [type=checkbox], [type=file]), textarea", /./],
  ["input[type=range], select", /^(Arrow|Home|End|Page)/],
  ["select", /^.$/],
  ["button, summary, input", /^( |Enter)$/],
];

class Panel {
  #sent = 0;

  constructor(root, content, live) {
    Object.assign(this, { root, content, live });
    this.view = Math.random().toString(36).slice(2);
    furnish(this, content.css, PANEL);
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Control panel");
    this.part.card.dataset.live = Boolean(live);
    root.addEventListener("keydown", (event) => this.keep(event));
    this.build();
    root.addEventListener("pointerenter", () => followPage(root, this.part.card));
    followPage(root, this.part.card);
    this.hear(content.state ?? {});
    if (live) this.greet();
    root.dataset.ready = "1";
  }

  build() {
    const { part, live, content } = this;
    const send = live && ((message) => live.send({ ...message, by: this.view }));
    this.send = send;
    this.progress = new Progress(part.making);
    this.drawing = new PlanDrawing(part.plan);
    this.costs = new Costs(part.plan, { take: (change) => this.form?.apply(change), calibrate: send && (() => send({ do: "calibrate" })) });
    this.last = new LastClip(part.ending, send, this.root.querySelector("img")?.cloneNode());
    this.code = new Code(part.code);
    if (!live) return this.leave();
    this.queue = new QueueList(part.waiting, send);
    this.form = new Form(part.form, content.form, (changes) => this.change(changes));
    this.tools = new Tools(part.tools, send);
    this.actions = new Actions(part.actions, send);
  }

  /* A panel that was left: no controls, but the settings that differ. */
  leave() {
    const { part, content } = this;
    part.tools.append("as it was left; run the cell again to use it");
    part.making.remove();
    const rows = content.rows.map(([name, value]) => make("tr", {}, make("th", { textContent: name }), make("td", { textContent: value })));
    const empty = make("p", { className: "note", textContent: "All settings are as the lab has them." });
    part.form.append(make("h4", { textContent: "Settings that differ" }), rows.length ? make("table", {}, make("tbody", {}, ...rows)) : empty);
  }

  /* ---- what is said to the kernel */

  greet() {
    this.forget = this.live.listen((message) => this.listen(message));
    this.send({ do: "hello" });
    this.waiting = setTimeout(() => {
      this.part.notice.textContent = "The kernel does not answer: it is busy with a cell, or gone.";
    }, 8000);
  }

  change(changes) {
    this.part.results.scrollTop = 0; // what is changed and what comes of it are seen together
    this.#sent += 1;
    this.asked = performance.now();
    this.part.plan.dataset.late = "1";
    this.send({ do: "change", changes, n: this.#sent });
  }

  /* ---- what the kernel says */

  listen(message) {
    if (message.to && message.to !== this.view) return;
    if (!message.state) return;
    if (message.to) {
      clearTimeout(this.waiting);
      this.part.notice.textContent = "";
      this.root.dataset.greeted = "1";
    }
    const state = { ...message.state };
    if (state.values && message.by === this.view) {
      state.values = Object.fromEntries(message.mine.map((name) => [name, state.values[name]]));
    }
    this.hear(state);
  }

  hear(state) {
    for (const [name, value] of Object.entries(state)) this[`hear_${name}`]?.(value);
  }

  hear_values(values) {
    this.form?.set(values);
  }

  hear_problems(problems) {
    this.part.problem.textContent = problems[""] ?? "";
    this.form?.problems(Object.fromEntries(Object.entries(problems).filter(([name]) => name)));
    const wrong = Object.keys(problems).length > 0;
    this.part.plan.dataset.wrong = String(wrong);
    this.actions?.allow(!wrong);
  }

  hear_plan(plan) {
    if (!plan || plan.number < (this.planned ?? 0)) return;
    this.planned = plan.number;
    this.drawing.show(plan);
    this.fill();
    if (plan.seen === null || plan.seen >= this.#sent) delete this.part.plan.dataset.late;
    this.root.dataset.plan = plan.number;
    if (this.asked && plan.seen === this.#sent) {
      this.root.dataset.planMs = (performance.now() - this.asked).toFixed(1);
      this.asked = 0;
    }
  }

  hear_cost(cost) {
    if (!cost || cost.number < (this.planned ?? 0)) return;
    this.costs.show(cost);
    this.root.dataset.cost = cost.number;
  }

  hear_code(code) {
    if (code) this.code.show(code);
  }

  hear_notice(notice) {
    this.part.notice.textContent = notice;
  }

  hear_undo(can) {
    this.tools?.allow(can);
  }

  hear_queue(queue) {
    this.queue?.show(queue);
    this.actions?.show(queue);
    if (queue.running?.stopping) this.progress.stopping();
    this.root.dataset.running = queue.running?.number ?? "";
  }

  hear_running(running) {
    this.progress.show(running);
    this.running = running;
    this.fill();
  }

  /* The plan fills while a run of just these settings is made. */
  fill() {
    const { running } = this;
    this.drawing.progress(running && running.plan === this.planned ? running.done : 0);
  }

  hear_clip(clip) {
    const another = clip && clip.run !== this.root.dataset.clip;
    this.last.show(clip);
    if (clip) this.root.dataset.clip = clip.run;
    if (another) this.part.results.scrollTop = this.part.ending.offsetTop - this.part.results.offsetTop;
  }

  hear_compared(content) {
    if (content) this.last.play(content);
  }

  keep(event) {
    const control = event.composedPath()[0];
    const saving = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
    if (!saving && OWN_KEYS.some(([kind, keys]) => control.matches?.(kind) && keys.test(event.key))) event.stopPropagation();
  }

  stop() {
    clearTimeout(this.waiting);
    this.forget?.();
  }
}
