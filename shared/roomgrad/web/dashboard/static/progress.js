// How far the run is: figures that any system has.

import { short } from "../shared/chart.js";
import { showFacts } from "../shared/facts.js";

const find = (id) => document.getElementById(id);
const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
const MIB = 2 ** 20;

export function showProgress(found) {
  find("progress-details").textContent = found.details.slice(0, 6).join(", ");
  const bar = find("progress-bar");
  bar.hidden = !found.total;
  if (found.total) Object.assign(bar, { max: found.total, value: Math.min(found.done, found.total) });
  showFacts(find("progress-facts"), [...counts(found), ...server(found)]);
}

function counts({ unit, done, total, per_s: pace, left_s: left }) {
  if (!unit) return [];
  const of = total === null ? "" : ` of ${short(total)}`;
  const isDone = total !== null && done >= total;
  return [
    [unit, short(done) + of],
    [`${unit} a second`, pace === null ? "–" : short(Math.round(pace * 100) / 100)],
    ["time left", isDone ? "none" : left === null ? "–" : duration(left)],
  ];
}

function server({ restarts, memory, memory_limit: limit, slowest, slowest_ms: took }) {
  const of = limit === null ? "" : ` of ${short(Math.round(limit / MIB))}`;
  return [
    ["restarts, as seen here", short(restarts)],
    ["memory of the server", memory === null ? "–" : `${short(Math.round(memory / MIB))}${of} MiB`],
    ["slowest component", slowest ? `${slowest}, ${short(took)} ms` : "–"],
  ];
}

// Returns seconds in the largest unit that fits, and the next one.
export function duration(seconds) {
  const at = UNITS.findIndex(([size]) => seconds >= size);
  if (at < 0) return "less than 1 s";
  const [size, name] = UNITS[at];
  const [smaller, smallerName] = UNITS[at + 1] ?? [];
  const rest = smaller ? Math.floor((seconds % size) / smaller) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${smallerName}` : ""}`;
}
