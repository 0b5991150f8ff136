// Creates the parts of the page and connects them.

import { Problem, ask } from "../shared/api.js";
import { follow } from "../shared/changes.js";
import { isForgetful } from "../shared/kept.js";
import { Player } from "../panels/melody/player.js";
import { connect, leave, restore, whenHeard } from "./controls.js";
import { Dashboard } from "./dashboard.js";
import { listen } from "./keys.js";
import { Goal, Ladder } from "./ladder.js";
import { Listening } from "./listening.js";
import { Outbox } from "./outbox.js";
import { afterPaint } from "./painting.js";
import { Rater } from "./rater.js";
import { Recent } from "./recent.js";
import { Session } from "./session.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";

const find = (id) => document.getElementById(id);
const BEATS = 3; // renewals within a lease
const LOOK_MS = 1000;

const stage = new Stage((index, event) => {
  actions.any();
  listening.press(index);
  leave(event.currentTarget, event);
});
const player = new Player({
  onMove: (slot, key) => stage.sides.move(slot, key),
  onChange: showPlaying,
  onHeard: (key, ms) => listening.onHeard(key, ms),
  onEnd: (key) => find("autoplay").checked && listening.onEnd(key),
  onSilent: (reason) => {
    stage.limit("sound", reason && `No sound in this browser: ${reason}. You can rate without it.`);
  },
});
const listening = new Listening(player, showPlaying);

function showPlaying() {
  const key = player.playing?.key ?? null;
  stage.showListening(listening.index, listening.isPlaying);
  recent.showPlaying(key);
  ladder.showPlaying(key);
}

const view = {
  showQuestion(question, reason) {
    stage.show(question, reason);
    listening.begin(question, session.winner?.melody);
    if (!question || !find("autoplay").checked || !player.unlocked) return;
    afterPaint(() => {
      if (session.current === question && !player.playing) listening.play();
    });
  },
  showAnswers() {
    warnIfForgetful();
    afterPaint(() => {
      recent.show(session.answers.list);
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
    if (reason) stage.say(`Your answers are kept here until they can be saved: ${reason}.`);
  },
});
const session = new Session(view, outbox, new Tabs());
const recent = new Recent({
  onPlay: (key, notes) => player.toggle(key, notes),
  onChange: (key, said) => session.change(key, said),
  onTakeBack: (key) => session.takeBack(key),
});
const ladder = new Ladder((key, notes) => player.toggle(key, notes));
const goal = new Goal(location.search);
const dashboard = new Dashboard({ onPlay: (key, notes) => player.toggle(key, notes), onBreed: breed });

const actions = {
  any: () => {
    player.unlock();
    session.touch();
  },
  isPair: () => listening.sides.length === 2,
  isPlaying: () => listening.isPlaying,
  rate: (rating) => {
    const missing = listening.missing().filter((letter) => letter === "B");
    answerWhenHeard(missing, () => session.rate(rating));
  },
  prefer: (preference) => {
    const vote = () => session.prefer(preference, listening.listened());
    answerWhenHeard(listening.missing(), vote);
  },
  play: () => listening.toggle(),
  replay: () => listening.play(),
  change: () => listening.change(),
  mute: () => find("mute").click(),
  skip: () => session.skip(),
  undo: () => session.undo(),
  help: () => find("help-dialog").showModal(),
};

function answerWhenHeard(missing, answer) {
  const question = session.current;
  const isShown = () => session.current === question; // another one may have taken its place
  whenHeard(missing, () => isShown() && answer(), () => isShown() && listening.listen(missing));
}

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

function onState(state) {
  if (!state.server.connected) {
    dashboard.showConnection("lost", "server unavailable");
    stage.say("The Redis server is unavailable. Your answers are kept here, and saved when it is back.");
    return;
  }
  dashboard.showConnection("live", "live");
  player.bpm = state.sound.bpm;
  stage.sides.pitches = state.sound.pitches;
  recent.pitches = state.sound.pitches;
  dashboard.show(state);
  goal.show(state);
  ladder.show(state.ladder, state.sound.pitches);
  dashboard.showPace(session.times);
  stage.showIdle(state);
  rater.start();
  session.onState(state);
}

let connected = false;

function onConnection(now) {
  if (now && !connected) outbox.hurry();
  if (!now) dashboard.showConnection("lost", "reconnecting");
  connected = now;
}

const rater = new Rater(
  (name) => {
    warnIfForgetful();
    session.begin(name);
  },
  () => player.unlock(),
);

function warnIfForgetful() {
  if (!isForgetful()) return;
  stage.limit("storage", "This browser stores nothing for this page: it forgets your name, and "
    + "answers that are not saved yet, when you close it.");
}

connect(actions);
restore(stage, player);
listen(actions, () => find("shortcuts").checked);

function beat() {
  session.renew();
  dashboard.showPace(session.times);
  setTimeout(beat, (session.leaseSeconds / BEATS) * 1000);
}
setTimeout(beat, 5000);
setInterval(() => session.look(), LOOK_MS);
outbox.send();
follow("api/changes", {}, { state: onState }, onConnection);
