// Answers that are being sent. localStorage has them until they are on the server's disk, so a
// reload or an outage loses none; an answer that is sent again under its ID counts once. Where the
// browser stores nothing, closing the page would lose them, so it asks first.

import { Problem, ask } from "/shared/api.js";
import { isForgetful, recallItems, remember } from "/shared/kept.js";

const AT_ONCE = 4;
const PAUSES = [250, 500, 1000, 2000, 4000]; // ms until the next attempt

export class Outbox {
  // onSaved(answer, given), onRefused(answer, reason), onWaiting(reason or ""), onDamaged(place)
  constructor({ onSaved, onRefused, onWaiting, onDamaged }) {
    this.answers = recallItems("outbox", isAnswer, onDamaged);
    this.onSaved = onSaved;
    this.onRefused = onRefused;
    this.onWaiting = onWaiting;
    this.underWay = new Set();
    this.waiting = new Map(); // of those under way: what waits for its next attempt
    this.failures = 0;
    // Answers are sent one after the other, so that the last rating is stored last.
    this.inOrder = this.answers.length > 0;
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
    this.send();
  }

  // Sends waiting answers now instead of after the pause.
  hurry() {
    this.failures = 0;
    for (const [id, timer] of this.waiting) {
      clearTimeout(timer);
      this.underWay.delete(id);
    }
    this.waiting.clear();
    this.send();
  }

  send() {
    if (!this.answers.length) this.inOrder = false;
    const most = this.inOrder ? 1 : AT_ONCE;
    const melodies = new Set(); // the answers about one melody go one after the other
    for (const answer of this.answers) {
      const free = !this.underWay.has(answer.id) && !melodies.has(answer.melody);
      melodies.add(answer.melody);
      if (free && this.underWay.size < most) this.#post(answer);
    }
  }

  async #post(answer) {
    this.underWay.add(answer.id);
    const { rater, melody, root, rating, plays, id } = answer;
    try {
      const given = await ask("/api/answers", { rater, melody, root, rating, plays, id });
      this.failures = 0;
      this.#done(answer);
      this.onWaiting("");
      this.onSaved(answer, given);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.passes) this.#later(answer, problem);
      else {
        this.#done(answer);
        this.onRefused(answer, problem.message);
      }
    }
    this.send();
  }

  #done(answer) {
    this.underWay.delete(answer.id);
    this.answers = this.answers.filter((each) => each.id !== answer.id);
    remember("outbox", stored().filter((each) => each.id !== answer.id));
  }

  #later(answer, problem) {
    this.onWaiting(problem.message);
    this.inOrder = true;
    const pause = PAUSES[Math.min(this.failures, PAUSES.length - 1)];
    this.failures += 1;
    const again = () => {
      this.waiting.delete(answer.id);
      this.underWay.delete(answer.id);
      this.send();
    };
    this.waiting.set(answer.id, setTimeout(again, pause));
  }
}

function stored() {
  return recallItems("outbox", isAnswer);
}

function isAnswer(value) {
  const { id, rater, melody, root, notes, rating } = value ?? {};
  const texts = [id, rater, melody, root].every((each) => typeof each === "string");
  return texts && Array.isArray(notes) && (rating === null || Number.isInteger(rating));
}
