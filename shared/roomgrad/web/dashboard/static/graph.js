// The graph as a circle, in the order in which messages pass; pulses move along its edges.

import { short } from "../shared/chart.js";
import { svg } from "../shared/svg.js";

const WIDTH = 960;
const HIGH = 520;
const CARD = { component: [150, 62], room: [112, 44] };
const BEND = 26; // px between the two directions of a pair
const PULSE_MS = 900;
const MOST_AT_ONCE = 5; // pulses of one edge at a time; more could not be told apart
const MOST_PULSES = 150;
const FAMILY = { "DATA/FORWARD": "forward", "DATA/GRADIENT": "gradient" };

const family = (type) => FAMILY[type] ?? "other";
const called = (name) => name.replace(/^room:/, "");

export class Graph {
  constructor(picture) {
    this.picture = picture;
    this.shape = "";
    this.places = new Map();
    this.paths = new Map(); // by edge: its element
    this.pulses = [];
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
  }

  show({ nodes, edges }) {
    const narrow = this.picture.clientWidth > 0 && this.picture.clientWidth < 560;
    const shape = JSON.stringify([narrow, nodes.map((n) => n.name), edges.map((e) => [key(e), e.parts])]);
    if (shape !== this.shape) {
      this.shape = shape;
      this.#draw(nodes, edges, narrow);
    }
    for (const node of nodes) this.#fill(node);
    for (const edge of edges) this.#move(edge);
  }

  #draw(nodes, edges, narrow) {
    const [width, high] = narrow ? [520, 760] : [WIDTH, HIGH];
    this.picture.setAttribute("viewBox", `0 0 ${width} ${high}`);
    this.places = circle(ordered(nodes, edges), width, high);
    this.pulses = [];
    this.paths.clear();
    const lines = edges.map((edge) => this.#line(edge, edges));
    this.cards = new Map(nodes.map((node) => [node.name, this.#card(node)]));
    this.moving = svg("g", { "aria-hidden": "true" });
    this.picture.replaceChildren(...lines, this.moving, ...this.cards.values());
  }

  #line(edge, edges) {
    const [from, to] = [this.places.get(edge.sender), this.places.get(edge.to)];
    const back = edges.some((other) => other.sender === edge.to && other.to === edge.sender);
    const twins = edges.filter((each) => each.sender === edge.sender && each.to === edge.to);
    const bend = (back ? BEND : 0) + twins.findIndex((each) => each.type === edge.type) * 18;
    const path = svg("path", { class: `edge ${family(edge.type)}`, d: curve(from, to, bend) });
    const together = edge.parts.length ? `, ${gathers(edge)}` : "";
    const about = `${called(edge.sender)} to ${called(edge.to)}: ${edge.type}${together}`;
    path.append(svg("title", {}, about));
    const end = arrow(path, to);
    this.paths.set(key(edge), path);
    const head = svg("path", { class: `head ${family(edge.type)}`, d: end });
    return svg("g", {}, path, head, ...(edge.parts.length ? [mark(path, edge)] : []));
  }

  #card(node) {
    const { x, y } = this.places.get(node.name);
    const [wide, tall] = CARD[node.kind];
    const box = { x: x - wide / 2, y: y - tall / 2, width: wide, height: tall };
    return svg(
      "g",
      { class: `node ${node.kind}` },
      svg("rect", { ...box, rx: node.kind === "room" ? tall / 2 : 12 }),
      svg("text", { x, y: y - (node.kind === "room" ? 2 : 7) }, called(node.name)),
      svg("text", { class: "small", x, y: y + (node.kind === "room" ? 14 : 12) }),
    );
  }

  #fill(node) {
    const card = this.cards.get(node.name);
    const words = card.querySelector(".small");
    const rate = `${short(Math.round(node.rate * 10) / 10)}/s`;
    if (node.kind === "room") {
      words.textContent = rate;
      return;
    }
    card.classList.toggle("absent", node.missing !== "");
    words.classList.toggle("late", node.waiting > 100);
    const waits = node.waiting ? ` · ${short(node.waiting)} waiting` : "";
    const without = node.alive && node.missing ? ` · without ${node.missing}` : "";
    words.textContent = (node.alive ? `${served(node)} · ${rate}` : "no replica alive") + without + waits;
  }

  #move(edge) {
    const path = this.paths.get(key(edge));
    path.classList.toggle("still", edge.rate === 0);
    path.setAttribute("stroke-width", (1.4 + Math.min(3, Math.log10(1 + edge.rate))).toFixed(1));
    if (this.calm.matches || document.hidden) return;
    const count = Math.min(edge.count, MOST_AT_ONCE, MOST_PULSES - this.pulses.length);
    for (let at = 0; at < count; at += 1) this.#start(path, edge, (at / count) * 450);
  }

  #start(path, edge, delay) {
    const dot = svg("circle", { class: `pulse ${family(edge.type)}`, r: 4 });
    this.pulses.push({ dot, path, length: path.getTotalLength(), at: performance.now() + delay });
    if (this.pulses.length === 1) requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    this.pulses = this.pulses.filter((pulse) => {
      const part = (now - pulse.at) / PULSE_MS;
      if (part >= 1) pulse.dot.remove();
      else if (part >= 0) {
        if (!pulse.dot.parentNode) this.moving.append(pulse.dot);
        const { x, y } = pulse.path.getPointAtLength(part * pulse.length);
        pulse.dot.setAttribute("cx", x);
        pulse.dot.setAttribute("cy", y);
      }
      return part < 1;
    });
    if (this.pulses.length) requestAnimationFrame((next) => this.#step(next));
  }
}

