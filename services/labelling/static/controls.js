// Buttons, sliders and switches of the page. What they are set to is stored in this browser.

import { TAB, recall, remember } from "../shared/kept.js";

const find = (id) => document.getElementById(id);

// Connects the buttons of the stage. actions: as for the keys
export function connect(actions) {
  const press = (element, action) => {
    element.addEventListener("click", (event) => {
      actions.any();
      action();
      leave(element, event);
    });
  };
  for (const id of ["play", "replay", "change", "skip", "undo"]) press(find(id), actions[id]);
  for (const button of document.querySelectorAll("[data-vote]")) {
    press(button, () => actions.prefer(button.dataset.vote));
  }
  find("help-button").addEventListener("click", actions.help);
  document.addEventListener("pointerdown", actions.any, { passive: true });
  connectRatings(actions);
}

// After a click or touch a button loses the focus, so that Space plays the melody.
export function leave(element, event) {
  if (event.detail > 0) element.blur();
}

// A click or touch rates at once; arrow keys choose a rating, and Enter saves it.
function connectRatings({ any, rate }) {
  find("scale").addEventListener("click", (event) => {
    const label = event.target.closest("label");
    if (!label || event.detail === 0) return;
    event.preventDefault();
    any();
    rate(Number(label.htmlFor.slice("rate".length)));
  });
  find("scale").addEventListener("change", () => {
    find("save").hidden = false;
  });
  find("rating").addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = new FormData(find("rating")).get("rating");
    if (chosen === null) return;
    any();
    const inside = find("scale").contains(document.activeElement);
    rate(Number(chosen));
    if (!inside) find("rate0").focus();
  });
}

// Restores what was set, and stores changes.
export function restore(stage, player) {
  const setSpeed = (speed) => {
    stage.showRate(speed);
    player.setRate(speed);
  };
  const setVolume = () => player.setVolume(find("mute").checked ? 0 : Number(find("volume").value));
  stored("speed", "value", 1, () => setSpeed(Number(find("speed").value)));
  stored("volume", "value", 1, setVolume);
  stored("mute", "checked", false, setVolume);
  stored("autoplay", "checked", true);
  stored("shortcuts", "checked", true);
}

function stored(id, property, otherwise, apply = () => {}) {
  const element = find(id);
  element[property] = recall(id, otherwise);
  apply();
  element.addEventListener("input", () => {
    remember(id, property === "value" ? Number(element.value) : element.checked);
    apply();
  });
}

// Asks back, once in this tab, whether to vote without having heard all.
// missing: the letters of the melodies that were not heard. onVote(), onListen(): the choice
export function whenHeard(missing, onVote, onListen) {
  if (!missing.length || recall("asked-back", false, TAB)) {
    onVote();
    return;
  }
  remember("asked-back", true, TAB);
  const dialog = find("heard-dialog");
  find("heard-title").textContent = `You have not heard ${missing.join(" and ")} yet. Vote anyway?`;
  dialog.returnValue = ""; // Escape listens
  dialog.addEventListener(
    "close",
    () => (dialog.returnValue === "vote" ? onVote() : onListen()),
    { once: true },
  );
  dialog.showModal();
}
