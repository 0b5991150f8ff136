// What this browser remembers of a person: their name, their choices, answers on their way.

const PREFIX = "roomgrad:";

export function recall(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // switched off, or written by something else
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // switched off or full: the page works, and forgets when it is closed
  }
}
