// Answers that are being sent. localStorage has them until they are on the server's disk, so a
// reload or an outage loses none; an answer that is sent again under its ID counts once. Where the
// browser stores nothing, closing the page would lose them, so it asks first.

import { Problem, ask } from "../shared/api.js";
import { isForgetful, recallItems, remember } from "../shared/kept.js";
import { isVote } from "./answers.js";
import { afterPaint } from "./painting.js";

const PAUSES = [250, 500, 1000, 2000, 4000]; // ms until the next attempt

export class Outbox {
  // onSaved(answer, given), onRefused(answer, reason), onWaiting(reason or ""), onDamaged(place)
  constructor({ onSaved, onRefused, onWaiting, onDamaged }) {
    this.answers = recallItems("outbox", isAnswer, onDamaged);
    this.onSaved = onSaved;
    this.onRefused = onRefused;
    this.onWaiting = onWaiting;
    this.sending = false;
    this.pause = null; // the timer of the next attempt
    this.failures = 0;
    addEventListener("beforeunload", (event) => {
      if (isForgetful() && this.answers.length) event.preventDefault();
    });
  }

  get melodies() {
    return [...new Set(this.answers.map((answer) => answer.melody))];
  }

  add(answer) {
    this.answers.push(answer);
    remember("outbox", [...stored(), answer]); // another tab may have put some there
    afterPaint(() => this.send());
  }

  // Sends waiting answers now instead of after the pause.
  hurry() {
    this.failures = 0;
    clearTimeout(this.pause);
    this.pause = null;
    this.send();
  }

  // Sends one answer after the other, so that the last rating is stored last.
  send() {
    const [answer] = this.answers;
    if (answer && !this.sending && this.pause === null) this.#post(answer);
  }

  async #post(answer) {
    this.sending = true;
    const { path, body } = request(answer);
    try {
      const given = await ask(path, body);
      this.failures = 0;
      this.#done(answer);
      this.onWaiting("");
      this.onSaved(answer, given);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.passes) this.#later(problem);
      else {
        this.#done(answer);
        this.onRefused(answer, problem.message);
      }
    }
    this.sending = false;
    this.send();
  }

  #done(answer) {
    this.answers = this.answers.filter((each) => each.id !== answer.id);
    remember("outbox", stored().filter((each) => each.id !== answer.id));
  }

  #later(problem) {
    this.onWaiting(problem.message);
    const pause = PAUSES[Math.min(this.failures, PAUSES.length - 1)];
    this.failures += 1;
    this.pause = setTimeout(() => {
      this.pause = null;
      this.send();
    }, pause);
  }
}

function request(answer) {
  const { rater, root, id, melody, rating, plays, prefer, listened } = answer;
  if (!isVote(answer)) return { path: "api/answers", body: { rater, melody, root, rating, plays, id } };
  const [first, second] = answer.sides.map((side) => side.melody);
  return { path: "api/preferences", body: { rater, first, second, root, prefer, listened, id } };
}

function stored() {
  return recallItems("outbox", isAnswer);
}

function isAnswer(value) {
  const { id, rater, melody, root, notes, rating } = value ?? {};
  const texts = [id, rater, melody, root].every((each) => typeof each === "string");
  if (!texts || !Array.isArray(notes)) return false;
  return isVote(value) ? isPair(value) : rating === null || Number.isInteger(rating);
}

function isPair({ sides, prefer }) {
  const isSide = (side) => typeof side?.melody === "string" && Array.isArray(side.notes);
  return typeof prefer === "string" && Array.isArray(sides) && sides.length === 2 && sides.every(isSide);
}
