/* What the steps' face is made of: its views, its sizes and its controls. */

const STEPS_A_SECOND = 5;
const STEP_VIEWS = { clean: "Clean estimates", latents: "Latents", velocity: "Velocity", all: "Noise to clean" };
const PICTURE_SIDE = 288; // of one picture, at most about this; small ones are enlarged by a whole factor
const PAIRED_SIDE = 208;
const GAP = 12; // between pictures

const STEPS_TEMPLATE = `
  <div class="card" data-part="card">
    <h3 data-part="title"></h3>
    <p class="verdict" data-part="told"></p>
    <div class="modes" role="group" aria-label="View" data-part="views">
      ${Object.entries(STEP_VIEWS).map(([view, text]) => button(view, text, text.replace(" estimates", ""))).join("")}
    </div>
    <div class="views">
      <div class="seen">
        <div class="stage" data-part="stage"></div>
        <div class="scale" data-part="scale" hidden><span data-part="low"></span><i data-part="ramp"></i><span data-part="high"></span></div>
        <div class="tiles" role="group" aria-label="Channels" data-part="tiles" hidden></div>
      </div>
      <div class="charted" data-part="charted" hidden>
        <svg data-part="chart" role="img" aria-label="Curves over the steps"></svg>
        <div class="blocks" data-part="blocking" hidden>
          <svg data-part="blocks" role="img" aria-label="Seconds of each block over the steps"></svg>
          <p class="note" data-part="blockTold"></p>
        </div>
        <div class="legend" role="group" aria-label="Curves" data-part="legend"></div>
        <p class="note" data-part="here"></p>
      </div>
    </div>
    <div class="bar">
      ${button("playSteps", "Play the steps", ICONS.play)}<span class="name">step</span>${slider("step", "Denoising step")}
      <span class="count" data-part="stepCount"></span>
    </div>
    <div class="bar">
      ${button("play", "Play")}<span class="name">frame</span>${slider("frame", "Frame")}<span class="count" data-part="count"></span>
    </div>
    <div class="bar options">
      <span data-part="caption"></span>
      <span class="group end">
        <label class="group" data-part="gaining">difference ${select("gain", "Amplification", GAINS)}</label>
        <label class="group">speed ${select("speed", "Speed", SPEEDS)}</label>
        ${button("help", "Keys")}
      </span>
    </div>
    <p class="note" data-part="keys" hidden></p>
    <p class="note" data-part="notes"></p>
    <div class="tables" data-part="tables"></div>
  </div>`;
