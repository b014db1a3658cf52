// The verdict in words, the rule behind each flagged label, and every label's score.

import { el, fixed, knows, list, says, t } from "./words.js";

// Shapes beside the words, so that an action is never told by colour alone.
const SIGNS = {
  allow: [["circle", { cx: 12, cy: 12, r: 9 }]],
  review: [["circle", { cx: 12, cy: 12, r: 9 }], ["path", { class: "full", d: "M12 3a9 9 0 0 1 0 18z" }]],
  block: [["path", { class: "full", d: "M8 2h8l6 6v8l-6 6H8l-6-6V8z" }], ["path", { class: "bar", d: "M7 12h10" }]],
};

function sign(action) {
  const shapes = SIGNS[action].map(([tag, attributes]) => el(tag, attributes));
  return el("svg", { class: "sign", viewBox: "0 0 24 24", "aria-hidden": "true" }, ...shapes);
}

/** A score as a fine line with its threshold as a mark across it. */
function line(score, threshold, over) {
  const node = el("span", { class: over ? "line over" : "line", "aria-hidden": "true" }, el("span"), el("i"));
  node.style.setProperty("--score", score);
  node.style.setProperty("--threshold", threshold);
  return node;
}

export function headline(result, labels, policy) {
  const flagged = result.flagged.length;
  return el(
    "section",
    { class: "headline", "aria-labelledby": "headline" },
    el("p", { class: "eyebrow" }, t("verdict")),
    el("h2", { id: "headline" }, sign(result.action), t(`action.${result.action}`)),
    el("p", {}, t(`means.${result.action}`)),
    el("p", { class: "hint" }, flagged ? `${t("count", { n: flagged, all: labels.size })} ` : "", t("caveat")),
    result.context_cut ? el("p", { class: "hint" }, t("context_cut")) : "",
    el("p", { class: "hint" }, t("under", { policy: says(policy.title) })),
  );
}

function clause(text) {
  const [source, place] = text.split(" ");
  return knows(`clause.${source}`) ? t(`clause.${source}`, { place }) : text; // a team's label names what it likes
}

function examples(title, entry) {
  return el("div", {}, el("h4", {}, title), el("ul", {}, ...says(entry).map((text) => el("li", {}, text))));
}

function rule(label, result, policy) {
  const [score, threshold] = fixed(result.scores[label.id], result.thresholds[label.id]);
  const action = policy.actions[label.id];
  return el(
    "article",
    { class: "rule", "data-action": action },
    el("h3", {}, says(label.name), el("span", { class: "alone" }, t(`alone.${action}`))),
    el("p", { class: "definition" }, says(label.definition)),
    el("p", { class: "hint" }, t("score_of", { score, threshold })),
    el(
      "details",
      {},
      el("summary", {}, t("rule_more")),
      el("div", { class: "pair" }, examples(t("flag"), label.flag), examples(t("never_flag"), label.never_flag)),
      label.clauses.length ? el("p", { class: "hint" }, t("clauses", { clauses: list(label.clauses.map(clause)) })) : "",
    ),
  );
}

/** Why: a rule for each flagged label; nothing where none is. */
export function rules(result, labels, policy) {
  if (!result.flagged.length) return "";
  const articles = result.flagged.map((id) => rule(labels.get(id), result, policy));
  return el("section", { "aria-labelledby": "rules" }, el("h2", { id: "rules" }, t("rules")), ...articles);
}

function row(label, result, policy) {
  const over = result.flagged.includes(label.id);
  const [score, threshold] = fixed(result.scores[label.id], result.thresholds[label.id]);
  return el(
    "tr",
    { class: over ? "over" : undefined, "data-action": over ? policy.actions[label.id] : undefined },
    el("th", { scope: "row" }, says(label.name), over ? el("span", { class: "tag" }, t("reached")) : ""),
    el("td", { class: "bar" }, line(result.scores[label.id], result.thresholds[label.id], over)),
    el("td", { class: "n" }, score),
    el("td", { class: "n dim" }, threshold),
  );
}

/** Every label in the order of the taxonomy, so that it stands in the same place each time. */
export function scores(result, labels, policy) {
  const groups = new Map([...labels.values()].map(({ group }) => [group, []]));
  for (const label of labels.values()) groups.get(label.group).push(label);
  const heads = ["label", "", "score", "threshold"];
  return el(
    "section",
    { "aria-labelledby": "scores" },
    el("h2", { id: "scores" }, t("scores")),
    el(
      "table",
      { class: "scores", "aria-labelledby": "scores" },
      el("thead", {}, el("tr", {}, ...heads.map((key) => (key ? el("th", { scope: "col" }, t(key)) : el("td"))))),
      ...[...groups].map(([group, members]) =>
        el(
          "tbody",
          {},
          el("tr", { class: "group" }, el("th", { scope: "rowgroup", colspan: 4 }, t(`group.${group}`))),
          ...members.map((label) => row(label, result, policy)),
        ),
      ),
    ),
  );
}
