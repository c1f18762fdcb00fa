// The last value of the chosen feed, and the recent past of its numbers.

import { element, setText } from "./dom.js";
import { brief } from "./model.js";
import { Sparkline } from "./sparkline.js";

/** Shows one feed in a panel. */
export class Value {
  constructor(panel, feed) {
    this.feed = feed;
    this.figures = new Map();
    this.shown = null;
    this.series = element("div", { class: "series" });
    this.json = element("pre", { "aria-label": "Last value" }, "has not ticked yet");
    panel.replaceChildren(this.series, element("h3", {}, "Last value"), this.json);
  }

  render() {
    if (this.feed.records === this.shown) return;
    this.shown = this.feed.records;
    const value = this.shown.length === 1 ? this.shown[0] : this.shown;
    setText(this.json, JSON.stringify(value, null, 2));
    for (const [field, values] of this.feed.series) this.figure(field).show(values);
  }

  figure(field) {
    let figure = this.figures.get(field);
    if (!figure) {
      const spark = new Sparkline(`${field}, recent values`, true);
      const text = element("span");
      const caption = element("figcaption", {}, element("strong", {}, field), text);
      this.series.append(element("figure", {}, caption, spark.svg));
      figure = {
        show(values) {
          spark.draw(values);
          setText(text, `${brief(values.at(-1))}  (${brief(Math.min(...values))} to ${brief(Math.max(...values))})`);
        },
      };
      this.figures.set(field, figure);
    }
    return figure;
  }
}
