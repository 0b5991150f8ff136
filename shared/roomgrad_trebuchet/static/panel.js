// The trebuchet's card on the dashboard: its ledger, and the last batch as it was shot.

import { short } from "../../shared/chart.js";
import { showFacts } from "../../shared/facts.js";
import { html, svg } from "../../shared/svg.js";
import { Shots } from "./shots.js";

export default function panel(element) {
  const style = new URL("panel.css", import.meta.url).href;
  const facts = html("dl", { class: "facts", id: "ledger" });
  const again = html("button", { type: "button", id: "shots-again" }, "Again");
  const words = html("p", { class: "hint", id: "shots-words" });
  const picture = svg("svg", {
    id: "shots", role: "img", "aria-labelledby": "shots-title", "aria-describedby": "shots-words",
  });
  const card = html(
    "section",
    { class: "card", id: "shots-card", "aria-labelledby": "shots-title", hidden: true },
    html("div", { class: "row" }, html("h2", { id: "shots-title" }, "The last batch, shot"), again),
    words,
    picture,
    facts,
  );
  element.append(html("link", { rel: "stylesheet", href: style }), card);
  const shots = new Shots(picture, words);
  again.addEventListener("click", () => shots.play());

  return {
    show({ ledger, shots: last }) {
      card.hidden = !ledger && !last;
      if (last) shots.show(last);
      if (!ledger) return;
      showFacts(facts, [
        ["batches", short(ledger.finished)],
        ["steps", short(ledger.applied)],
        ["lost", short(ledger.lost)],
        ["doubled", short(ledger.duplicates)],
      ]);
    },
  };
}
