// Creates the parts of the page and connects them.

import { Problem, ask } from "../shared/api.js";
import { Dashboard } from "./dashboard.js";
import { follow } from "../shared/changes.js";
import { isForgetful, recall, remember } from "../shared/kept.js";
import { listen } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Player } from "../panels/melody/player.js";
import { Recent } from "./recent.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";

const find = (id) => document.getElementById(id);
const BEATS = 3; // renewals within a lease
const LOOK_MS = 1000;

// Runs work after the next melody has been painted.
function afterPaint(work) {
  requestAnimationFrame(() => setTimeout(work));
}

const stage = new Stage();
const player = new Player({
  onMove: (slot, key) => {
    if (slot === null || key === session.current?.melody) stage.move(slot);
  },
  onChange: () => {
    const key = player.playing?.key ?? null;
    stage.showPlaying(key !== null && key === session.current?.melody);
    recent.showPlaying(key);
  },
  onSilent: (reason) => {
    stage.limit("sound", reason && `No sound in this browser: ${reason}. You can rate without it.`);
  },
});
const view = {
  showMelody(question, reason) {
    player.stop();
    stage.show(question, reason);
    if (!question || !find("autoplay").checked || !player.unlocked) return;
    afterPaint(() => {
      if (session.current === question && !player.playing) playCurrent();
    });
  },
  showAnswers() {
    warnIfForgetful();
    afterPaint(() => {
      recent.show(session.answers);
      dashboard.showPace(session.times);
    });
  },
  say: (text) => stage.say(text),
  warn: (text) => stage.warn(text),
};
const outbox = new Outbox({
  onSaved: (answer, given) => session.onSaved(answer, given),
  onRefused: (answer, reason) => session.onRefused(answer, reason),
  onDamaged: (place) => {
    stage.limit("outbox", `Ratings that waited here are damaged, and put aside as ${place}.`);
  },
  onWaiting: (reason) => {
    if (reason) stage.say(`Your ratings are kept here until they can be saved: ${reason}.`);
  },
});
const session = new Session(view, outbox);
const recent = new Recent({
  onPlay: (key, notes) => player.toggle(key, notes),
  onChange: (melody, rating) => session.change(melody, rating),
  onTakeBack: (melody) => session.takeBack(melody),
});
const dashboard = new Dashboard({ onPlay: (key, notes) => player.toggle(key, notes), onBreed: breed });

function playCurrent(from = 0) {
  const question = session.current;
  if (!question) return;
  if (player.play(question.melody, question.notes, from)) question.plays += 1;
}

const actions = {
  any: () => {
    player.unlock();
    session.touch();
  },
  rate: (rating) => session.rate(rating),
  play: () => (player.isPlaying(session.current?.melody) ? player.stop() : playCurrent()),
  replay: () => playCurrent(),
  skip: () => session.skip(),
  undo: () => session.undo(),
  help: () => find("help-dialog").showModal(),
};

async function breed(command) {
  try {
    await ask("api/breeding", { command });
    stage.say(command === "START" ? "Breeding goes on." : "Breeding stops.");
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    stage.warn(`Not sent: ${problem.message}.`);
  }
}

// state from the server

let state = null;

function onState(news) {
  if (!news.server.connected) {
    dashboard.showConnection("lost", "server unavailable");
    stage.say("The Redis server is unavailable. Your ratings are kept here, and saved when it is back.");
    return;
  }
  dashboard.showConnection("live", "live");
  state = news;
  player.bpm = state.sound.bpm;
  stage.pitches = state.sound.pitches;
  recent.pitches = state.sound.pitches;
  dashboard.show(state);
  dashboard.showPace(session.times);
  stage.showIdle(state);
  begin();
  session.onState(state);
}

let connected = false;

function onConnection(now) {
  if (now && !connected) outbox.hurry();
  if (!now) dashboard.showConnection("lost", "reconnecting");
  connected = now;
}

// the rater's name

let begun = false;

// Starts as the person whose name is stored; asks for it if there is none, or the server refuses it.
async function begin() {
  if (begun || !state || find("name-dialog").open) return;
  begun = true;
  const name = recall("name", "");
  const reason = name && (await refusal(name));
  begun = Boolean(name && !reason);
  if (!begun) {
    askName(reason);
    return;
  }
  find("name-button").textContent = name;
  warnIfForgetful();
  session.begin(name);
}

async function refusal(name) {
  const refused = (problem) => (problem.status === 422 ? problem.message : "");
  return ask(`api/answers?${new URLSearchParams({ rater: name })}`).then(() => "", refused);
}

function askName(reason = "") {
  find("name-reason").textContent = reason && `${reason}.`;
  find("name").value = recall("name", "");
  find("name-dialog").showModal();
}

function warnIfForgetful() {
  if (!isForgetful()) return;
  stage.limit("storage", "This browser stores nothing for this page: it forgets your name, and "
    + "ratings that are not saved yet, when you close it.");
}

find("name-button").addEventListener("click", () => askName());
find("name-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = find("name").value.trim();
  if (!name) return;
  find("name-dialog").close();
  remember("name", name);
  player.unlock();
  begun = false;
  begin();
});
find("help-button").addEventListener("click", actions.help);

// input

function wire(id, type, action) {
  find(id).addEventListener(type, (event) => {
    actions.any();
    action(event);
    // After a click the button loses the focus, so that Space plays the melody.
    if (type === "click" && event.detail > 0) find(id).blur();
  });
}

wire("play", "click", actions.play);
wire("replay", "click", actions.replay);
wire("skip", "click", actions.skip);
wire("undo", "click", actions.undo);
wire("speed", "input", () => {
  stage.showRate(Number(find("speed").value));
  player.setRate(Number(find("speed").value));
  remember("speed", Number(find("speed").value));
});
for (const id of ["autoplay", "shortcuts"]) {
  find(id).checked = recall(id, true);
  wire(id, "change", () => remember(id, find(id).checked));
}

// A click or touch rates at once; arrow keys choose a rating, and Enter saves it.
find("scale").addEventListener("click", (event) => {
  const label = event.target.closest("label");
  if (!label || event.detail === 0) return;
  event.preventDefault();
  actions.any();
  session.rate(Number(label.htmlFor.slice("rate".length)));
});
find("scale").addEventListener("change", () => {
  find("save").hidden = false;
});
find("rating").addEventListener("submit", (event) => {
  event.preventDefault();
  const chosen = new FormData(find("rating")).get("rating");
  if (chosen === null) return;
  actions.any();
  const inside = find("scale").contains(document.activeElement);
  session.rate(Number(chosen));
  if (!inside) find("rate0").focus();
});
listen(actions, () => find("shortcuts").checked);
document.addEventListener("pointerdown", actions.any, { passive: true });

find("speed").value = recall("speed", 1);
player.rate = Number(find("speed").value);
stage.showRate(player.rate);

function beat() {
  session.renew();
  dashboard.showPace(session.times);
  setTimeout(beat, (session.leaseSeconds / BEATS) * 1000);
}
setTimeout(beat, 5000);
setInterval(() => session.look(), LOOK_MS);
outbox.send();
follow("api/changes", {}, { state: onState }, onConnection);
