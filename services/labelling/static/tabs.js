// Which questions the other tabs of this browser hold. Tabs with one name would else show the same
// melodies: the server knows a rater by the name alone.

import { newId } from "../shared/api.js";
import { TAB, forget, namesOf, recall, remember } from "../shared/kept.js";

const PREFIX = "held:";
const MOST = 40; // melodies

export class Tabs {
  constructor() {
    this.name = PREFIX + newId();
    this.held = { melodies: [], until: 0 };
    // What this tab held before it was loaded again. If it is a copy of another tab, that one writes
    // its own anew.
    forget(recall("tab", "", TAB));
    remember("tab", this.name, TAB);
    addEventListener("pagehide", () => forget(this.name));
    addEventListener("storage", ({ key, newValue }) => {
      if (key?.endsWith(this.name) && newValue === null) remember(this.name, this.held);
    });
  }

  // Tells the other tabs what this one holds, for so many seconds.
  hold(melodies, seconds) {
    this.held = { melodies, until: Date.now() + seconds * 1000 };
    remember(this.name, this.held);
  }

  // Returns the melodies that the other tabs hold. A tab that crashed has left its own behind.
  get others() {
    const found = [];
    for (const name of namesOf(PREFIX)) {
      const { melodies, until } = recall(name, {});
      if (!Array.isArray(melodies) || until < Date.now()) forget(name);
      else if (name !== this.name) found.push(...melodies);
    }
    return found.slice(-MOST);
  }
}
