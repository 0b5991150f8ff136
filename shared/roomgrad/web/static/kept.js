// Values in this browser's localStorage: the rater's name, choices, answers being sent.

const PREFIX = "roomgrad:";

export function recall(name, otherwise) {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise; // switched off, or not valid JSON
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // switched off or full: the page works, and forgets the value when it is closed
  }
}
