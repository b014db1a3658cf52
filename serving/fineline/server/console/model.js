// What model answers here, from /v1/model.

import { el, fixed, number, t } from "./words.js";

function trained(manifest) {
  const sources = manifest.data?.sources;
  if (!sources?.length) return null;
  const rows = sources.reduce((sum, source) => sum + source.kept, 0);
  return t("model_data_value", { rows: number(rows), n: sources.length });
}

/** Fills the list of facts. */
export function showModel(list, model) {
  const { window, manifest, quantisation } = model;
  const backbone = manifest.backbone;
  const facts = {
    model_name: el("span", { translate: "no" }, model.model),
    model_digest: el("code", {}, model.digest.slice(0, 16)),
    model_labels: t("model_labels_value", { n: model.labels.length, version: model.taxonomy }),
    model_window: t("model_window_value", window),
    model_quantisation: el("span", { lang: "en" }, Object.entries(quantisation).map(([part, way]) => `${part}: ${way}`).join("; ")),
    model_golden: t("model_golden_value", { gap: model.golden_gap, tolerance: model.golden_tolerance }),
    model_backbone: backbone && el("span", { lang: "en" }, [backbone.model, backbone.licence].filter(Boolean).join(", ")),
    model_data: trained(manifest),
  };
  const shown = Object.entries(facts).filter(([, value]) => value);
  list.replaceChildren(...shown.map(([key, value]) => el("div", {}, el("dt", {}, t(key)), el("dd", {}, value))));
}

/** Fills the list of figures; they are fetched when it is opened. */
export function showFigures(box, figures) {
  box.hidden = !figures.length;
  const made = figures.map(({ name, title }) => {
    const picture = el("img", { src: `console/figures/${encodeURIComponent(name)}`, alt: "", loading: "lazy" });
    return el("figure", {}, picture, el("figcaption", { lang: "en" }, title));
  });
  box.querySelector("div").replaceChildren(...made);
}
