// The cards on progress, learning and breeding. All data comes with the state of the run.

import { believed, bestHeard, describe } from "../panels/melody/beliefs.js";
import { drawGenerations, drawHistogram } from "../panels/melody/charts.js";
import { drawChart, short } from "../shared/chart.js";
import { smallRoll } from "../panels/melody/roll.js";
import { html } from "../shared/svg.js";

const find = (id) => document.getElementById(id);
const put = (id, text) => {
  if (find(id).textContent !== String(text)) find(id).textContent = text;
};
const PACE_MINUTES = 5;

function openRun({ batch, batches }, runs) {
  return `Training run ${short(runs)}: batch ${short(batch)} of ${short(batches)}`;
}

// Returns how often a rating or vote was the same when it was asked for again.
function agreement(learning) {
  const { n: rated = 0, exact = 0 } = learning?.agreement ?? {};
  const { n: compared = 0, same = 0 } = learning?.pair_agreement ?? {};
  const all = rated + compared;
  return all ? `${short(exact + same)} of ${short(all)}` : "–";
}

export class Dashboard {
  // onPlay(key, notes), onBreed(command)
  constructor(actions) {
    this.actions = actions;
    this.shown = "";
    find("breed").addEventListener("click", () => {
      actions.onBreed(find("breed").dataset.running === "true" ? "STOP" : "START");
    });
  }

  show(state) {
    this.#showProgress(state.learning);
    this.#showLearning(state);
    this.#showBreeding(state);
  }

  showConnection(kind, text) {
    find("connection").dataset.state = kind;
    const words = find("connection").querySelector("span");
    if (words.textContent !== text) words.textContent = text;
  }

  // times: of this visit's ratings, ms
  showPace(times) {
    const since = Date.now() - PACE_MINUTES * 60_000;
    const late = times.filter((each) => each >= since);
    if (late.length < 2) return put("pace", "–");
    const minutes = Math.max((Date.now() - late[0]) / 60_000, 1 / 6);
    return put("pace", short(Math.round((late.length / minutes) * 10) / 10));
  }

  #showProgress(learning) {
    const { asked = 0, answered = 0, labels = 0, histogram = [0, 0, 0, 0, 0, 0] } = learning ?? {};
    put("asked", short(asked));
    put("answered", short(answered));
    put("labels", short(labels));
    put("pairs", short(learning?.pairs ?? 0));
    put("agreement", agreement(learning));
    drawHistogram(find("histogram"), histogram);
  }

  #showLearning({ learning, errors, losses }) {
    const version = learning?.version ?? "";
    put("version", version ? `model ${version.split("-")[0]}` : "no model yet");
    find("version").title = version;
    const training = learning?.chain; // the open training run
    const runs = learning?.runs ?? 0;
    const over = runs ? `Training runs so far: ${short(runs)}` : "No training run yet";
    put("training-run", training ? openRun(training, runs) : over);
    find("training-run-progress").hidden = !training;
    if (training) {
      Object.assign(find("training-run-progress"), { value: training.batch, max: training.batches });
    }
    put("errors-note", errors.n ? `mean of ${Math.min(errors.width, errors.n)} ratings` : "");
    drawChart(find("errors"), {
      title: "Held-out error", series: [{ points: errors.points }], unit: "ratings", low: 0,
    });
    put("losses-note", `mean of ${losses.width} batches`);
    drawChart(find("losses"), {
      title: "Loss", series: [losses], marks: losses.runs, unit: "batches", low: 0,
    });
  }

  #showBreeding({ population, generations, best, sound, errors, learning }) {
    const running = Boolean(population?.running);
    find("breed").dataset.running = running;
    put("breed", running ? "Stop breeding" : "Start breeding");
    find("breed").disabled = !population;
    find("breeding-waits").hidden = !(running && population.waiting);
    put("generation", population ? short(population.generation) : "–");
    put("mean", believed(population?.mean, errors.range));
    put("best-heard", bestHeard(learning?.histogram ?? []));
    put("distinct", short(population?.distinct ?? "–"));
    drawGenerations(find("generations"), generations);
    this.#showBest(best, errors.range, sound.pitches);
  }

  #showBest(best, range, pitches) {
    const texts = best.map((each) => describe(each, range));
    const key = best.map(({ melody }, at) => melody + texts[at]).join();
    if (key === this.shown || find("best").contains(document.activeElement)) return;
    this.shown = key;
    find("best-none").hidden = best.length > 0;
    find("best").replaceChildren(...best.map((each, at) => this.#row(each, texts[at], at + 1, pitches)));
  }

  #row({ melody, notes }, text, place, pitches) {
    const play = html("button", { type: "button", class: "thumb" }, smallRoll(notes, pitches));
    play.setAttribute("aria-label", `Play melody ${place}`);
    play.addEventListener("click", () => this.actions.onPlay(`best:${melody}`, notes));
    const link = (kind) => {
      const href = `api/melodies/${melody}.${kind}`;
      const name = kind === "mid" ? "MIDI" : "WAV";
      return html("a", { href, download: "", "aria-label": `Melody ${place} as ${name}` }, name);
    };
    const mark = html("span", { class: "fitness" }, text);
    return html("li", {}, play, mark, link("mid"), link("wav"));
  }
}
