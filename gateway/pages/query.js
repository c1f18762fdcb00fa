// The state query box: conditions as text, their JSON, and the rows that pass.

import { base, call } from "./api.js";
import { element, setText } from "./dom.js";
import { brief, flatten } from "./model.js";

const CONDITION = /^\s*([A-Za-z_][\w.]*)\s*(==|!=|<=|>=|=|<|>)\s*(.+?)\s*$/;
const MOST_ROWS = 200;

/** Conditions such as `x >= 30 and y == "a"` as the query language has them; throws an Error that names the bad one. */
export function parse(text) {
  const filters = split(text).map((part) => {
    const found = CONDITION.exec(part);
    if (!found) throw new Error(`“${part.trim()}” is no condition: write field, ==, !=, <, <=, > or >=, value`);
    const [, attr, operator, value] = found;
    return { attr, by: { value: literal(value), where: operator === "=" ? "==" : operator } };
  });
  return filters.length ? { filters } : {};
}

function split(text) {
  const parts = [];
  let part = "";
  let quote = "";
  for (const piece of text.split(/("|'|\s+and\s+|\s+AND\s+|,)/)) {
    if (quote) {
      part += piece;
      if (piece === quote) quote = "";
    } else if (piece === '"' || piece === "'") {
      part += piece;
      quote = piece;
    } else if (piece === "," || /^\s+and\s+$/i.test(piece)) {
      parts.push(part);
      part = "";
    } else part += piece;
  }
  return [...parts, part].filter((each) => each.trim());
}

function literal(text) {
  if (text.length > 1 && text.startsWith("'") && text.endsWith("'")) return text.slice(1, -1);
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? text : value;
  } catch {
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
    this.note = element("p", { class: "note" });
    this.summary = element("p", { class: "soft", role: "status" });
    this.rows = element("div", { class: "rows", hidden: true });
    const form = element(
      "form", { class: "fields" },
      element("div", { class: "field-row" }, element("label", { for: "state-alias" }, "State"), this.alias),
      element("div", { class: "field-row" }, element("label", { for: "state-where" }, "Where"), this.where),
      element("div", { class: "actions" }, element("button", { type: "submit", class: "primary" }, "Query"), this.summary),
      this.error, this.note,
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
    for (const node of [this.error, this.note, this.summary]) setText(node, "");
    try {
      const query = parse(this.where.value);
      const path = `${base}/state/${encodeURIComponent(this.alias.value)}?query=${encodeURIComponent(JSON.stringify(query))}`;
      const response = await call(path);
      setText(this.note, response.headers.get("x-gateway-query-warning") ?? "");
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
    const fields = [...new Set(flat.flatMap((record) => [...record.keys()]))];
    const head = element("tr", {}, ...fields.map((field) => element("th", { scope: "col" }, field)));
    const body = flat.map((record) =>
      element("tr", {}, ...fields.map((field) => element("td", {}, record.has(field) ? brief(record.get(field)) : ""))));
    this.rows.replaceChildren(element("table", { "aria-label": "Rows" }, element("thead", {}, head), element("tbody", {}, ...body)));
    this.rows.hidden = shown.length === 0;
  }
}
