// The piano rolls of a question: one melody, or A and B beside each other.

import { Roll, inWords } from "../panels/melody/roll.js";

export const LETTERS = ["A", "B"];

export class Sides {
  // onPlay(index): the button of a melody was pressed
  constructor(onPlay) {
    this.pitches = [];
    this.shown = [];
    this.parts = [...document.querySelectorAll(".side")].map((element) => ({
      element,
      roll: new Roll(element.querySelector(".roll")),
      words: element.querySelector(".unseen"),
      button: element.querySelector(".hear"),
    }));
    this.parts.forEach(({ button }, index) => {
      button.addEventListener("click", (event) => onPlay(index, event));
    });
  }

  // sides: one or two, each {melody, notes}. One alone has the place of B, without a letter.
  show(sides) {
    const former = this.shown;
    this.shown = sides.length === 2 ? sides : [null, sides[0]];
    this.parts.forEach(({ element, roll, words, button }, index) => {
      const side = this.shown[index];
      element.hidden = !side;
      button.hidden = sides.length < 2;
      if (!side || side === former[index]) return;
      roll.draw(side.notes, this.pitches);
      words.textContent = inWords(side.notes);
      const label = sides.length < 2 ? "Piano roll" : `Piano roll of ${LETTERS[index]}`;
      roll.picture.setAttribute("aria-label", label);
    });
  }

  // Shows the position in a melody; null: nothing plays.
  move(slot, melody) {
    this.parts.forEach(({ roll }, index) => {
      roll.move(this.shown[index]?.melody === melody ? slot : null);
    });
  }

  // Shows which of two melodies is listened to, and whether it plays.
  showListening(index, plays) {
    const isPair = this.shown[0] !== null;
    this.parts.forEach(({ element, button }, each) => {
      const sounds = plays && each === index;
      element.classList.toggle("chosen", isPair && each === index);
      button.classList.toggle("playing", sounds);
      button.setAttribute("aria-pressed", String(sounds));
    });
  }
}
