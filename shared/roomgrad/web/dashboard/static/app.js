// Puts the dashboard together. All data comes with the changes of one run.

import { ask } from "../shared/api.js";
import { follow } from "../shared/changes.js";
import { drawChart, short } from "../shared/chart.js";
import { recall, remember } from "../shared/kept.js";
import { html, svg } from "../shared/svg.js";
import { Graph, inWords } from "./graph.js";
import { duration, showProgress } from "./progress.js";
import { Roots, showDead } from "./roots.js";

const find = (id) => document.getElementById(id);
const put = (id, text) => {
  if (find(id).textContent !== text) find(id).textContent = text;
};
const OVERLAY_MS = 3000;
const RUNS_MS = 5000;

let run = "";
let unfollow = () => {};
let training = null;
let panel = null; // {system, shown}: shown is a promise of what panel.js returns
const others = new Map(); // by run: its curves, drawn over those of this one

const graph = new Graph(find("graph"));
const roots = new Roots(() => run);

const shows = {
  server({ connected, reason, system, panel: hasPanel }) {
    showConnection(connected ? "live" : "lost", connected ? "live" : "server unavailable");
    find("connection").title = reason;
    if (connected) loadPanel(hasPanel ? system : "");
  },
  graph(found) {
    graph.show(found);
    put("graph-words", inWords(found));
    const rate = found.nodes
      .filter(({ kind }) => kind === "room")
      .reduce((sum, each) => sum + each.rate, 0);
    put("flow", `${short(Math.round(rate))} messages/s`);
    showRooms(found);
  },
  training(found) {
    training = found;
    find("training").hidden = !found.curves.length;
    drawTraining();
  },
  panel: (found) => panel?.shown.then((each) => each?.show(found)),
  progress: showProgress,
  replicas: showReplicas,
  roots: (found) => roots.show(found),
  dead: showDead,
};

function listen() {
  unfollow();
  unfollow = follow("api/changes", { run }, shows, (connected) => {
    if (!connected) showConnection("lost", "reconnecting");
  });
}

function showConnection(state, words) {
  find("connection").dataset.state = state;
  find("connection").querySelector("span").textContent = words;
}

// the panel of the run's system

function loadPanel(system) {
  if (system === (panel?.system ?? "")) return;
  find("panel").replaceChildren();
  panel = null;
  if (!system) return;
  const shown = import(`../panels/${encodeURIComponent(system)}/panel.js`)
    .then(({ default: create }) => (panel?.shown === shown ? create(find("panel")) : null));
  panel = { system, shown };
}

// training

function drawTraining() {
  const all = [training, ...others.values()];
  const names = training.curves.map(({ name }) => name).join();
  if (find("curves").dataset.shown !== names) {
    find("curves").dataset.shown = names;
    find("curves").replaceChildren(
      ...training.curves.flatMap(({ name, title, width }) => [
        html("h3", {}, title, html("small", {}, ` mean of ${width} steps`)),
        svg("svg", { id: `curve-${name}`, class: "chart", role: "img" }),
      ]),
    );
  }
  for (const { name, title } of training.curves) {
    const series = all.map(({ run: of, curves }) => {
      const { points = [], trend = [] } = curves.find((each) => each.name === name) ?? {};
      return { name: all.length > 1 ? of : "", points, trend };
    });
    const log = series.every(({ points }) => points.every(([, value]) => value === null || value > 0));
    drawChart(find(`curve-${name}`), { title, series, unit: "steps", log });
  }
}

async function overlay() {
  for (const name of others.keys()) {
    try {
      others.set(name, await ask(`api/training?${new URLSearchParams({ run: name })}`));
    } catch {
      // The next round asks again, and the badge shows that the server is unavailable.
    }
  }
  if (training && others.size) drawTraining();
  setTimeout(overlay, OVERLAY_MS);
}

async function choose(name, checked) {
  if (checked) others.set(name, await ask(`api/training?${new URLSearchParams({ run: name })}`));
  else others.delete(name);
  if (training) drawTraining();
}

function offer(runs) {
  const rest = runs.filter((name) => name !== run);
  find("overlay").hidden = rest.length === 0;
  const boxes = rest.map((name) => {
    const box = html("input", { type: "checkbox", checked: others.has(name) });
    box.addEventListener("change", () => choose(name, box.checked));
    return html("label", {}, box, name);
  });
  find("overlay").replaceChildren(find("overlay").firstElementChild, ...boxes);
}

// tables

function cells(row, values) {
  row.replaceChildren(
    ...values.map((value) =>
      html("td", { class: typeof value === "number" ? "n" : "" },
        typeof value === "number" ? short(value) : value),
    ),
  );
  return row;
}

function showRooms({ edges }) {
  const rows = edges
    .filter((edge) => edge.sender.startsWith("room:"))
    .map((edge) => [
      html("span", {}, edge.sender.slice(5), html("small", {}, `to ${edge.to}`)),
      edge.type, Math.round(edge.rate * 10) / 10, edge.waiting,
    ]);
  find("rooms").tBodies[0].replaceChildren(...rows.map((row) => cells(html("tr"), row)));
}

function showReplicas(replicas) {
  const rows = replicas.map((each) => {
    const state = !each.alive
      ? "no replica alive"
      : each.handling_s > 3 ? `in one handler for ${each.handling_s.toFixed(0)} s` : each.up_s ? `alive for ${duration(each.up_s)}` : "alive";
    const where = each.alive ? `${each.host}, ${each.pid}` : "";
    const weights = each.version || each.model;
    const step = weights ? `step ${short(Number(weights.split("-")[0]))}` : "";
    const row = html("tr", { "data-alive": String(each.alive) });
    return cells(row, [each.component, state, where, each.pending, step]);
  });
  find("replicas").tBodies[0].replaceChildren(...rows);
}

// the run, and the theme

async function loadRuns() {
  try {
    const { runs, first } = await ask(`api/runs?${new URLSearchParams({ shown: run })}`);
    const asked = new URLSearchParams(location.hash.slice(1)).get("run");
    if (!run) chooseRun(runs.includes(asked) ? asked : first);
    const names = runs.join();
    if (find("run").dataset.shown !== names) {
      find("run").dataset.shown = names;
      find("run").replaceChildren(...runs.map((name) => html("option", {}, name)));
      offer(runs);
    }
    find("run").value = run;
    if (!run) showConnection("waiting", "no run yet");
  } catch (problem) {
    showConnection("lost", problem.message);
  }
  setTimeout(loadRuns, RUNS_MS);
}

function chooseRun(name) {
  if (!name || name === run) return;
  run = name;
  location.hash = new URLSearchParams({ run }).toString();
  find("training").hidden = true;
  loadPanel("");
  others.clear();
  training = null;
  find("run").dataset.shown = "";
  listen();
}

find("run").addEventListener("change", () => chooseRun(find("run").value));

const dark = matchMedia("(prefers-color-scheme: dark)");
function showTheme() {
  const chosen = recall("theme", "");
  if (chosen) document.documentElement.dataset.theme = chosen;
  const now = chosen || (dark.matches ? "dark" : "light");
  put("theme", now === "dark" ? "Light" : "Dark");
}
find("theme").addEventListener("click", () => {
  remember("theme", find("theme").textContent.toLowerCase());
  showTheme();
});
dark.addEventListener("change", showTheme);

showTheme();
loadRuns();
overlay();
