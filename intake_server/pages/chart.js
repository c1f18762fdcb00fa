// Lines over the number of the row, as SVG.

import { draw } from "./dom.js";

export const COLOURS = ["#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#1b7c83", "#57606a"];
const WIDTH = 800, HEIGHT = 320, LEFT = 70, RIGHT = 15, TOP = 12, BOTTOM = 28;

export function ticks(low, high, about = 6) {
  const rough = (high - low) / about;
  if (!Number.isFinite(rough) || rough <= 0) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let number = Math.ceil(low / step); number * step <= high * (1 + 1e-12); number++) {
    found.push(Number((number * step).toPrecision(12)));
  }
  return found;
}

// series: [{name, colour, values: [number or null]}]; answers null when there is no number at all.
export function chart(series, firstRow = 0) {
  const numbers = series.flatMap(({ values }) => values.filter(Number.isFinite));
  if (!numbers.length) return null;
  let low = Math.min(...numbers), high = Math.max(...numbers);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const count = Math.max(...series.map(({ values }) => values.length));
  const x = (row) => LEFT + (row / Math.max(1, count - 1)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const label = `Lines of ${series.map(({ name }) => name).join(", ")} over ${count} rows, from ${low} to ${high}`;
  const picture = draw("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const value of ticks(low, high)) {
    picture.append(
      draw("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
      draw("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)),
    );
  }
  for (const row of ticks(0, Math.max(1, count - 1)).filter(Number.isInteger)) {
    picture.append(draw("text", { x: x(row), y: HEIGHT - 8, "text-anchor": "middle" }, String(row + firstRow)));
  }
  for (const { values, colour } of series) {
    let path = "", isDown = false;
    values.forEach((value, row) => {
      if (!Number.isFinite(value)) { isDown = false; return; }
      path += `${isDown ? "L" : "M"}${x(row).toFixed(1)} ${y(value).toFixed(1)}`;
      isDown = true;
    });
    picture.append(draw("path", { class: "series", d: path, stroke: colour }));
  }
  return picture;
}
