// The recent past of one number as an SVG line.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 100;
const HEIGHT = 24;

/** A sparkline that can be drawn again with other values. */
export class Sparkline {
  constructor(label, isLarge = false) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("class", isLarge ? "spark large" : "spark");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", label);
    this.area = document.createElementNS(SVG, "polygon");
    this.line = document.createElementNS(SVG, "polyline");
    this.svg.append(this.area, this.line);
  }

  draw(values) {
    const low = Math.min(...values);
    const span = Math.max(...values) - low || 1;
    const step = values.length > 1 ? WIDTH / (values.length - 1) : 0;
    const flat = Math.max(...values) === low;
    const points = values.map((value, at) => {
      const height = flat ? HEIGHT / 2 : HEIGHT - 2 - ((value - low) / span) * (HEIGHT - 4);
      return `${(at * step).toFixed(1)},${height.toFixed(1)}`;
    });
    if (points.length === 1) points.push(`${WIDTH},${points[0].split(",")[1]}`);
    this.line.setAttribute("points", points.join(" "));
    this.area.setAttribute("points", `0,${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}`);
  }
}
