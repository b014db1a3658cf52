// The text as it was judged, its stretches marked, and a label's score along it.

import { pieces } from "./offsets.js";
import { el, fixed, list, number, says, t } from "./words.js";

const LISTED = 40;

/** Flagged labels that reach their threshold in a stretch, highest first. */
function reached(stretch, result) {
  const over = result.flagged.filter((id) => stretch.scores[id] >= result.thresholds[id]);
  return over.sort((one, other) => stretch.scores[other] - stretch.scores[one]);
}

function marked(text, result, hot) {
  const many = result.windows.length > 1;
  const body = el("div", { class: "judged", dir: "auto", translate: "no" });
  for (const piece of pieces(text, result.windows)) {
    if (many) {
      for (const i of piece.begins) {
        const number = el("span", { "aria-hidden": "true" }, String(i + 1));
        const spoken = el("span", { class: "spoken" }, hot.has(i) ? t("mark_begin", { n: i + 1 }) : "");
        body.append(el("bdi", { class: hot.has(i) ? "stretch hot" : "stretch", id: `stretch-${i + 1}`, tabindex: "-1" }, number, spoken));
      }
    }
    body.append(piece.within.some((i) => hot.has(i)) ? el("mark", {}, piece.text) : piece.text);
  }
  return el("div", { class: "frame", role: "region", tabindex: "0", "aria-label": t("passages_scope") }, body);
}

function listed(result, labels, hot) {
  const rows = [...hot].slice(0, LISTED).map((i) => {
    const stretch = result.windows[i];
    const found = reached(stretch, result).map((id) => {
      const [score] = fixed(stretch.scores[id], result.thresholds[id]);
      return `${says(labels.get(id).name)} ${score}`;
    });
    const link = el("a", { href: `#stretch-${i + 1}`, "aria-label": t("go", { n: i + 1 }) }, String(i + 1));
    return el(
      "tr",
      {},
      el("td", {}, link),
      el("td", { class: "dim" }, `${number(stretch.start)} – ${number(stretch.end)}`),
      el("td", {}, list(found)),
    );
  });
  const heads = ["stretch", "from_to", "highest"].map((key) => el("th", { scope: "col" }, t(key)));
  const rest = hot.size - rows.length;
  return [
    el("table", { class: "stretches" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)),
    rest > 0 ? el("p", { class: "hint" }, t("more_stretches", { n: number(rest) })) : "",
  ];
}

function chart(result, label) {
  const end = Math.max(1, result.windows.at(-1).end);
  const threshold = result.thresholds[label.id];
  const bars = result.windows.map((stretch) => {
    const score = stretch.scores[label.id];
    return el("rect", {
      x: (1000 * stretch.start) / end,
      width: (1000 * (stretch.end - stretch.start)) / end,
      y: 100 * (1 - score),
      height: 100 * score,
      class: score >= threshold ? "over" : "under",
    });
  });
  const limit = el("line", { x1: 0, x2: 1000, y1: 100 * (1 - threshold), y2: 100 * (1 - threshold) });
  const tops = result.windows.map((stretch) => stretch.scores[label.id]);
  const at = tops.indexOf(Math.max(...tops));
  const [score, level] = fixed(tops[at], threshold);
  const values = { label: says(label.name), n: tops.length, score, at: at + 1, threshold: level };
  const attributes = { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": t("profile_alt", values) };
  return el("svg", attributes, ...bars, limit);
}

function profile(result, labels) {
  const rank = (id) => result.scores[id] / result.thresholds[id];
  const order = [...labels.keys()].sort((one, other) => rank(other) - rank(one));
  const options = order.map((id) => el("option", { value: id }, says(labels.get(id).name)));
  const choice = el("select", { id: "profile-label" }, ...options);
  const picture = el("div", { class: "profile" }, chart(result, labels.get(order[0])));
  choice.addEventListener("change", () => picture.replaceChildren(chart(result, labels.get(choice.value))));
  return [
    el("h3", {}, t("profile")),
    el("p", { class: "choose" }, el("label", { for: "profile-label" }, t("profile_of")), " ", choice),
    picture,
    el("p", { class: "hint" }, t("profile_hint")),
  ];
}

/** Scrolls the frame, not the page, to the first stretch that is marked. */
export function showFirstMark(section) {
  const frame = section.querySelector(".frame");
  const first = frame.querySelector(".stretch.hot");
  if (first) frame.scrollTop = first.offsetTop - frame.offsetTop - frame.clientHeight / 4;
}

/** The section on where in the text a verdict comes from. */
export function passages(text, result, labels) {
  const many = result.windows.length > 1;
  const hot = new Set(result.windows.flatMap((stretch, i) => (reached(stretch, result).length ? [i] : [])));
  const values = { n: number(result.windows.length), flagged: number(hot.size) };
  return el(
    "section",
    { "aria-labelledby": "passages" },
    el("h2", { id: "passages" }, t("passages")),
    el("p", { class: "hint" }, many ? t("passages_many", values) : t("passages_whole")),
    marked(text, result, hot),
    ...(many && hot.size ? listed(result, labels, hot) : []),
    ...(many ? profile(result, labels) : []),
  );
}
