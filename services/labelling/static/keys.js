// Keyboard shortcuts. They can be switched off; then digits work among the ratings alone.

const TYPING = "input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select";
const PRESSABLE = "button, a[href], select, summary, input[type=checkbox]";

// actions: rate(rating), play(), replay(), skip(), undo(), help(), any()
export function listen(actions, areOn) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (target.matches(TYPING)) return;
    const action = chosen(event, target, actions, areOn());
    if (!action) return;
    event.preventDefault();
    actions.any();
    if (!event.repeat) action();
  });
}

function chosen(event, target, actions, on) {
  const { key, ctrlKey, metaKey, altKey } = event;
  if ((ctrlKey || metaKey) && !altKey && key.toLowerCase() === "z") return actions.undo;
  if (ctrlKey || metaKey || altKey) return null;
  const rating = target.matches("#scale input");
  if (/^[0-5]$/.test(key) && (on || rating)) return () => actions.rate(Number(key));
  if (!on) return null;
  if (key === " ") return target.matches(PRESSABLE) || rating ? null : actions.play;
  const { replay, skip, undo, help } = actions;
  return { r: replay, s: skip, backspace: undo, "?": help }[key.toLowerCase()] ?? null;
}
