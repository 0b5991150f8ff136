// Small line charts in SVG with their last values, and a text for screen readers.

import { svg } from "./svg.js";

const WIDTH = 340;
const HIGH = 150;
const LEFT = 34;
const RIGHT = 40;
const TOP = 10;
const BOTTOM = 26;
const NAME_HIGH = 24; // of a value with its name

// series: [{name, points: [[x, y], ...], trend}]; y is null where a value is not a number. The trend,
// if there is one, is the curve and has the last value; the points are drawn faintly behind it.
// marks: x of vertical lines; unit: noun for x; low: y of the axis, by default the smallest value;
// log: whether the y axis is logarithmic
export function drawChart(picture, { title, series, marks = [], unit, low = null, log = false }) {
  const scaled = log ? (value) => Math.log10(Math.max(value, 1e-9)) : (value) => value;
  const back = log ? (value) => 10 ** value : (value) => value;
  const points = series.flatMap((each) => [...each.points, ...(each.trend ?? [])]).filter(isNumber);
  picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HIGH}`);
  if (points.length < 2) {
    const nothing = series.some((each) => each.points.length > 1) ? "not a number" : "nothing yet";
    picture.setAttribute("aria-label", `${title}: ${nothing}`);
    const middle = { x: (LEFT + WIDTH - RIGHT) / 2, y: HIGH / 2 };
    picture.replaceChildren(
      axis(LEFT, HIGH - BOTTOM, WIDTH - RIGHT),
      svg("text", { class: "nothing", ...middle }, nothing),
    );
    return;
  }
  const [x0, x1] = range(points.map(([x]) => x));
  const [smallest, greatest] = range(points.map(([, y]) => scaled(y)));
  const y0 = low ?? smallest;
  const y1 = greatest > y0 ? greatest : y0 + 1;
  const x = (value) => LEFT + ((value - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT);
  const height = (value) => HIGH - BOTTOM - ((value - y0) / (y1 - y0)) * (HIGH - TOP - BOTTOM);
  const y = (value) => height(scaled(value));
  const parts = [axis(LEFT, HIGH - BOTTOM, WIDTH - RIGHT)];
  for (const value of [y0, (y0 + y1) / 2, y1]) parts.push(...level(back(value), height(value)));
  for (const mark of marks.filter((each) => each > x0 && each <= x1)) {
    const at = { x1: x(mark), x2: x(mark), y1: TOP, y2: HIGH - BOTTOM };
    parts.push(svg("line", { class: "mark", ...at }));
  }
  const ends = series.map((each) => curveOf(each).filter(isNumber).at(-1));
  const heights = apart(ends.map((end) => (end ? y(end[1]) : 0)));
  if (series[0].trend) parts.push(svg("path", { class: "raw", d: path(series[0].points, x, y) }));
  series.forEach((each, index) => parts.push(...line(each, index, x, y, heights[index])));
  parts.push(
    svg("text", { class: "tick", x: LEFT, y: HIGH - 8 }, short(Math.round(x0))),
    svg("text", { class: "tick end", x: WIDTH - RIGHT, y: HIGH - 8 }, `${short(x1)} ${unit}`),
  );
  picture.setAttribute("aria-label", inWords(title, series, unit));
  picture.replaceChildren(...parts);
}

// Returns heights of labels that do not overlap; the first one is on top.
function apart(heights) {
  const placed = [];
  for (const height of heights) {
    const above = placed.length ? placed.at(-1) + NAME_HIGH : -Infinity;
    placed.push(Math.max(height, above));
  }
  return placed;
}

function isNumber([, value]) {
  return Number.isFinite(value);
}

function curveOf({ points, trend }) {
  return trend ?? points;
}

// A value that is not a number interrupts the line.
function path(points, x, y) {
  let pen = "M";
  return points.map((point) => {
    const step = isNumber(point) ? `${pen}${x(point[0]).toFixed(1)} ${y(point[1]).toFixed(1)}` : "";
    pen = step ? "L" : "M";
    return step;
  }).join("");
}

// What a series says at its end: the newest point decides whether there is a number.
function lastValue({ points, trend }) {
  return isNumber(points.at(-1)) ? short(curveOf({ points, trend }).at(-1)[1]) : "not a number";
}

function line(each, index, x, y, height) {
  const known = curveOf(each).filter(isNumber);
  if (!known.length) return [];
  const [lastX, lastY] = known.at(-1);
  const at = { x: x(lastX) + 7, y: height + 4 };
  const parts = [
    svg("path", { class: `curve curve${index}`, d: path(curveOf(each), x, y) }),
    svg("circle", { class: `end${index}`, cx: x(lastX), cy: y(lastY), r: 3 }),
    svg("text", { class: `value value${index}`, ...at }, lastValue(each)),
  ];
  if (each.name) parts.at(-1).append(svg("tspan", { x: at.x, dy: 11 }, each.name));
  return parts;
}

function axis(from, height, to) {
  return svg("line", { class: "axis", x1: from, x2: to, y1: height, y2: height });
}

function level(value, height) {
  return [
    svg("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: height, y2: height }),
    svg("text", { class: "tick left", x: LEFT - 6, y: height + 3.5 }, short(value)),
  ];
}

function inWords(title, series, unit) {
  const said = series
    .filter((each) => curveOf(each).some(isNumber))
    .map((each) => {
      const first = curveOf(each).find(isNumber);
      return `${each.name || "it"} went from ${short(first[1])} to ${lastValue(each)}`;
    });
  const last = series.flatMap((each) => each.points).at(-1);
  return `${title}: ${said.join(", ")}, over ${short(last[0])} ${unit}`;
}

function range(values) {
  return [Math.min(...values), Math.max(...values)];
}

export function short(value) {
  if (value === null || Number.isNaN(value)) return "not a number";
  if (typeof value !== "number") return value;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 10 ? 1 : 2);
}
