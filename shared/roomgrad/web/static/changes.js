// What has changed on the server. The page asks again and again: a browser has only six connections
// to a server, so that streams of six tabs would leave none for a rating, and a proxy may hold a
// stream back.

import { Problem, ask } from "./api.js";

const FIRST_MS = 100; // between two requests until the server has read the run
const SHOWN_MS = 500; // while the page is visible
const HIDDEN_MS = 2000; // browsers make it a minute
const FAILED_MS = 1000;

// Calls shows[topic](state) for each topic that has changed, after onConnection(whether the server
// responded). Returns a function that ends it.
export function follow(path, query, shows, onConnection) {
  let since = "";
  let timer = 0;
  let asking = false;
  let ended = false;

  async function look() {
    if (asking || ended) return;
    asking = true;
    clearTimeout(timer);
    const pause = await news();
    asking = false;
    timer = setTimeout(look, pause);
  }

  async function news() {
    let found;
    try {
      found = await ask(`${path}?${new URLSearchParams({ ...query, since })}`);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (!ended) onConnection(false);
      return FAILED_MS;
    }
    if (ended) return 0;
    since = found.since;
    onConnection(true);
    for (const [topic, state] of Object.entries(found.topics)) show(topic, state);
    if (!since) return FIRST_MS;
    return document.hidden ? HIDDEN_MS : SHOWN_MS;
  }

  function show(topic, state) {
    try {
      shows[topic]?.(state);
    } catch (error) {
      reportError(error); // the other topics are shown all the same
    }
  }

  const onVisible = () => document.hidden || look();
  document.addEventListener("visibilitychange", onVisible);
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onVisible);
  };
}
