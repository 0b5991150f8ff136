// What the network believes, as text, with a range in which most of the last answers were.

const HIGHEST = 5;

// range: how far four of five of the last answers were from their guesses, at most; null: unknown
export function believed(rating, range) {
  if (rating == null) return "–";
  if (range == null) return `about ${rating.toFixed(1)}`;
  const ends = [Math.max(0, rating - range), Math.min(HIGHEST, rating + range)];
  const [low, high] = ends.map((end) => end.toFixed(1));
  return low === high ? low : `${low} to ${high}`;
}

export function bestHeard(histogram) {
  const best = histogram.findLastIndex((count) => count > 0);
  return best < 0 ? "not heard yet" : String(best);
}

export function describe({ fitness, heard }, range) {
  return heard == null ? `${believed(fitness, range)}, not heard yet` : `rated ${heard}`;
}
