// What a person answers: the current question, the next one, and the answers given. A question is
// about one melody; it is rated, or compared with another one. It has no elements; it calls `view`.

import { Problem, ask, newId } from "../shared/api.js";
import { TAB, recall, remember } from "../shared/kept.js";
import { Answers, isVote, keyOf, sidesOf, takenBack } from "./answers.js";
import { afterPaint } from "./painting.js";

const AHEAD = 2; // questions that are held: the one that is shown, and the next
const SKIPPED = 50;
const MOST_NAMED = 100; // melodies that a request may name
const EMPTY_PAUSE = 700; // ms between two requests for questions when there are none
const ASK_PAUSE = 10_000; // ms between two requests to the learner for more of them

export class Session {
  // view: showQuestion(question or null, reason), showAnswers(), say(text), warn(text)
  constructor(view, outbox, tabs) {
    this.view = view;
    this.outbox = outbox;
    this.tabs = tabs;
    this.rater = "";
    this.queue = []; // the first is shown, and has its `sides`: one melody, or two
    this.answers = new Answers();
    this.winner = null; // of the last vote, {melody, notes}: it stays as the first of the next pair
    this.saves = 0; // how many answers were saved
    this.skipped = [];
    this.times = []; // of the ratings of this visit, in ms
    this.leaseSeconds = 120;
    this.active = Date.now();
    this.state = null;
    this.refused = [];
    this.refusedUntil = "0-0";
    this.filling = null;
    this.looked = 0;
    this.begged = Date.now();
  }

  get current() {
    return this.queue[0] ?? null;
  }

  // Starts for a person, or continues under another name.
  async begin(rater) {
    const former = this.rater;
    this.rater = rater;
    const kept = recall("winner", {}, TAB);
    this.winner = kept.rater === rater ? kept.winner : null;
    if (former && former !== rater) {
      this.queue = [];
      this.times = [];
      this.#show();
      await ask("api/questions", { rater: former, count: 0 }).catch(() => {});
    }
    await Promise.all([this.loadAnswers(), this.fill()]);
  }

  // Loads the last answers from the server, and adds those that are being sent.
  async loadAnswers() {
    const { saves } = this;
    try {
      const { answers } = await ask(`api/answers?rater=${encodeURIComponent(this.rater)}`);
      // Answers that were saved in between are in neither list.
      if (saves !== this.saves) return this.loadAnswers();
      this.answers.load(answers);
      this.#checkLoaded();
    } catch (problem) {
      this.#failed(problem);
    }
    for (const answer of this.outbox.answers) {
      if (answer.rater === this.rater) this.answers.note(answer, "pending");
    }
    return this.view.showAnswers();
  }

  // Requests questions if there are too few, and renews the leases of those that are held.
  fill() {
    this.looked = Date.now();
    this.filling = (this.filling ?? Promise.resolve()).then(() => this.#fill());
    return this.filling;
  }

  async #fill() {
    if (!this.rater) return;
    const rater = this.rater;
    const without = [...this.outbox.melodies, ...this.tabs.others].slice(-MOST_NAMED);
    const { skipped } = this;
    const began = Date.now();
    try {
      const { questions } = await ask("api/questions", { rater, count: AHEAD, skipped, without });
      if (rater === this.rater) this.#take(questions, began);
    } catch (problem) {
      this.#failed(problem);
    }
  }

