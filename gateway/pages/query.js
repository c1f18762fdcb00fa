// The state query box: conditions as text, their JSON, and the rows that pass.

import { base, call } from "./api.js";
import { element, setText } from "./dom.js";
import { brief, flatten } from "./model.js";

const SEPARATOR = /("(?:[^"\\]|\\.)*"|'[^']*'|\[(?:"(?:[^"\\]|\\.)*"|[^\]"])*\]|\s+and\s+|,)/is;
const COMPARISON = /^([A-Za-z_][\w.]*)\s*(==|!=|<=|>=|<|>|=)\s*(.+)$/s;
const NULL_TEST = /^([A-Za-z_][\w.]*)\s+is(\s+not)?\s+null$/i;
const MEMBERSHIP = /^([A-Za-z_][\w.]*)\s+in\s+(\[.*\])$/is;
const NEEDS_QUOTES = /[<>=!"]|(?:^|\s)(?:and|or)(?:\s|$)/i;
const MOST_ROWS = 200;

/**
 * Conditions such as `x >= 30 and y == "a"` as the query language has them; throws an Error that names the bad one.
 * The grammar is that of `gateway/commands/conditions.py`, which says more about it.
 */
export function parse(text) {
  const filters = split(text).map(condition);
  return filters.length ? { filters } : {};
}

function split(text) {
  const parts = [""];
  for (const [number, piece] of text.split(SEPARATOR).entries()) {
    if (number % 2 && (piece === "," || piece.trim().toLowerCase() === "and")) parts.push("");
    else parts[parts.length - 1] += piece;
  }
  return parts.map((part) => part.trim()).filter(Boolean);
}

function condition(text) {
  const test = NULL_TEST.exec(text);
  if (test) return { attr: test[1], by: { where: test[2] ? "not_null" : "is_null" } };
  const membership = MEMBERSHIP.exec(text);
  if (membership) return { attr: membership[1], by: { where: "in", value: list(membership[2]) } };
  const found = COMPARISON.exec(text);
  if (!found) throw new Error(`“${text}” is no condition: write field, ==, !=, <, <=, > or >=, value`);
  const [, attr, operator, written] = found;
  const where = operator === "=" ? "==" : operator;
  if (written.startsWith("@")) return { attr, by: { attr: written.slice(1), where } };
  return { attr, by: { value: literal(written), where } };
}

function list(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`“${text}” is no list: write one such as [1, 2] or ["a", "b"]`);
  }
}

function literal(text) {
  if (text.length > 1 && text.startsWith("'") && text.endsWith("'")) return text.slice(1, -1);
  if (/^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text))) return text; // the gateway compares it exactly
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? text : value;
  } catch {
    if (NEEDS_QUOTES.test(text)) {
      throw new Error(`“${text}” is no value: write text of that kind in quotes, and join conditions by “and” or commas`);
    }
    return text;
  }
}

/** The query box in a panel; `preferred` is the channel that was chosen, `nested` names the members that are structs. */
export class QueryBox {
  constructor(panel, aliases, preferred, nested) {
    this.nested = nested;
    this.alias = element(
      "select", { id: "state-alias" },
      ...aliases.map((alias) => element("option", { value: alias, selected: alias === preferred }, alias)),
    );
    this.where = element("input", { id: "state-where", type: "text", placeholder: "x >= 30 and y == \"a\"", autocomplete: "off", spellcheck: "false" });
    this.error = element("p", { class: "error", role: "alert" });
    this.summary = element("p", { class: "soft", role: "status" });
    this.rows = element("div", { class: "rows", hidden: true });
    const form = element(
      "form", { class: "fields" },
      element("div", { class: "field-row" }, element("label", { for: "state-alias" }, "State"), this.alias),
      element("div", { class: "field-row" }, element("label", { for: "state-where" }, "Where"), this.where),
      element("div", { class: "actions" }, element("button", { type: "submit", class: "primary" }, "Query"), this.summary),
      this.error,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.run();
    });
    panel.replaceChildren(form, this.rows);
  }

  focus() {
    this.where.focus();
  }

  async run() {
    for (const node of [this.error, this.summary]) setText(node, "");
    try {
      const query = parse(this.where.value);
      const path = `${base}/state/${encodeURIComponent(this.alias.value)}?query=${encodeURIComponent(JSON.stringify(query))}`;
      const response = await call(path);
      const ignored = response.headers.get("x-gateway-query-warning"); // then it answers something that was not asked
      if (ignored) throw new Error(ignored);
      this.show(await response.json());
    } catch (error) {
      this.rows.hidden = true;
      setText(this.error, Array.isArray(error.detail) ? error.detail.map((item) => item.msg).join(" ") : error.message);
    }
  }

  show(records) {
    const shown = records.slice(0, MOST_ROWS);
    const more = records.length > shown.length ? `, the first ${shown.length} shown` : "";
    setText(this.summary, `${records.length} ${records.length === 1 ? "row" : "rows"}${more}`);
    const flat = shown.map((record) => new Map(flatten(record, this.nested)));
    const members = new Set(flat.flatMap((record) => [...record.keys()]));
    const last = ["id", "timestamp"].filter((name) => members.delete(name));
    const fields = [...members, ...last];
    const head = element("tr", {}, ...fields.map((field) => element("th", { scope: "col" }, field)));
    const body = flat.map((record) =>
      element("tr", {}, ...fields.map((field) => element("td", {}, record.has(field) ? brief(record.get(field)) : ""))));
    this.rows.replaceChildren(element("table", { "aria-label": "Rows" }, element("thead", {}, head), element("tbody", {}, ...body)));
    this.rows.hidden = shown.length === 0;
  }
}
