/* Numbers as people read them. */

/* A few digits, and a power of ten only where there would be many zeros. */
function short(value, digits = 3) {
  if (value && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
