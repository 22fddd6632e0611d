/* The grid as it stands now as one picture, to keep. */

const SHEET = { gap: 6, label: 150, line: 22, font: "13px system-ui, sans-serif", ground: "#ffffff", ink: "#20242a", faint: "#e9ebee" };
const LARGEST_SHEET = 12_000; // pixels along a side: browsers refuse canvases not far above

async function saveSheet(grid) {
  const canvas = await drawSheet(grid);
  const picture = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const link = make("a", { href: URL.createObjectURL(picture), download: "grid.png" });
  grid.part.card.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

async function drawSheet(grid) {
  const { places, down, across } = grid;
  const { gap, label, line } = SHEET;
  const [first] = grid.cells.filter((cell) => cell.frames);
  const ratio = first ? first.content.height / first.content.width : 1;
  const [left, top] = [places.rows.length ? label + gap : 0, places.columns.length * (line + gap)];
  const most = (LARGEST_SHEET - Math.max(left, top)) / Math.max(across.length, down.length * ratio) - gap;
  const width = Math.floor(Math.min(first?.content.width > 160 ? first.content.width : 160, most));
  const height = Math.round(width * ratio);
  const canvas = make("canvas", { width: left + across.length * (width + gap) + gap, height: top + down.length * (height + gap) + gap });
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = Boolean(first) && first.content.width > width;
  Object.assign(context, { fillStyle: SHEET.ground, font: SHEET.font, textBaseline: "middle" });
  context.fillRect(0, 0, canvas.width, canvas.height);
  const text = (axes, values) => axes.map((axis, level) => `${places.axes[axis].name} ${places.value(axis, values[level])}`);
  across.forEach((values, place) =>
    text(places.columns, values).forEach((each, level) =>
      sheetLabel(context, [each], left + gap + place * (width + gap), gap + level * (line + gap), width, line),
    ),
  );
  down.forEach((values, place) => {
    if (places.rows.length) sheetLabel(context, text(places.rows, values), gap, top + gap + place * (height + gap), label, height);
  });
  const frame = grid.clock.index;
  const shown = grid.grid.flatMap((cells, row) => cells.map((cell, column) => ({ cell, row, column }))).filter(({ cell }) => cell);
  for (const { cell, row, column } of shown) {
    const box = [left + gap + column * (width + gap), top + gap + row * (height + gap), width, height];
    if (cell.frames) context.drawImage(await grid.decoder.picture(cell.still(frame)), ...box);
    else sheetLabel(context, [GRID_STATES[cell.content.state]], ...box);
  }
  return canvas;
}

/* Lines of text in a box, each cut to its width. */
function sheetLabel(context, lines, x, y, width, height) {
  context.fillStyle = SHEET.faint;
  context.fillRect(x, y, width, height);
  context.fillStyle = SHEET.ink;
  lines.forEach((text, place) => {
    let end = text.length;
    while (end > 1 && context.measureText(text.slice(0, end) + (end < text.length ? "…" : "")).width > width - 12) end -= 1;
    const top = y + height / 2 + (place - (lines.length - 1) / 2) * SHEET.line;
    context.fillText(text.slice(0, end) + (end < text.length ? "…" : ""), x + 6, top);
  });
}
