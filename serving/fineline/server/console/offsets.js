// Offsets of the server count Unicode code points; strings of JavaScript count UTF-16 units.

/** Code points of a text; a lone surrogate is one, as it is to the server. */
export function lengthOf(text) {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** The UTF-16 index of each offset in code points; the offsets ascend. */
export function unitsOf(text, offsets) {
  let unit = 0;
  let point = 0;
  return offsets.map((offset) => {
    while (point < offset && unit < text.length) {
      unit += text.codePointAt(unit) > 0xffff ? 2 : 1;
      point++;
    }
    return unit;
  });
}

/** The text cut wherever a stretch begins or ends: `{text, begins, within}`, the last two numbers of stretches. */
export function pieces(text, stretches) {
  const cuts = [...new Set([0, ...stretches.flatMap(({ start, end }) => [start, end]), Infinity])].sort((a, b) => a - b);
  const units = unitsOf(text, cuts);
  const begins = new Map(cuts.map((cut) => [cut, []]));
  stretches.forEach(({ start }, i) => begins.get(start).push(i));
  let open = [];
  return cuts.slice(0, -1).map((cut, i) => {
    open = [...open.filter((k) => stretches[k].end > cut), ...begins.get(cut)];
    return { text: text.slice(units[i], units[i + 1]), begins: begins.get(cut), within: open };
  });
}
