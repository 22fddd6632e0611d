/* The controls: real buttons, ranges and selects, each with a name. Only constants are ever set as HTML here. */

const SPEEDS = [[0.25, "¼×"], [0.5, "½×"], [1, "1×"], [2, "2×"]];
const GAINS = [1, 2, 4, 8, 16, 32].map((gain) => [gain, `×${gain}`]);

const icon = (path) => `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${path}"/></svg>`;
const ICONS = {
  play: icon("M8 5v14l11-7z"),
  pause: icon("M7 5h3.500v14H7zm6.500 0H17v14h-3.500z"),
  back: icon("M6 6h2v12H6zm12 0v12l-8.500-6z"),
  forward: icon("M16 6h2v12h-2zM6 6l8.500 6L6 18z"),
  loop: icon("M7 7h10v3l4-4-4-4v3H5v6h2zm10 10H7v-3l-4 4 4 4v-3h12v-6h-2z"),
  pingpong: icon("M8 7 3 12l5 5v-4h8v4l5-5-5-5v4H8z"),
  full: icon("M4 4h6v2H6v4H4zm10 0h6v6h-2V6h-4zM4 14h2v4h4v2H4zm14 0h2v6h-6v-2h4z"),
  help: icon("M4 6h16a1 1 0 0 1 1 1v10a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V7a1 1 0 0 1 1-1zm2 3v2h2V9zm4 0v2h2V9zm4 0v2h2V9zM8 13v2h8v-2z"),
};

const button = (part, label, face = ICONS[part]) =>
  `<button type="button" data-part="${part}" aria-label="${label}" title="${label}">${face}</button>`;
const slider = (part, label) => `<input type="range" data-part="${part}" aria-label="${label}" min="0" step="1" value="0">`;
const select = (part, label, options = []) => {
  const rows = options.map(([value, text]) => `<option value="${value}">${text}</option>`).join("");
  return `<select data-part="${part}" aria-label="${label}" title="${label}">${rows}</select>`;
};

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function setRange(range, value) {
  range.value = value;
  range.style.setProperty("--done", `${(100 * value) / (range.max || 1)}%`);
}

function setPlay(control, playing, what = "") {
  if (control.dataset.playing === String(playing)) return; // a pressed button must not lose its face under the pointer
  control.dataset.playing = playing;
  control.innerHTML = playing ? ICONS.pause : ICONS.play;
  control.ariaLabel = control.title = (playing ? "Pause" : "Play") + what;
}

const MOST_CLIPS = 9; // that play side by side, as in show/player.py

/* What the buttons of a clock do, by their part. */
function buttonsOf(clock) {
  return {
    play: () => clock.toggle(),
    back: () => clock.seek(clock.index - 1),
    forward: () => clock.seek(clock.index + 1),
    loop: () => clock.set({ loop: !clock.loop }),
    pingpong: () => clock.set({ pingpong: !clock.pingpong }),
  };
}

/* The number by which a clip is told apart, on its colour. */
function badge(index) {
  return make("span", { className: `badge clip-${index + 1}`, textContent: index + 1 });
}

/* An option for each label; with numbers where labels alone would not tell them apart. */
function optionsOf(labels) {
  const alike = new Set(labels).size < labels.length;
  return labels.map((label, value) => make("option", { value, textContent: alike ? `${value + 1} \u00b7 ${label}` : label }));
}
