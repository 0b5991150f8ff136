// The newest roots, the trace of one of them, and the dead letters.

import { ask } from "../shared/api.js";
import { html, svg } from "../shared/svg.js";

const find = (id) => document.getElementById(id);

export class Roots {
  constructor(run) {
    this.run = run; // () => the name of the run
    this.shown = "";
  }

  show(roots) {
    const names = roots.map(({ root }) => root).join();
    if (names === this.shown || find("roots").contains(document.activeElement)) return;
    this.shown = names;
    find("roots").replaceChildren(...roots.map((each) => this.#row(each)));
  }

  #row({ root, room, type }) {
    const button = html("button", { type: "button" }, html("code", {}, root),
      html("span", {}, `${room} ${type}`));
    button.addEventListener("click", () => this.open(root));
    return html("li", {}, button);
  }

  async open(root) {
    find("trace-title").textContent = `Root ${root}`;
    find("trace-words").textContent = "Reading its messages …";
    find("hops").replaceChildren();
    if (!find("trace").open) find("trace").showModal();
    try {
      const query = new URLSearchParams({ run: this.run() });
      draw(await ask(`api/roots/${encodeURIComponent(root)}?${query}`));
    } catch (problem) {
      find("trace-words").textContent = problem.message;
    }
  }
}

function draw(trace) {
  const whole = Math.max(1, trace.ended_us - trace.began_us);
  const took = (whole / 1000).toFixed(2);
  const state = { finished: `finished after ${took} ms`, open: "still open", dead: "dead letter" };
  find("trace-words").textContent =
    `${state[trace.state] ?? trace.state}; ${trace.hops.length} messages. Light: sent and waiting. ` +
    "Coloured: being handled.";
  find("hops").replaceChildren(...trace.hops.map((hop) => row(hop, trace.began_us, whole)));
}

function row(hop, began, whole) {
  const x = (us) => (Math.max(0, us) / whole) * 1000;
  const took = hop.took_us ?? 0;
  const waited = Math.min(hop.waited_us ?? 0, took);
  const start = hop.sent_us - began;
  const said = hop.took_us === null ? hop.state : `${(took / 1000).toFixed(2)} ms`;
  return html(
    "li",
    { class: hop.type === "DATA/GRADIENT" ? "gradient" : "" },
    html("span", {}, `${hop.from || "?"} → ${hop.to || "no component"}  (${hop.room})`),
    svg(
      "svg",
      { viewBox: "0 0 1000 18", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("rect", { class: "way", x: 0, y: 8, width: 1000, height: 2 }),
      svg("rect", { class: "waited", x: x(start), y: 4, width: Math.max(2, x(waited)), height: 10 }),
      svg("rect", {
        class: "handled", x: x(start + waited), y: 2, width: Math.max(2, x(took - waited)), height: 14,
      }),
    ),
    html("span", { class: "took" }, said),
  );
}

export function showDead({ count, letters }) {
  find("dead-none").hidden = count > 0;
  find("dead-title").textContent = count ? `Dead letters: ${count}` : "Dead letters";
  find("dead").replaceChildren(
    ...letters.map((each) =>
      html("li", {}, html("strong", {}, each.reason),
        `${each.place}, given up by ${each.component || "an unknown component"} at ${each.when}. `,
        html("code", {}, `roomgrad dead show ${each.entry}`)),
    ),
  );
}
