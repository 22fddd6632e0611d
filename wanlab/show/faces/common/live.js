/* A face as a widget: the same class as in a page, with a line to the kernel. Joined behind the face's own scripts. */

class Live {
  constructor(model) {
    this.model = model;
  }

  /* Tell Python; `message` is anything that JSON can hold. */
  send(message) {
    this.model.send(message);
  }

  /* Hear from Python; returns how to stop. */
  listen(heard) {
    const handler = (message) => heard(message);
    this.model.on("msg:custom", handler);
    return () => this.model.off("msg:custom", handler);
  }

  /* Hear the value of a trait, now and whenever it changes; returns how to stop. */
  follow(name, heard) {
    const handler = () => heard(this.model.get(name));
    this.model.on(`change:${name}`, handler);
    handler();
    return () => this.model.off(`change:${name}`, handler);
  }
}

function mount(Face, { model, el }) {
  const root = document.createElement("div");
  root.className = "wanlab";
  root.dataset.face = Face.name;
  root.dataset.live = model.get("key");
  const problem = Object.assign(document.createElement("pre"), { hidden: true, className: "wanlab-problem" });
  problem.setAttribute("role", "alert");
  problem.style.cssText = "white-space: pre-wrap; color: #b00020; background: #b0002018; padding: 8px; border-radius: 6px";
  // The page beneath hides as long as this element is there, however often it is written anew.
  const hiding = document.createElement("style");
  hiding.textContent = `.wanlab[data-twin="${root.dataset.live}"] { display: none !important; }`;
  el.append(hiding, problem, root);
  const live = new Live(model);
  const forget = live.listen((message) => {
    if (!("problem" in message)) return;
    problem.hidden = !message.problem;
    problem.textContent = message.problem;
  });
  let [face, gone] = [null, false];
  // A notebook may put the element into the document only after this: before, it has no size and no colours to follow.
  const begin = () => {
    if (gone) return;
    if (el.isConnected) face = new Face(root, model.get("content"), live);
    else setTimeout(begin, 10);
  };
  begin();
  return () => {
    gone = true;
    forget();
    face?.stop?.();
  };
}
