// A form that sends a tick, built from the JSON schema of the channel's struct.

import { Refused, base, post } from "./api.js";
import { element, setText } from "./dom.js";

const HINTS = { "date-time": "2026-11-21T12:00:00Z", date: "2026-11-21", time: "12:00:00" };

/** One member: how it is entered, and what was entered. */
class Member {
  constructor(name, schema) {
    this.name = name;
    this.schema = schema;
    this.id = `send-${name}`;
    this.input = this.make();
    this.input.id = this.id;
    this.input.setAttribute("aria-describedby", `${this.id}-error`);
    this.error = element("span", { class: "error", id: `${this.id}-error`, role: "alert" });
    const kind = element("span", { class: "kind" }, this.kind);
    this.node = element("div", { class: "field-row" }, element("label", { for: this.id }, name, kind), this.input, this.error);
  }

  get kind() {
    const { type, format, enum: options } = this.schema;
    return options ? "one of" : format ?? type ?? "JSON";
  }

  get isText() {
    return this.schema.type === "string";
  }

  make() {
    const { type, format, enum: options } = this.schema;
    if (options) return this.choice(options.map((option) => [JSON.stringify(option), String(option)]));
    if (type === "boolean") return this.choice([["true", "true"], ["false", "false"]]);
    if (type === "integer" || type === "number") {
      return element("input", { type: "text", inputmode: type === "integer" ? "numeric" : "decimal", placeholder: this.hint });
    }
    if (type === "string") return element("input", { type: "text", placeholder: HINTS[format] ?? this.hint, autocomplete: "off" });
    return element("textarea", { rows: "2", placeholder: this.hint || "JSON", spellcheck: "false" });
  }

  get hint() {
    const value = this.schema.default;
    if (value === undefined || value === "") return "";
    return this.isText ? String(value) : JSON.stringify(value);
  }

  choice(options) {
    return element("select", {}, element("option", { value: "" }, "–"), ...options.map(([value, text]) => element("option", { value }, text)));
  }

  /** The value that was entered, undefined when there is none; throws a text when it cannot be one. */
  read() {
    const text = this.input.value;
    if (text === "") return undefined;
    if (this.isText && !this.schema.enum) return text;
    try {
      return JSON.parse(text);
    } catch {
      throw new Error(this.schema.type === "integer" || this.schema.type === "number" ? "not a number" : "not JSON");
    }
  }

  complain(text) {
    setText(this.error, text);
    if (text) this.input.setAttribute("aria-invalid", "true");
    else this.input.removeAttribute("aria-invalid");
  }
}

/** The send form of one feed in a panel. */
export class SendForm {
  constructor(panel, feed, catalogue) {
    this.feed = feed;
    const properties = Object.entries(catalogue.struct(feed.channel).properties ?? {});
    this.members = properties
      .filter(([name]) => name !== "id" && name !== "timestamp")
      .map(([name, schema]) => new Member(name, catalogue.plain(schema)));
    this.result = element("span", { class: "done", role: "status" });
    this.error = element("p", { class: "error", role: "alert" });
    this.button = element("button", { type: "submit", class: "primary" }, "Send tick");
    const clear = element("button", { type: "reset", onclick: () => this.clear() }, "Clear");
    const actions = element("div", { class: "actions" }, this.button, clear, this.result);
    const form = element("form", { class: "fields", novalidate: true }, ...this.members.map((member) => member.node), this.error, actions);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    panel.replaceChildren(form);
  }

  focus() {
    (this.members[0]?.input ?? this.button).focus();
  }

  clear() {
    setText(this.result, "");
    setText(this.error, "");
    for (const member of this.members) member.complain("");
  }

  async send() {
    this.clear();
    const record = {};
    let isComplete = true;
    for (const member of this.members) {
      try {
        const value = member.read();
        if (value !== undefined) record[member.name] = value;
      } catch (error) {
        member.complain(error.message);
        isComplete = false;
      }
    }
    if (!isComplete) return this.showFirstError();
    const key = this.feed.key === null ? "" : `/${encodeURIComponent(this.feed.key)}`;
    this.button.disabled = true;
    try {
      const [accepted] = await post(`${base}/send/${encodeURIComponent(this.feed.channel)}${key}`, record);
      setText(this.result, `sent, id ${accepted?.id ?? "–"}`);
    } catch (error) {
      this.explain(error);
    } finally {
      this.button.disabled = false;
    }
  }

  explain(error) {
    const items = error instanceof Refused && Array.isArray(error.detail) ? error.detail : [];
    const rest = [];
    for (const item of items) {
      const member = this.members.find((each) => item.loc.includes(each.name));
      if (member) member.complain(item.msg);
      else rest.push(item.msg);
    }
    setText(this.error, items.length ? rest.join(" ") : error.message);
    this.showFirstError();
  }

  showFirstError() {
    this.members.find((member) => member.input.hasAttribute("aria-invalid"))?.input.focus();
  }
}
