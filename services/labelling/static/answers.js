// The last answers of a rater, newest first. An answer is a rating of one melody, or a vote between
// two: {id, rater, melody, root, notes, sides, at, state} and {rating, plays} or {prefer, listened}.
// `melody` is that of its question; `sides` are what was shown, each {melody, notes}.

const REMEMBERED = 10;

export function isVote(answer) {
  return "prefer" in answer;
}

export function sidesOf({ sides, melody, notes }) {
  return sides ?? [{ melody, notes }];
}

// Returns what an answer is about: a later one about the same replaces it.
export function keyOf(answer) {
  if (!isVote(answer)) return answer.melody;
  return sidesOf(answer).map((each) => each.melody).sort().join("-");
}

// Returns what takes an answer back.
export function takenBack(answer) {
  return isVote(answer) ? { prefer: "retracted" } : { rating: null };
}

export function isTakenBack({ rating, prefer }) {
  return rating === null || prefer === "retracted";
}

export class Answers {
  constructor() {
    this.list = [];
  }

  get last() {
    return this.list[0];
  }

  find(key) {
    return this.list.find((each) => keyOf(each) === key);
  }

  remove(answer) {
    this.list = this.list.filter((each) => keyOf(each) !== keyOf(answer));
  }

  // Replaces all by those that the server has.
  load(found) {
    this.list = found.map((each) => ({ ...fromServer(each), state: "old" }));
  }

  // Adds an answer; a changed one keeps its position.
  note(answer, state) {
    const place = this.list.findIndex((each) => keyOf(each) === keyOf(answer));
    if (place >= 0 && answer.kind === "change") {
      this.list[place] = { ...this.list[place], ...answer, state };
      return;
    }
    if (place >= 0) this.list.splice(place, 1);
    if (isTakenBack(answer)) return;
    this.list.unshift({ ...answer, state });
    this.list.length = Math.min(this.list.length, REMEMBERED);
  }

  // Returns those that the learner rejected after the server had acknowledged them, each as
  // [answer, reason]. rejected: [{entry, root, reason}]; isMeant(answer, entry)
  among(rejected, isMeant) {
    return rejected.flatMap(({ entry, root, reason }) => {
      const answer = this.list.find((each) => each.root === root && isMeant(each, entry));
      return answer ? [[answer, reason]] : [];
    });
  }
}

function fromServer(answer) {
  const at = answer.at * 1000;
  if (!isVote(answer)) return { ...answer, at };
  const { first, second, notes } = answer;
  const sides = [{ melody: first, notes: notes[0] }, { melody: second, notes: notes[1] }];
  return { ...answer, ...sides[1], sides, at };
}
