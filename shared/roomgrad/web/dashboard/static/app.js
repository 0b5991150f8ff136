// Puts the dashboard together. Everything here comes with the events of one run.

import { ask } from "/shared/api.js";
import { drawChart, drawHistogram, short } from "/shared/chart.js";
import { recall, remember } from "/shared/kept.js";
import { Player } from "/shared/player.js";
import { smallRoll } from "/shared/roll.js";
import { html } from "/shared/svg.js";
import { Graph, inWords } from "./graph.js";
import { Roots, showDead } from "./roots.js";
import { Shots } from "./shots.js";

const find = (id) => document.getElementById(id);
const put = (id, text) => {
  if (find(id).textContent !== text) find(id).textContent = text;
};
const OVERLAY_MS = 3000;
const RUNS_MS = 5000;

let run = "";
let source = null;
let training = null;
const others = new Map(); // by run: its training, laid over this one's

const graph = new Graph(find("graph"));
const shots = new Shots(find("shots"), find("shots-words"));
const roots = new Roots(() => run);
const player = new Player({
  onMove: () => {},
  onChange: () => {
    for (const button of find("best").querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(player.isPlaying(button.dataset.melody)));
    }
  },
});

const shows = {
  server({ connected, reason }) {
    showConnection(connected ? "live" : "lost", connected ? "live" : "server away");
    find("connection").title = reason;
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
    find("training").hidden = !found.loss.length;
    const counted = [
      ["batches", short(found.finished)],
      ["steps", short(found.applied)],
      ["lost", short(found.lost)],
      ["doubled", short(found.duplicates)],
    ];
    facts("training-facts", found.sent ? counted : []);
    drawTraining();
  },
  shots(found) {
    find("shots-card").hidden = false;
    shots.show(found);
  },
  melody: showMelody,
  replicas: showReplicas,
  roots: (found) => roots.show(found),
  dead: showDead,
};

function listen() {
  source?.close();
  const from = new EventSource(`/api/events?${new URLSearchParams({ run })}`);
  source = from;
  for (const [topic, show] of Object.entries(shows)) {
    from.addEventListener(topic, (event) => show(JSON.parse(event.data)));
  }
  from.addEventListener("error", () => {
    showConnection("lost", "reconnecting");
    // The browser comes back by itself, with the last event it got, unless it was refused.
    if (from.readyState === EventSource.CLOSED && from === source) setTimeout(listen, 1000);
  });
}

function showConnection(state, words) {
  find("connection").dataset.state = state;
  find("connection").querySelector("span").textContent = words;
}

function facts(id, pairs) {
  const key = JSON.stringify(pairs);
  if (find(id).dataset.shown === key) return;
  find(id).dataset.shown = key;
  find(id).replaceChildren(
    ...pairs.map(([name, value]) =>
      html("div", {}, html("dt", {}, name), html("dd", {}, String(value))),
    ),
  );
}

// training

function drawTraining() {
  const all = [training, ...others.values()];
  const series = (what) =>
    all.map((each) => ({ name: all.length > 1 ? each.run : "", points: each[what] }));
  const misses = training.miss.length > 0;
  for (const id of ["miss", "miss-title"]) find(id).toggleAttribute("hidden", !misses);
  if (misses) {
    drawChart(find("miss"), { title: "Mean miss in m", series: series("miss"), unit: "steps", log: true });
  }
  drawChart(find("loss"), { title: "Loss", series: series("loss"), unit: "steps", log: true });
}

async function overlay() {
  for (const name of others.keys()) {
    try {
      others.set(name, await ask(`/api/training?${new URLSearchParams({ run: name })}`));
    } catch {
      // It is asked for again soon, and the badge says that the server is away.
    }
  }
  if (training && others.size) drawTraining();
  setTimeout(overlay, OVERLAY_MS);
}

async function choose(name, wanted) {
  if (wanted) others.set(name, await ask(`/api/training?${new URLSearchParams({ run: name })}`));
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

function showRooms({ nodes, edges }) {
  const waits = new Map(nodes.map((node) => [node.name, node.waiting]));
  const rows = edges
    .filter((edge) => edge.sender.startsWith("room:"))
    .map((edge) => [
      edge.sender.slice(5), edge.type, Math.round(edge.rate * 10) / 10, waits.get(edge.to) ?? 0,
    ]);
  find("rooms").tBodies[0].replaceChildren(...rows.map((row) => cells(html("tr"), row)));
}

function showReplicas(replicas) {
  const rows = replicas.map((each) => {
    const state = !each.alive
      ? "none lives"
      : each.handling_s > 3 ? `in one handler for ${each.handling_s.toFixed(0)} s` : "lives";
    const where = each.alive ? `${each.host}, ${each.pid}` : "";
    const weights = each.version || each.model;
    const step = weights ? `step ${short(Number(weights.split("-")[0]))}` : "";
    const row = html("tr", { "data-alive": String(each.alive) });
    return cells(row, [each.component, state, where, each.pending, step]);
  });
  find("replicas").tBodies[0].replaceChildren(...rows);
}

// melody

function showMelody({ learning, errors, generations, best, population, sound }) {
  find("melody-card").hidden = false;
  player.bpm = sound.bpm;
  facts("melody-facts", [
    ["labels", short(learning?.labels ?? 0)],
    ["asked", short(learning?.asked ?? 0)],
    ["generation", short(population?.generation ?? 0)],
    ["best", population?.best?.toFixed(2) ?? "–"],
  ]);
  drawChart(find("errors"), {
    title: "Held-out error", series: [{ points: errors.points }], unit: "ratings", low: 0,
  });
  drawHistogram(find("histogram"), learning?.histogram ?? [0, 0, 0, 0, 0, 0]);
  drawChart(find("generations"), {
    title: "Expected ratings",
    series: [
      { name: "best", points: generations.map(([generation, , most]) => [generation, most]) },
      { name: "mean", points: generations.map(([generation, mean]) => [generation, mean]) },
    ],
    unit: "generations",
  });
  const key = best.map(({ melody }) => melody).join();
  if (find("best").dataset.shown === key) return;
  find("best").dataset.shown = key;
  find("best").replaceChildren(...best.map((each, at) => tune(each, at + 1, sound.pitches)));
}

function tune({ melody, notes, fitness }, place, pitches) {
  const play = html("button", { type: "button", class: "thumb" }, smallRoll(notes, pitches));
  play.setAttribute("aria-label", `Play melody ${place}`);
  play.dataset.melody = melody;
  play.setAttribute("aria-pressed", "false");
  play.addEventListener("click", () => player.toggle(melody, notes));
  return html("li", {}, play, html("span", {}, fitness.toFixed(2)));
}

// the run, and the looks

async function lookForRuns() {
  try {
    const { runs, first } = await ask("/api/runs");
    const wanted = new URLSearchParams(location.hash.slice(1)).get("run");
    if (!run) choosesRun(runs.includes(wanted) ? wanted : first);
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
  setTimeout(lookForRuns, RUNS_MS);
}

function choosesRun(name) {
  if (!name || name === run) return;
  run = name;
  location.hash = new URLSearchParams({ run }).toString();
  for (const id of ["training", "shots-card", "melody-card"]) find(id).hidden = true;
  others.clear();
  training = null;
  find("run").dataset.shown = "";
  listen();
}

find("run").addEventListener("change", () => choosesRun(find("run").value));
find("shots-again").addEventListener("click", () => shots.play());

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
lookForRuns();
overlay();