  // began: when they were requested; what was rated since may still be among them.
  #take(questions, began) {
    const before = this.current;
    const found = new Set(questions.map((each) => each.melody));
    // The server returns held questions first, so a missing one now belongs to another rater.
    const plain = this.queue.length <= AHEAD && !this.queue.some((each) => each.back);
    if (plain) this.queue = this.queue.filter((each) => found.has(each.melody));
    const late = this.answers.list.filter(({ at }) => at >= began).map((each) => each.melody);
    const queued = this.queue.map((each) => each.melody);
    const known = new Set([...queued, ...this.outbox.melodies, ...late, ...this.tabs.others]);
    for (const question of questions) {
      if (!known.has(question.melody) && this.queue.length < AHEAD) {
        this.queue.push({ ...question, plays: 0 });
      }
    }
    this.tabs.hold(this.queue.map((each) => each.melody), this.leaseSeconds);
    if (this.current?.melody === before?.melody) return;
    if (before && plain) this.view.say("Your time for that melody was over; here is another one.");
    this.#show();
  }

  // Handles a new state of the server.
  onState(state) {
    this.leaseSeconds = state.sound.lease_s;
    this.#takeRefused(state.refused);
    const hasStored = state.learning?.pairs !== this.state?.learning?.pairs;
    this.state = state;
    this.look();
    // The model's guess of a vote is known once the learner has stored it.
    if (hasStored && this.answers.list.some(lacksGuess)) this.loadAnswers();
  }

  // Requests questions if there are none: a lease may end without an event.
  look() {
    const now = Date.now();
    if (this.current || !this.rater || !this.state || now - this.looked < EMPTY_PAUSE) return;
    if (this.state.questions.open) this.fill();
    else if (this.state.learning?.asked && now - this.begged > ASK_PAUSE) {
      this.begged = now;
      ask("api/breeding", { command: "ASK" }).catch(() => {});
    }
  }

  // Handles answers that the learner rejected after they were acknowledged.
  #takeRefused(refused) {
    const fresh = refused.filter(({ entry }) => isLater(entry, this.refusedUntil));
    this.refused = refused;
    this.refusedUntil = refused.at(-1)?.entry ?? this.refusedUntil;
    const sent = this.answers.among(fresh, ({ state }) => state !== "old");
    for (const [answer, reason] of sent) this.onRefused(answer, reason);
  }

  // Checks the loaded answers, of which the server knows the time.
  #checkLoaded() {
    const isOlder = ({ at }, entry) => at < Number(entry.split("-")[0]);
    for (const [answer, reason] of this.answers.among(this.refused, isOlder)) {
      this.onRefused(answer, reason);
    }
    for (const answer of this.answers.list) if (answer.state === "old") answer.state = "saved";
  }

  // Renews the leases while the person is active, and at once when they come back: another rater
  // may hold what is shown.
  touch() {
    const { idle } = this;
    this.active = Date.now();
    if (idle >= this.leaseSeconds * 1000) this.renew();
  }

  renew() {
    if (this.current && this.idle < this.leaseSeconds * 1000) this.fill();
  }

  get idle() {
    return Date.now() - this.active;
  }

  rate(rating) {
    this.#answer({ rating });
  }

  // preference: first, second, equal or neither; listened: ms of each.
  prefer(preference, listened) {
    if (this.current?.sides.length !== 2) return;
    this.#keep(staying(this.current.sides, preference));
    this.#answer({ prefer: preference, listened });
  }

  #answer(said) {
    const question = this.queue.shift();
    if (!question) return;
    this.times.push(Date.now());
    this.#show(); // the next one, which is here already
    this.#send(question, said, "rate");
    afterPaint(() => this.fill());
  }

  // said: {rating} or {prefer}
  change(key, said) {
    const answer = this.answers.find(key);
    const [name, value] = Object.entries(said)[0];
    if (answer && answer[name] !== value) this.#send(answer, said, "change");
  }

  // Takes back the last answer, and shows its question again.
  undo() {
    const { last } = this.answers;
    if (!last) return this.view.say("There is no answer to take back.");
    return this.takeBack(keyOf(last));
  }

  takeBack(key) {
    const answer = this.answers.find(key);
    if (!answer) return;
    this.#send(answer, takenBack(answer), "undo");
    this.times.pop();
    this.#bringBack(answer);
    this.view.say("Taken back. Answer anew.");
  }

  skip() {
    const question = this.queue.shift();
    if (!question) return;
    this.skipped = [...this.skipped.filter((each) => each !== question.melody), question.melody];
    this.skipped = this.skipped.slice(-SKIPPED);
    this.#show();
    this.view.say("Skipped; it comes again when nothing else is left.");
    afterPaint(() => this.fill());
  }

  // Handles an answer that is on the server's disk.
  onSaved(answer, given) {
    this.saves += 1;
    const noted = this.answers.list.find((each) => each.id === answer.id);
    if (!noted) return;
    Object.assign(noted, { guess: given.guess, version: given.version, state: "saved" });
    this.view.showAnswers();
    this.view.say(savedText(noted));
  }

  onRefused(answer, reason) {
    const text = `Not saved: ${reason}.`;
    this.answers.remove(answer);
    this.view.showAnswers();
    if (answer.kind === "rate" || answer.kind === undefined) this.#bringBack(answer, text);
    else {
      this.view.warn(text);
      this.loadAnswers();
    }
  }

  #bringBack(answer, reason = "") {
    const { melody, root, notes, plays = 0 } = answer;
    const sides = sidesOf(answer);
    if (isVote(answer)) this.#keep(sides[0]);
    this.queue = this.queue.filter((each) => each.melody !== melody);
    for (const each of this.queue) if (!each.back) each.sides = null; // another one stays
    this.queue.unshift({ melody, root, notes, sides, plays, back: true });
    this.#show(reason);
  }

  #send(about, said, kind) {
    const { melody, root, notes, sides, plays, listened } = about;
    const shown = { melody, root, notes, sides, plays, listened };
    const sent = { id: newId(), rater: this.rater, kind, at: Date.now() };
    const answer = { ...shown, ...sent, ...said };
    this.answers.note(answer, "pending");
    this.outbox.add(answer);
    this.view.showAnswers();
  }

  #keep(winner) {
    this.winner = winner;
    remember("winner", { rater: this.rater, winner }, TAB);
  }

  #show(reason = "") {
    const { current } = this;
    if (current) current.sides ??= this.#sides(current);
    this.view.showQuestion(current, reason);
  }

  // Returns what is shown of a question: its melody alone, or after the one that stays.
  #sides({ melody, shown, pair }) {
    const stays = shown.length === 2 && !pair && this.winner && this.winner.melody !== melody;
    return stays ? [this.winner, shown[1]] : shown;
  }

  #failed(problem) {
    if (!(problem instanceof Problem)) throw problem;
    this.view.warn(`${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`);
  }
}

// Returns which melody stays for the next pair: one new melody is then to be heard. After "neither"
// none stays.
function staying([first, second], preference) {
  return { first, equal: first, second, neither: null }[preference];
}

function lacksGuess(answer) {
  return isVote(answer) && answer.state === "saved" && answer.guess == null;
}

function savedText({ rating, prefer, guess }) {
  if (prefer === undefined) {
    return `Saved your ${rating}.${guess === null ? "" : ` The model guessed ${guess.toFixed(1)}.`}`;
  }
  const words = { first: "A is better", second: "B is better", equal: "equal", neither: "both bad" };
  const share = guess == null ? "" : ` The model gave B ${Math.round((1 - guess) * 100)} %.`;
  return `Saved: ${words[prefer]}.${share}`;
}

// Returns whether a stream entry, "milliseconds-number", is newer than another one.
function isLater(entry, other) {
  const [ms, number] = entry.split("-").map(Number);
  const [otherMs, otherNumber] = other.split("-").map(Number);
  return ms > otherMs || (ms === otherMs && number > otherNumber);
}
