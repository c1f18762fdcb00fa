// The table of all feeds, and moving in it with the keyboard.

import { byId, element, setText } from "./dom.js";
import { age, brief, flatten, perSecond } from "./model.js";
import { Sparkline } from "./sparkline.js";

const CHIPS = 8;

class Row {
  constructor(feed, badges, onOpen) {
    this.feed = feed;
    this.chips = new Map();
    this.rate = element("td", { class: "number" });
    this.ticks = element("td", { class: "number" });
    this.age = element("td", { class: "number age" });
    this.values = element("div", { class: "values" });
    const key = feed.key === null ? null : element("span", { class: "key" }, `/${feed.key}`);
    const name = element("div", { class: "name" }, feed.channel, key);
    const marks = element("div", { class: "badges" }, badges.join(" · "));
    this.node = element(
      "tr",
      { tabindex: "-1", "data-feed": feed.path, "aria-selected": "false", onclick: () => onOpen(feed) },
      element("td", {}, name, marks), this.rate, this.ticks, this.age, element("td", {}, this.values),
    );
  }

  render(now) {
    const feed = this.feed;
    setText(this.rate, perSecond(feed.rate));
    setText(this.ticks, feed.ticks.toLocaleString("en"));
    setText(this.age, feed.lastAt === null ? "–" : age(now - feed.lastAt));
    if (!feed.isFresh) return;
    feed.isFresh = false;
    this.node.classList.remove("fresh");
    requestAnimationFrame(() => this.node.classList.add("fresh"));
    const record = feed.records.at(-1);
    if (!record) return;
    const shown = [...flatten(record, feed.nested)].filter(([field]) => field !== "id" && field !== "timestamp").slice(0, CHIPS);
    for (const [field, value] of shown) this.chip(field).show(value, feed.series.get(field));
  }

  chip(field) {
    let chip = this.chips.get(field);
    if (!chip) {
      chip = new Chip(field);
      this.chips.set(field, chip);
      this.values.append(chip.node);
    }
    return chip;
  }
}

class Chip {
  constructor(field) {
    this.text = element("span", { class: "text" });
    this.node = element("span", { class: "chip" }, element("span", { class: "field" }, field), this.text);
    this.field = field;
    this.spark = null;
  }

  show(value, series) {
    setText(this.text, brief(value));
    if (!series) return;
    if (!this.spark) {
      this.spark = new Sparkline(`${this.field}, recent values`);
      this.node.append(this.spark.svg);
    }
    this.spark.draw(series);
  }
}

/** The table; `onOpen(feed)` is called when a row is chosen. */
export class Table {
  constructor(feeds, badgesOf, onOpen) {
    this.onOpen = onOpen;
    this.body = byId("channels").tBodies[0];
    this.rows = feeds.map((feed) => new Row(feed, badgesOf(feed), (chosen) => this.open(chosen)));
    this.body.replaceChildren(...this.rows.map((row) => row.node));
    if (this.rows.length) this.rows[0].node.tabIndex = 0;
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.filter("");
  }

  render(now) {
    for (const row of this.rows) if (!row.node.hidden) row.render(now);
  }

  get visible() {
    return this.rows.filter((row) => !row.node.hidden);
  }

  filter(text) {
    const wanted = text.trim().toLowerCase();
    for (const row of this.rows) row.node.hidden = !row.feed.path.toLowerCase().includes(wanted);
    const count = this.visible.length;
    setText(byId("count"), wanted ? `${count} of ${this.rows.length}` : String(count));
    byId("nothing").hidden = count > 0;
  }

  open(feed) {
    for (const row of this.rows) row.node.setAttribute("aria-selected", String(row.feed === feed));
    this.onOpen(feed);
  }

  focus(step = 0) {
    const visible = this.visible;
    const at = visible.findIndex((row) => row.node === document.activeElement);
    this.focusRow(visible[Math.min(visible.length - 1, Math.max(0, at + step))]);
  }

  /** Go back to the row that was opened, if it can be seen. */
  focusOpened() {
    const visible = this.visible;
    this.focusRow(visible.find((row) => row.node.getAttribute("aria-selected") === "true") ?? visible[0]);
  }

  focusRow(next) {
    if (!next) return;
    for (const row of this.rows) row.node.tabIndex = row === next ? 0 : -1;
    next.node.focus();
  }

  key(event) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
    if (event.key in steps) this.focus(steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") {
      const row = this.rows.find((each) => each.node === document.activeElement);
      if (row) this.open(row.feed);
    } else return;
    event.preventDefault();
  }
}
