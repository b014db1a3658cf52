// The appeal against a verdict. Its form stands in the page, so that a change of language loses no entry.

import { ask } from "./api.js";
import { lengthOf } from "./offsets.js";
import { date, el, says, t } from "./words.js";

const $ = (id) => document.getElementById(id);
let judged = null; // the verdict, and what it is of
let receipt = null;

/** Makes the form work, once; `describe` writes it in the chosen language. */
export function prepareAppeal(facts, key) {
  if (!facts.appeals) return;
  $("appeal-reason").append(...facts.appeals.reasons.map((reason) => el("option", { value: reason })));
  $("appeal-toggle").addEventListener("click", () => open(facts, $("appeal-form").hidden));
  $("appeal-consent").addEventListener("change", () => ($("appeal-note-field").hidden = !$("appeal-consent").checked));
  $("appeal-form").addEventListener("submit", (event) => {
    event.preventDefault();
    run(facts, () => send(facts, key()));
  });
  $("appeal-withdraw").addEventListener("click", () => run(facts, () => withdraw(facts, key())));
}

/** A box for each label of the model; those that are there stay as they are. */
function makeBoxes(labels) {
  for (const box of $("appeal-boxes").querySelectorAll("input")) if (!labels.has(box.value)) box.parentElement.remove();
  for (const id of labels.keys()) {
    if ($(`right-${id}`)) continue;
    const box = el("input", { type: "checkbox", id: `right-${id}`, value: id });
    $("appeal-boxes").append(el("p", { class: "choice" }, box, el("label", { for: `right-${id}` })));
  }
}

/** Writes the form in the chosen language. */
export function describeAppeal(facts, labels) {
  if (!facts.appeals) return;
  const { days, retention_days: retention, keeps_texts: keeps } = facts.appeals;
  $("appeal-intro").textContent = t("appeal_intro", { days, retention });
  $("appeal-toggle").textContent = t($("appeal-form").hidden ? "appeal_open" : "appeal_close");
  makeBoxes(labels);
  for (const [id, label] of labels) document.querySelector(`label[for="right-${id}"]`).replaceChildren(says(label.name));
  for (const option of $("appeal-reason").options) option.textContent = t(`reason.${option.value}`);
  $("appeal-no-texts").textContent = t(keeps ? "appeal_too_long" : "appeal_no_texts");
  if (receipt) tell();
}

/** Offers an appeal against a verdict; hides it where the server takes none. */
export function offerAppeal(facts, now) {
  judged = now;
  receipt = null;
  $("appeal").hidden = !(facts.appeals && judged?.result.verdict_id);
  if ($("appeal").hidden) return;
  $("appeal-form").reset();
  for (const box of $("appeal-labels").querySelectorAll("input")) box.checked = judged.result.flagged.includes(box.value);
  $("appeal-note-field").hidden = true;
  const fits = Math.max(lengthOf(judged.text), lengthOf(judged.context)) <= facts.appeals.max_text;
  $("appeal-texts").hidden = !(facts.appeals.keeps_texts && fits);
  $("appeal-no-texts").hidden = !$("appeal-texts").hidden;
  $("appeal-receipt").replaceChildren();
  $("appeal-problem").replaceChildren();
  $("appeal-withdraw").hidden = true;
  $("appeal-toggle").hidden = false;
  open(facts, false);
}

function open(facts, wanted) {
  $("appeal-form").hidden = !wanted;
  $("appeal-toggle").setAttribute("aria-expanded", String(wanted));
  $("appeal-toggle").textContent = t(wanted ? "appeal_close" : "appeal_open");
}

/** Runs `work`, which gives the element to focus afterwards. */
async function run(facts, work) {
  $("appeal-problem").replaceChildren();
  $("appeal-send").disabled = $("appeal-withdraw").disabled = true;
  let next;
  try {
    next = await work();
  } catch (problem) {
    $("appeal-problem").replaceChildren(problem.sentence(facts));
  } finally {
    $("appeal-send").disabled = $("appeal-withdraw").disabled = false;
  }
  next?.focus(); // what had it may be hidden now
}

async function send(facts, key) {
  const body = {
    verdict_id: judged.result.verdict_id,
    expected_labels: [...$("appeal-labels").querySelectorAll("input:checked")].map((box) => box.value),
    reason: $("appeal-reason").value,
  };
  if ($("appeal-action").value) body.expected_action = $("appeal-action").value;
  if (!$("appeal-texts").hidden && $("appeal-consent").checked) {
    Object.assign(body, { consent: true, text: judged.text });
    if (judged.context) body.context = judged.context;
    if ($("appeal-note").value.trim()) body.note = $("appeal-note").value;
  }
  receipt = await ask("v1/feedback", { method: "POST", body, key });
  open(facts, false);
  $("appeal-toggle").hidden = true;
  $("appeal-withdraw").hidden = false;
  tell();
  return $("appeal-withdraw");
}

function tell() {
  const { id, delete_after: end, content_stored: kept } = receipt;
  $("appeal-receipt").replaceChildren(
    el("p", {}, el("strong", {}, t("appeal_sent"))),
    el("p", {}, t("appeal_facts", { id, date: date(end) })),
    el("p", {}, t(kept ? "appeal_kept" : "appeal_not_kept")),
  );
}

async function withdraw(facts, key) {
  await ask(`v1/feedback/${receipt.id}`, { method: "DELETE", key });
  offerAppeal(facts, judged);
  $("appeal-receipt").replaceChildren(el("p", {}, t("appeal_withdrawn")));
  return $("appeal-toggle");
}
