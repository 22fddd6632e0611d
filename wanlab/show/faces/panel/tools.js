/* What stands around the form: Run and Stop, settings from a file, a way back, and the settings as code to copy. */

function pushed(text, title, action, className = "link") {
  const button = make("button", { type: "button", className, textContent: text, title });
  button.addEventListener("click", action);
  return button;
}

/* Run, Stop, Stop all. The kernel's own buttons do the work; these click them. */
class Actions {
  constructor(parent, send) {
    this.run = pushed("Run", "Add a run of these settings to the queue", () => send({ do: "run" }), "main");
    this.stop = pushed("Stop", "End the present run after this step", () => send({ do: "stop" }), "framed");
    this.stopAll = pushed("Stop all", "End the present run and empty the queue", () => send({ do: "stop_all" }), "framed");
    this.count = make("span", { className: "waiting" });
    parent.append(this.run, this.stop, this.stopAll, this.count);
    this.show({ running: null, waiting: [] });
  }

  allow(right) {
    this.run.disabled = !right;
    this.run.title = right ? "Add a run of these settings to the queue" : "Put right what is marked, then run";
  }

  show({ running, waiting }) {
    this.stop.disabled = !running || running.stopping;
    this.stopAll.hidden = !waiting.length;
    this.count.textContent = waiting.length ? `${waiting.length} waiting` : "";
  }
}

/* Settings from a clip's file, and a way back from it. */
class Tools {
  constructor(parent, send) {
    this.send = send;
    this.file = make("details", { className: "menu" }, make("summary", { textContent: "From a clip" }), this.reading());
    this.undo = pushed("Undo", "Undo the last preset, reset or file", () => send({ do: "undo" }));
    this.undo.hidden = true;
    parent.append(this.undo, this.file);
    this.file.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.file.open) return;
      event.stopPropagation();
      this.close();
    });
  }

  allow(can) {
    this.undo.hidden = !can;
  }

  close() {
    this.file.open = false;
    this.file.querySelector("summary").focus();
  }

  reading() {
    const path = make("input", { type: "text", placeholder: "my_lab/runs/…/clip.mp4", ariaLabel: "Path of a clip, on the kernel's machine" });
    const open = () => {
      if (!path.value.trim()) return;
      this.send({ do: "open", path: path.value.trim() });
      this.close();
    };
    path.addEventListener("keydown", (event) => {
      if (event.key === "Enter") open();
    });
    const file = make("input", { type: "file", accept: ".json,application/json", ariaLabel: "JSON file of settings, on this computer" });
    file.addEventListener("change", async () => {
      if (!file.files.length) return;
      this.send({ do: "text", text: await file.files[0].text() });
      file.value = "";
      this.close();
    });
    const note = make("p", { className: "note", textContent: "Every clip that wanlab writes carries its settings: mp4, webm, gif, webp, png." });
    const row = make("div", { className: "actions" }, path, pushed("Open", "Open the settings of this clip", open, "framed"));
    return make("div", { className: "sheet" }, note, make("label", {}, "Path on the kernel's machine"), row, make("label", {}, "or a JSON file from this computer"), file);
  }
}

/* Text to copy, where there is a clipboard and where there is none. */
class Code {
  constructor(parent) {
    this.parent = parent;
    this.fields = {};
    parent.append(make("h4", { textContent: "As code" }), this.field("python", "Python", 3));
    const folded = make("details", {}, make("summary", { textContent: "All settings as JSON" }), this.field("json", "JSON", 8));
    parent.append(folded);
  }

  field(name, title, rows) {
    const area = make("textarea", { readOnly: true, rows, spellcheck: false, ariaLabel: `Settings as ${title}` });
    const told = make("span", { className: "note" });
    told.setAttribute("role", "status");
    this.fields[name] = area;
    const copy = pushed("Copy", `Copy the settings as ${title}`, () => this.copy(area, told), "framed");
    copy.ariaLabel = copy.title;
    return make("div", { className: "copying" }, area, make("div", { className: "actions" }, copy, told));
  }

  show(code) {
    for (const [name, area] of Object.entries(this.fields)) area.value = code[name];
    this.fields.python.rows = Math.min(12, Math.max(2, code.python.split("\n").length));
  }

  /* On plain http there is no clipboard: then the text is selected, and the browser's own copying does it. */
  async copy(area, told) {
    let copied = false;
    try {
      await navigator.clipboard.writeText(area.value);
      copied = true;
    } catch {
      area.select();
      copied = document.execCommand("copy");
    }
    told.textContent = copied ? "copied" : "selected: press Ctrl+C";
    setTimeout(() => (told.textContent = ""), 3000);
  }
}
