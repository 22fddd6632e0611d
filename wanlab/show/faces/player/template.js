/* What stands around a player's stage. */

const MODES = { side: "Side by side", wipe: "Wipe", blink: "Blink", difference: "Difference" };
const ZOOMS = [["fit", "Fit"], [0.5, "½×"], [1, "1×"], [2, "2×"], [4, "4×"], [8, "8×"]];
const RATES = [1, 2, 3, 4, 6, 8].map((rate) => [rate, `${rate} a second`]);

const PLAYER_TEMPLATE = `
  <div class="card" data-part="card">
    <h3 class="clamp" data-part="title"></h3>
    <p class="summary" data-part="summary"></p>
    <div class="views">
      <div class="stage" data-part="stage"></div>
    </div>
    <div class="settings" data-part="settings"></div>
    <div class="bar">
      ${button("back", "One frame back")}${button("play", "Play")}${button("forward", "One frame forward")}
      ${slider("frame", "Frame")}<span class="count" data-part="count"></span>
    </div>
    <div class="bar options">
      <span class="modes" role="group" aria-label="Comparison" data-part="modes">
        ${Object.entries(MODES).map(([mode, text]) => button(mode, text, text)).join("")}
      </span>
      <span class="group" data-part="pair">${select("first", "First clip")}and${select("second", "Second clip")}</span>
      <span class="group grow" data-part="wiping">${slider("cut", "Wipe position")}</span>
      <span class="group" data-part="blinking">
        ${button("playBlink", "Play blinking", ICONS.play)}${select("rate", "Changes a second", RATES)}
      </span>
      <span class="group" data-part="gaining">${select("gain", "Amplification", GAINS)}</span>
      <span class="group end">
        ${button("loop", "Loop")}${button("pingpong", "Forward and backward")}
        <label class="group">speed ${select("speed", "Speed", SPEEDS)}</label>
        <label class="group">zoom ${select("zoom", "Zoom", ZOOMS)}</label>
        ${button("full", "Full screen")}${button("help", "Keys")}
      </span>
    </div>
    <p class="note" data-part="keys" hidden></p>
    <p class="note" data-part="notes"></p>
    <details class="curves" data-part="curves" hidden>
      <summary>Curves of each frame</summary>
      <div data-part="curvesBody"></div>
    </details>
    <div class="tables" data-part="tables"></div>
  </div>`;
