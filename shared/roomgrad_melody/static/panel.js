// The melody maker's card on the dashboard: what the network has learned to like.

import { drawChart, short } from "../../shared/chart.js";
import { showFacts } from "../../shared/facts.js";
import { html, svg } from "../../shared/svg.js";
import { believed, bestHeard, describe } from "./beliefs.js";
import { drawGenerations, drawHistogram } from "./charts.js";
import { Player } from "./player.js";
import { smallRoll } from "./roll.js";

const NO_RATINGS = [0, 0, 0, 0, 0, 0];

export default function panel(element) {
  const facts = html("dl", { class: "facts", id: "melody-facts" });
  const errors = picture("errors", "chart", "Held-out error");
  const histogram = picture("histogram", "histogram", "Ratings");
  const generations = picture("generations", "chart", "Expected ratings");
  const best = html("ol", { id: "best", class: "best" });
  const silence = html("p", { class: "hint", role: "status" });
  const card = html(
    "section",
    { class: "card", id: "melody-card", "aria-labelledby": "melody-title" },
    html("h2", { id: "melody-title" }, "What it has learned to like"),
    facts,
    html("h3", {}, "Held-out error over ratings"),
    errors,
    html("h3", {}, "Ratings so far"),
    histogram,
    html("h3", {}, "Expected rating over generations"),
    generations,
    html("h3", {}, "Best melodies"),
    best,
    silence,
  );
  element.append(stylesheet("melody.css"), card);
  const player = new Player({
    onMove: () => {},
    onChange: () => showPlaying(best, player),
    onSilent: (reason) => {
      silence.textContent = reason && `No sound in this browser: ${reason}.`;
    },
  });

  return {
    show(found) {
      player.bpm = found.sound.bpm;
      showLearning(facts, found);
      drawHistogram(histogram, found.learning?.histogram ?? NO_RATINGS);
      drawChart(errors, {
        title: "Held-out error", series: [{ points: found.errors.points }], unit: "ratings", low: 0,
      });
      drawGenerations(generations, found.generations);
      showBest(best, found, player);
    },
  };
}

function stylesheet(name) {
  return html("link", { rel: "stylesheet", href: new URL(name, import.meta.url).href });
}

function picture(id, kind, name) {
  return svg("svg", { id, class: kind, role: "img", "aria-label": `${name}: nothing yet` });
}

function showLearning(list, { learning, population, errors }) {
  showFacts(list, [
    ["labels", short(learning?.labels ?? 0)],
    ["asked", short(learning?.asked ?? 0)],
    ["generation", short(population?.generation ?? 0)],
    ["expected rating", believed(population?.mean, errors.range)],
    ["best heard", bestHeard(learning?.histogram ?? NO_RATINGS)],
  ]);
}

function showBest(list, { best, sound, errors }, player) {
  const texts = best.map((each) => describe(each, errors.range));
  const key = best.map(({ melody }, at) => melody + texts[at]).join();
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(...best.map((each, at) => row(each, texts[at], at + 1, sound.pitches, player)));
}

function row({ melody, notes }, text, place, pitches, player) {
  const play = html("button", { type: "button", class: "thumb" }, smallRoll(notes, pitches));
  play.setAttribute("aria-label", `Play melody ${place}`);
  play.dataset.melody = melody;
  play.setAttribute("aria-pressed", "false");
  play.addEventListener("click", () => player.toggle(melody, notes));
  return html("li", {}, play, html("span", { class: "fitness" }, text));
}

function showPlaying(list, player) {
  for (const button of list.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(player.isPlaying(button.dataset.melody)));
  }
}
