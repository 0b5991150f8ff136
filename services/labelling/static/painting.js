// Work that is put off until what a key has changed is painted.

const FRAMELESS_MS = 100; // a page that is hidden paints nothing

// Runs work after the next frame, in a task of its own.
export function afterPaint(work) {
  const frame = requestAnimationFrame(() => {
    clearTimeout(timer);
    setTimeout(work);
  });
  const timer = setTimeout(() => {
    cancelAnimationFrame(frame);
    work();
  }, FRAMELESS_MS);
}
