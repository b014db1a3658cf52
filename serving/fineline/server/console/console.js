// The page: what is asked, what came back, and the language it is shown in. Text and key stay in these variables.

import { describeAppeal, offerAppeal, prepareAppeal } from "./appeal.js";
import { Problem, ask } from "./api.js";
import { showFigures, showModel } from "./model.js";
import { lengthOf } from "./offsets.js";
import { passages, showFirstMark } from "./passages.js";
import { headline, rules, scores } from "./verdict.js";
import { el, firstLanguage, keepLanguage, language, list, number, says, speak, t, translate } from "./words.js";

const $ = (id) => document.getElementById(id);
const key = () => $("key").value.trim();
let facts = null; // labels, policies, and what the server offers
let labels = new Map();
let model = null;
let judged = null; // a verdict with the text, prompt and policy it is of, and the labels and policies of its model
let problem = null;
let running = false;

const policyNow = () => document.querySelector('input[name="policy"]:checked')?.value;

function showPolicies() {
  const chosen = policyNow() ?? model?.policy;
  const rows = facts.policies.map(({ name, title, description }) => {
    const button = el("input", { type: "radio", name: "policy", id: `policy-${name}`, value: name, "aria-describedby": `about-${name}` });
    button.checked = name === chosen;
    const about = el("span", { class: "hint", id: `about-${name}` }, says(description));
    return el("p", { class: "choice" }, button, el("span", {}, el("label", { for: `policy-${name}` }, says(title)), about));
  });
  $("policies").replaceChildren($("policies").querySelector("legend"), ...rows);
}

function showProblem() {
  $("problem").replaceChildren(...(problem ? [problem.sentence(facts)] : []));
}

function showStatus() {
  const stale = judged && (judged.text !== $("text").value || judged.context !== $("context").value || judged.policy !== policyNow());
  const said = running ? t("judging") : stale ? t("stale") : "";
  if ($("status").dataset.said !== said) $("status").textContent = $("status").dataset.said = said;
}

/** Tells a screen reader the verdict; those who see have the headline. */
function announce({ result }) {
  const names = result.flagged.map((id) => says(labels.get(id).name));
  const values = { action: t(`action.${result.action}`), labels: list(names) || t("announce_none") };
  $("status").replaceChildren(el("span", { class: "spoken" }, t("announce", values)));
  $("status").dataset.said = "";
}

function showResult() {
  $("idle").hidden = Boolean(judged);
  if (!judged) return;
  const { result, text, ms, labels, policies } = judged;
  const policy = policies.find(({ name }) => name === result.policy);
  $("result").dataset.action = result.action;
  $("result").replaceChildren(
    headline(result, labels, policy),
    rules(result, labels, policy),
    passages(text, result, labels),
    scores(result, labels, policy),
    el("p", { class: "hint" }, t("record", { model: result.model, ms: number(ms) })),
  );
  showFirstMark($("result"));
}

function showLength() {
  $("length").textContent = t("characters", { n: number(lengthOf($("text").value)) });
}

function show() {
  translate(document);
  document.title = t("title");
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language()));
  }
  showProblem();
  showLength();
  if (!facts) return;
  $("principle").replaceChildren(says(facts.principle));
  $("idle").querySelector("ul").replaceChildren(...says(facts.never_flag_any).map((text) => el("li", {}, text)));
  showPolicies();
  describeAppeal(facts, labels);
  showResult();
  showStatus();
  if (model) showModel($("model-facts"), model);
}

async function judge() {
  if (running) return;
  const text = $("text").value;
  const context = $("context").value;
  const policy = policyNow();
  problem = null;
  showProblem();
  if (!text.trim()) {
    problem = new Problem("empty");
    showProblem();
    $("text").focus();
    return;
  }
  running = true;
  $("judge").setAttribute("aria-disabled", "true");
  showStatus();
  const began = performance.now();
  try {
    const answer = await ask("v1/classify", { method: "POST", body: { input: text, context: context || null, policy }, key: key() });
    const [result] = answer.results;
    const ms = Math.round(performance.now() - began);
    if (result.model !== model?.model) await loadModel(); // another model may have other labels
    judged = { text, context, policy, result, ms, labels, policies: facts.policies };
    running = false;
    showResult();
    offerAppeal(facts, judged);
    showStatus();
    announce(judged);
    if ($("result").getBoundingClientRect().top > window.innerHeight) $("answer").scrollIntoView();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    fail(error);
  } finally {
    running = false;
    $("judge").removeAttribute("aria-disabled");
    showStatus();
  }
}

function fail(error) {
  problem = error;
  showProblem();
  if (error.code.endsWith("_api_key")) {
    $("key-field").hidden = false;
    $("key").focus();
  }
}

async function loadModel() {
  model = await ask("v1/model");
  facts = await ask("console/facts.json");
  labels = new Map(facts.labels.map((label) => [label.id, label]));
  showFigures($("figures"), facts.figures);
  showModel($("model-facts"), model);
  describeAppeal(facts, labels);
}

function listen() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    judge();
  });
  for (const box of [$("text"), $("context")]) {
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) judge();
    });
    box.addEventListener("input", showStatus);
  }
  $("text").addEventListener("input", showLength);
  $("policies").addEventListener("change", showStatus);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.addEventListener("click", async () => {
      await speak(button.dataset.language);
      keepLanguage();
      show();
    });
  }
}

await speak(firstLanguage());
show();
listen();
try {
  await loadModel();
  $("key-field").hidden = !facts.keys;
  prepareAppeal(facts, key);
  show();
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  fail(error);
}
