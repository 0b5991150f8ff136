// The card with the question: its melodies, its buttons, its messages.

import { html, svg } from "../shared/svg.js";
import { Sides } from "./sides.js";

const WORDS = ["noise", "poor", "so-so", "fine", "good", "lovely"];

const RATE = "How do you like this melody?";
const COMPARE = "Which do you like better?";
const WAIT = "Nothing to rate right now";

const find = (id) => document.getElementById(id);

export class Stage {
  // onPlay(index): the button of a melody was pressed
  constructor(onPlay) {
    this.sides = new Sides(onPlay);
    this.idle = "";
    this.limits = new Map();
    find("scale").append(...WORDS.map((word, rating) => choice(word, rating)));
    find("idle-bars").append(...Array.from({ length: 12 }, (_, index) => bar(index)));
  }

  show(question, reason) {
    const isPair = question?.sides.length === 2;
    find("melody").hidden = question === null;
    find("idle").hidden = question !== null;
    find("stage-title").textContent = !question ? WAIT : isPair ? COMPARE : RATE;
    this.warn(reason);
    if (!question) return;
    find("stage").classList.toggle("pair", isPair);
    for (const id of ["votes", "change"]) find(id).hidden = !isPair;
    find("rating-legend").textContent = isPair ? "Or rate B alone" : "Your rating";
    this.sides.show(question.sides);
    find("stage-hint").textContent = hint(question);
    find("rating").reset();
    find("save").hidden = true;
  }

  warn(text) {
    find("notice").hidden = !text;
    find("notice").textContent = text;
  }

  // Shows what this browser cannot do, for as long as that lasts. kind: of limit; text: "" if none.
  limit(kind, text) {
    if (this.limits.get(kind) === text) return;
    this.limits.set(kind, text);
    find("limits").textContent = [...this.limits.values()].filter(Boolean).join(" ");
    find("limits").hidden = !find("limits").textContent;
  }

  say(text) {
    find("status").textContent = text;
  }

  // Shows which melody is listened to, and whether it plays.
  showListening(index, plays) {
    this.sides.showListening(index, plays);
    find("play").classList.toggle("playing", plays);
    find("play").querySelector(".word").textContent = plays ? "Stop" : "Play";
  }

  showRate(rate) {
    find("speed-value").textContent = `${rate}×`;
    find("speed").setAttribute("aria-valuetext", `${rate} times`);
  }

  // Shows what the system does while there is nothing to rate.
  showIdle(state) {
    const { text, value, max } = doing(state);
    if (text !== this.idle) find("idle-text").textContent = text;
    this.idle = text;
    const progress = find("idle-progress");
    progress.hidden = !max;
    if (max) Object.assign(progress, { value, max });
  }
}

function hint(question) {
  if (question.again) return "Asked again, to see how steady your taste is.";
  return question.back ? "Here it is again." : "";
}

function choice(word, rating) {
  const input = html("input", { type: "radio", name: "rating", value: rating, id: `rate${rating}` });
  const label = html("label", { for: `rate${rating}` }, html("b", {}, String(rating)), word);
  return html("span", { class: `choice choice${rating}` }, input, label);
}

function bar(index) {
  const place = { x: index * 10 + 2, y: 4, width: 6, height: 32, rx: 3 };
  return svg("rect", { class: `idle-bar tone${index % 8}`, ...place });
}

function doing(state) {
  const { learning, gathering, population } = state;
  const training = learning?.chain; // the open training run
  if (!learning && !population) return { text: "Waiting for the system to begin." };
  if (gathering?.wanted && gathering.have < gathering.wanted) {
    const { have, wanted } = gathering;
    return { text: `Gathering melodies: ${have} of ${wanted}.`, value: have, max: wanted };
  }
  if (training) {
    const { batch, batches, labels } = training;
    const text = `The network learns: batch ${batch} of ${batches}, from ${labels} ratings.`;
    return { text, value: batch, max: batches };
  }
  const others = state.questions.raters.length;
  if (others) return { text: `All questions are taken; others listen to them: ${others}.` };
  return { text: "Nothing to rate at the moment; the next melodies are being chosen." };
}
