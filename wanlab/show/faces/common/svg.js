/* Drawings: their shapes, and round numbers for their axes. */

function shape(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/* The least of 1, 2 and 5 times a power of ten that is not below `least`, or hardly. */
function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= least * 0.999);
}

/* Round numbers from one below `low` to one above `high`, about `count` of them. */
function roundNumbers(low, high, count = 3) {
  const step = roundStep((high - low) / count);
  const first = Math.floor(low / step + 1e-9);
  return Array.from({ length: Math.ceil(high / step - 1e-9) - first + 1 }, (_, index) => (first + index) * step);
}
