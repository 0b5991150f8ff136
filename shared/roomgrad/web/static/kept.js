// Values in this browser's localStorage: the rater's name, choices, answers being sent. Where it is
// blocked or full, values are kept in this page's memory, until the page is closed.

const PREFIX = "roomgrad:";
const memory = new Map(); // by name: values that the browser did not store

// Returns whether the browser refused to store a value.
export function isForgetful() {
  return memory.size > 0;
}

// Returns the value of a name, or `otherwise` if nothing of its type is stored.
export function recall(name, otherwise) {
  if (memory.has(name)) return memory.get(name);
  const value = parsed(stored(name));
  return kind(value) === kind(otherwise) ? value : otherwise;
}

// Returns the valid items of a stored list. If anything else is stored, all of it is put aside
// under another name, so that nothing is lost, and onAside is called with that name.
export function recallItems(name, isValid, onAside = () => {}) {
  if (memory.has(name)) return memory.get(name);
  const text = stored(name);
  const value = text === null ? [] : parsed(text);
  const items = Array.isArray(value) ? value.filter(isValid) : [];
  if (items.length === value?.length) return items;
  const aside = `${PREFIX}${name}:damaged:${Date.now()}`;
  try {
    localStorage.setItem(aside, text);
    remember(name, items);
    onAside(aside);
  } catch {
    memory.set(name, items); // no room for a copy: what is stored stays
  }
  return items;
}

export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
    memory.delete(name);
  } catch {
    memory.set(name, value);
  }
}

function stored(name) {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null; // blocked
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function kind(value) {
  return Array.isArray(value) ? "list" : value === null ? "null" : typeof value;
}
