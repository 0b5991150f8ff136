// Figures with their names in a <dl class="facts">.

import { html } from "./svg.js";

// pairs: [[name, text], ...]; they are drawn again only if one has changed.
export function showFacts(list, pairs) {
  const key = JSON.stringify(pairs);
  if (list.dataset.shown === key) return;
  list.dataset.shown = key;
  list.replaceChildren(
    ...pairs.map(([name, value]) =>
      html("div", {}, html("dt", {}, name), html("dd", {}, String(value))),
    ),
  );
}
