// The name of the person. It belongs to the tab, so that several people can rate in one browser; a
// new tab begins with the name that was given last.

import { ask } from "../shared/api.js";
import { TAB, recall, remember } from "../shared/kept.js";

const find = (id) => document.getElementById(id);

export class Rater {
  // onName(name): the server accepts it. onGiven(): a person has given one.
  constructor(onName, onGiven) {
    this.onName = onName;
    this.isReady = false; // whether there is anything to answer
    this.begun = false;
    find("name-button").addEventListener("click", () => this.#askName());
    find("name-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const name = find("name").value.trim();
      if (!name) return;
      find("name-dialog").close();
      remember("name", name, TAB);
      remember("name", name);
      onGiven();
      this.begun = false;
      this.#begin();
    });
  }

  // Called when the state of the server is known.
  start() {
    this.isReady = true;
    this.#begin();
  }

  // Begins with the stored name; asks for one if there is none, or the server refuses it.
  async #begin() {
    if (!this.isReady || this.begun || find("name-dialog").open) return;
    this.begun = true;
    const name = stored();
    const reason = name && (await refusal(name));
    this.begun = Boolean(name && !reason);
    if (!this.begun) {
      this.#askName(reason);
      return;
    }
    remember("name", name, TAB);
    find("name-button").textContent = name;
    this.onName(name);
  }

  #askName(reason = "") {
    find("name-reason").textContent = reason && `${reason}.`;
    find("name").value = stored();
    find("name-dialog").showModal();
  }
}

function stored() {
  return recall("name", "", TAB) || recall("name", "");
}

async function refusal(name) {
  const refused = (problem) => (problem.status === 422 ? problem.message : "");
  return ask(`api/answers?${new URLSearchParams({ rater: name })}`).then(() => "", refused);
}
