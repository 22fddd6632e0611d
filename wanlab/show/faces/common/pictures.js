/* Pictures: encoded stills, decoded when they are wanted, and the ways to paint those of one moment.
 * createImageBitmap and canvas 2d only: WebCodecs do not exist on plain http, ctx.filter not in every Safari. */

const KEPT_BYTES = 400e6; // decoded pictures kept at a time: 81 frames of 832x480 are 129e6

function unpack(clip, kind) {
  const letters = atob(clip.stills);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i); // a tenth of what Uint8Array.from takes
  let end = 0;
  return clip.sizes.map((size) => new Blob([bytes.subarray(end, (end += size))], { type: kind }));
}

class Decoder {
  #kept = new Map(); // in the order of last use

  constructor(keep) {
    this.keep = keep;
  }

  /* A promise of the picture, as large as it is or in `size`, [width, height]; the one not used for longest is forgotten. */
  picture(still, size = null) {
    const wanted = String(size);
    let kept = this.#kept.get(still);
    if (kept?.wanted !== wanted) {
      const [resizeWidth, resizeHeight] = size ?? [];
      kept = { wanted, picture: createImageBitmap(still, size ? { resizeWidth, resizeHeight, resizeQuality: "medium" } : {}) };
    }
    this.#kept.delete(still);
    this.#kept.set(still, kept);
    if (this.#kept.size > this.keep) this.#kept.delete(this.#kept.keys().next().value);
    return kept.picture;
  }
}

/* Both pictures in one canvas, the second from `cut` (a fraction of the width) on; returns where the cut fell. */
function paintWipe(canvas, [left, right], cut) {
  const context = canvas.getContext("2d");
  const edge = Math.round(cut * canvas.width);
  context.imageSmoothingEnabled = false;
  context.drawImage(left, 0, 0, canvas.width, canvas.height);
  context.save();
  context.beginPath();
  context.rect(edge, 0, canvas.width - edge, canvas.height);
  context.clip();
  context.drawImage(right, 0, 0, canvas.width, canvas.height);
  context.restore();
  return edge / canvas.width;
}

/* One picture on the whole canvas, stretched if it is of another size. */
function paintWhole(canvas, picture) {
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

/* What differs, times `gain`, each colour for itself; returns the mean and the largest difference before the gain. */
function paintDifference(canvas, pictures, gain) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const [image, other] = pictures.map((picture) => {
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  });
  const [values, others] = [image.data, other.data];
  let [sum, largest] = [0, 0];
  for (let i = 0; i < values.length; i += 1) {
    if (i % 4 === 3) continue; // alpha
    const difference = Math.abs(values[i] - others[i]);
    sum += difference;
    if (difference > largest) largest = difference;
    values[i] = difference * gain; // a clamped array: never above 255
  }
  context.putImageData(image, 0, 0);
  return { mean: sum / (values.length * 0.75), largest };
}