// A client of the gateway has no replicas; only the gateway knows whether it is connected.
function served({ name, alive }) {
  return name.includes("@gateway") ? "by the gateway" : `${alive} ×`;
}

export function inWords({ nodes, edges }) {
  const components = nodes.filter((node) => node.kind === "component");
  if (!components.length) return "No component has ever run here.";
  const said = components.map((node) => {
    const to = edges.filter((edge) => edge.sender === node.name).map((edge) => called(edge.to));
    const sends = to.length ? `, sends to ${[...new Set(to)].join(" and ")}` : "";
    const lives = node.alive === 0 ? "no replica alive" : served(node).replace("×", "alive");
    const without = node.alive && node.missing ? ` without ${node.missing}` : "";
    const joins = edges.filter((edge) => edge.to === node.name && edge.parts.length)
      .map((edge) => `, ${gathers(edge)}`);
    return `${node.name} (${lives}${without}${sends}${joins.join("")})`;
  });
  return `${said.join("; ")}.`;
}

// What a component does with the messages of one root, or of one ID, that come along an edge.
function gathers(edge) {
  const does = family(edge.type) === "gradient" ? "adds up gradients" : "joins messages";
  return `${does} of ${edge.parts.join(" and ")} in ${called(edge.sender)}`;
}

function mark(path, edge) {
  const { x, y } = path.getPointAtLength(Math.max(0, path.getTotalLength() - 30));
  return svg("g", { class: `gathers ${family(edge.type)}` },
    svg("circle", { cx: round(x), cy: round(y), r: 8 }),
    svg("text", { x: round(x), y: round(y + 4) }, family(edge.type) === "gradient" ? "+" : "&"));
}

function key(edge) {
  return `${edge.sender}>${edge.to}>${edge.type}`;
}

// Breadth first along the forward edges, or along all edges if no message goes forward: what
// branches stands side by side.
function ordered(nodes, edges) {
  const forward = edges.filter((edge) => family(edge.type) === "forward");
  const way = forward.length ? forward : edges;
  const names = nodes.map((node) => node.name);
  const from = (name) => way.filter((edge) => edge.sender === name).map((edge) => edge.to);
  const ends = new Set(way.map((edge) => edge.to));
  const sources = names.filter((name) => from(name).length && !ends.has(name));
  const found = new Set();
  for (const first of [...sources, ...names.filter((name) => !name.startsWith("room:")), ...names]) {
    const next = [first];
    while (next.length) {
      const name = next.shift();
      if (found.has(name)) continue;
      found.add(name);
      next.push(...from(name));
    }
  }
  return [...found];
}

function circle(names, width, high) {
  const [rx, ry] = [width / 2 - 100, high / 2 - 60];
  const angle = (at) => (2 * Math.PI * at) / names.length - Math.PI;
  return new Map(
    names.map((name, at) => [
      name,
      {
        x: width / 2 + rx * Math.cos(angle(at)),
        y: high / 2 + ry * Math.sin(angle(at)),
        size: CARD[name.startsWith("room:") ? "room" : "component"],
      },
    ]),
  );
}

// From card to card, bent to the left of its direction.
function curve(from, to, bend) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const [nx, ny] = [dy / length, -dx / length];
  const middle = { x: (from.x + to.x) / 2 + nx * bend * 2, y: (from.y + to.y) / 2 + ny * bend * 2 };
  const a = edgeOf(from, middle);
  const b = edgeOf(to, middle, 7);
  return `M${round(a.x)} ${round(a.y)}Q${round(middle.x)} ${round(middle.y)} ${round(b.x)} ${round(b.y)}`;
}

// Where the line from a card's middle to a point leaves the card.
function edgeOf(card, point, gap = 2) {
  const [dx, dy] = [point.x - card.x, point.y - card.y];
  const [wide, tall] = card.size;
  const part = Math.min(
    (wide / 2 + gap) / (Math.abs(dx) || 1e-6),
    (tall / 2 + gap) / (Math.abs(dy) || 1e-6),
  );
  return { x: card.x + dx * part, y: card.y + dy * part };
}

function arrow(path) {
  const length = path.getTotalLength();
  const tip = path.getPointAtLength(length);
  const before = path.getPointAtLength(Math.max(0, length - 9));
  const [dx, dy] = [tip.x - before.x, tip.y - before.y];
  const [x, y] = [before.x, before.y];
  return `M${round(tip.x)} ${round(tip.y)}L${round(x - dy / 2)} ${round(y + dx / 2)}` +
    `L${round(x + dy / 2)} ${round(y - dx / 2)}Z`;
}

function round(value) {
  return value.toFixed(1);
}
