// Charts of ratings in SVG, each with a text for screen readers.

import { drawChart } from "../../shared/chart.js";
import { svg } from "../../shared/svg.js";

// Draws bars for the ratings 0 to 5. counts: how often each was given.
export function drawHistogram(picture, counts) {
  const most = Math.max(1, ...counts);
  picture.setAttribute("viewBox", "0 0 240 84");
  const parts = counts.flatMap((count, rating) => {
    const height = (count / most) * 48;
    const x = rating * 40 + 6;
    return [
      svg("rect", { class: "bar-back", x, y: 14, width: 28, height: 48, rx: 4 }),
      svg("rect", { class: `rated${rating}`, x, y: 62 - height, width: 28, height, rx: 4 }),
      svg("text", { class: "count", x: x + 14, y: 10 }, String(count)),
      svg("text", { class: "class", x: x + 14, y: 77 }, String(rating)),
    ];
  });
  const said = counts.map((count, rating) => `${count} times ${rating}`).join(", ");
  picture.setAttribute("aria-label", `Ratings so far: ${said}`);
  picture.replaceChildren(...parts);
}

// generations: [[generation, mean, best], ...], expected ratings.
export function drawGenerations(picture, generations) {
  drawChart(picture, {
    title: "Expected ratings",
    series: [
      { name: "best", points: generations.map(([generation, , best]) => [generation, best]) },
      { name: "mean", points: generations.map(([generation, mean]) => [generation, mean]) },
    ],
    unit: "generations",
  });
}
