// What a person rates: the current melody, the next one, and the answers given. It has no elements;
// it calls `view`.

import { Problem, ask, newId } from "../shared/api.js";

const AHEAD = 2; // questions that are held: the one that is shown, and the next
const REMEMBERED = 10; // answers
const SKIPPED = 50;
const EMPTY_PAUSE = 700; // ms between two requests for questions when there are none
const ASK_PAUSE = 10_000; // ms between two requests to the learner for more of them

export class Session {
  // view: showMelody(question or null, reason), showAnswers(answers), say(text), warn(text)
  constructor(view, outbox) {
    this.view = view;
    this.outbox = outbox;
    this.rater = "";
    this.queue = [];
    this.answers = []; // newest first: {melody, root, notes, rating, guess, at, state}
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
      this.answers = answers.map((each) => ({ ...each, at: each.at * 1000, state: "old" }));
      this.#checkLoaded();
    } catch (problem) {
      this.#failed(problem);
    }
    for (const answer of this.outbox.answers) {
      if (answer.rater === this.rater) this.#note(answer, "pending");
    }
    return this.#showAnswers();
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
    const without = this.outbox.melodies;
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
    const rated = this.answers.filter(({ at }) => at >= began).map((each) => each.melody);
    const queued = this.queue.map((each) => each.melody);
    const known = new Set([...queued, ...this.outbox.melodies, ...rated]);
    for (const question of questions) {
      if (!known.has(question.melody) && this.queue.length < AHEAD) {
        this.queue.push({ ...question, plays: 0 });
      }
    }
    if (this.current?.melody === before?.melody) return;
    if (before && plain) this.view.say("Your time for that melody was over; here is another one.");
    this.#show();
  }

  // Handles a new state of the server.
  onState(state) {
    this.leaseSeconds = state.sound.lease_s;
    this.#takeRefused(state.refused);
    this.state = state;
    this.look();
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
    for (const { root, reason } of fresh) {
      const answer = this.answers.find((each) => each.root === root && each.state !== "old");
      if (answer) this.onRefused(answer, reason);
    }
  }

  // Returns the loaded answers, of which the server knows the time.
  #checkLoaded() {
    for (const { entry, root, reason } of this.refused) {
      const at = Number(entry.split("-")[0]);
      const answer = this.answers.find((each) => each.root === root && each.at < at);
      if (answer) this.onRefused(answer, reason);
    }
    for (const answer of this.answers) if (answer.state === "old") answer.state = "saved";
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
    const question = this.queue.shift();
    if (!question) return;
    this.times.push(Date.now());
    this.#show(); // the next one first: to send may take its time
    this.#send(question, rating, "rate");
    this.fill();
  }

  change(melody, rating) {
    const answer = this.answers.find((each) => each.melody === melody);
    if (answer && answer.rating !== rating) this.#send(answer, rating, "change");
  }

  // Takes back the last rating, and shows its melody again.
  undo() {
    const last = this.answers[0];
    if (!last) return this.view.say("There is no rating to take back.");
    return this.takeBack(last.melody);
  }

  takeBack(melody) {
    const answer = this.answers.find((each) => each.melody === melody);
    if (!answer) return;
    this.#send(answer, null, "undo");
    this.times.pop();
    this.#bringBack(answer);
    this.view.say("Taken back. Rate it anew.");
  }

  skip() {
    const question = this.queue.shift();
    if (!question) return;
    this.skipped = [...this.skipped.filter((each) => each !== question.melody), question.melody];
    this.skipped = this.skipped.slice(-SKIPPED);
    this.#show();
    this.view.say("Skipped; it comes again when nothing else is left.");
    this.fill();
  }

  // Handles an answer that is on the server's disk.
  onSaved(answer, given) {
    this.saves += 1;
    const noted = this.answers.find((each) => each.id === answer.id);
    if (!noted) return;
    Object.assign(noted, { guess: given.guess, version: given.version, state: "saved" });
    this.#showAnswers();
    const guess = given.guess === null ? "" : ` The model guessed ${given.guess.toFixed(1)}.`;
    this.view.say(`Saved your ${given.rating}.${guess}`);
  }

  onRefused(answer, reason) {
    const text = `Not saved: ${reason}.`;
    this.answers = this.answers.filter((each) => each.melody !== answer.melody);
    this.#showAnswers();
    if (answer.kind === "rate" || answer.kind === undefined) this.#bringBack(answer, text);
    else {
      this.view.warn(text);
      this.loadAnswers();
    }
  }

  #bringBack(answer, reason = "") {
    const { melody, root, notes } = answer;
    this.queue = this.queue.filter((each) => each.melody !== melody);
    this.queue.unshift({ melody, root, notes, plays: answer.plays ?? 0, back: true });
    this.#show(reason);
  }

  #send(about, rating, kind) {
    const { melody, root, notes, plays } = about;
    const answer = {
      id: newId(), rater: this.rater, melody, root, notes, rating, plays, kind, at: Date.now(),
    };
    this.#note(answer, "pending");
    this.outbox.add(answer);
    this.#showAnswers();
  }

  // Adds an answer to the last ones; a changed one keeps its position.
  #note(answer, state) {
    const place = this.answers.findIndex((each) => each.melody === answer.melody);
    if (answer.rating === null) {
      if (place >= 0) this.answers.splice(place, 1);
      return;
    }
    if (place >= 0 && answer.kind === "change") {
      this.answers[place] = { ...this.answers[place], ...answer, state };
      return;
    }
    if (place >= 0) this.answers.splice(place, 1);
    this.answers.unshift({ ...answer, state });
    this.answers.length = Math.min(this.answers.length, REMEMBERED);
  }

  #show(reason = "") {
    this.view.showMelody(this.current, reason);
  }

  #showAnswers() {
    this.view.showAnswers(this.answers);
  }

  #failed(problem) {
    if (!(problem instanceof Problem)) throw problem;
    this.view.warn(`${problem.message[0].toUpperCase()}${problem.message.slice(1)}.`);
  }
}

// Returns whether a stream entry, "milliseconds-number", is newer than another one.
function isLater(entry, other) {
  const [ms, number] = entry.split("-").map(Number);
  const [otherMs, otherNumber] = other.split("-").map(Number);
  return ms > otherMs || (ms === otherMs && number > otherNumber);
}
