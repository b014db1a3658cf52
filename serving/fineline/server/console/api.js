// Requests to this server, and what is said when one fails.

import { knows, language, number, t, el } from "./words.js";

/** A request that failed, with the server's code and message where it gave them. */
export class Problem extends Error {
  constructor(code, { message = "", wait = "" } = {}) {
    super(message);
    this.code = code;
    this.wait = wait;
  }

  /** One sentence in the chosen language, or the server's own. */
  sentence(facts) {
    const key = `error.${this.code}`;
    if (knows(key)) return t(key, { wait: this.wait, most: number(facts?.max_characters ?? 0) });
    if (!this.message) return t("error.other");
    return language() === "en" ? this.message : el("span", {}, t("error.other"), " ", el("span", { lang: "en" }, this.message));
  }
}

/** Sends a request and gives what the answer holds; throws a `Problem`. */
export async function ask(path, { method = "GET", body, key } = {}) {
  const headers = { accept: "application/json" };
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  } catch {
    throw new Problem("network");
  }
  if (answer.status === 204) return null;
  let content;
  try {
    content = await answer.json();
  } catch {
    throw new Problem("unreadable");
  }
  if (answer.ok) return content;
  const { code = "other", message } = content.error ?? {};
  throw new Problem(code, { message, wait: answer.headers.get("retry-after") ?? "1" });
}
