// Values in this browser's localStorage: choices, answers being sent. What belongs to one tab, as the
// name of its rater, is in its sessionStorage. Where these are blocked or full, values are kept in
// this page's memory, until the page is closed.

export const TAB = "sessionStorage";
const BROWSER = "localStorage";
const PREFIX = "roomgrad:";
const memory = new Map(); // by name: values that the browser did not store

// Returns whether the browser refused to store a value.
export function isForgetful() {
  return memory.size > 0;
}

// Returns the value of a name, or `otherwise` if nothing of its type is stored.
export function recall(name, otherwise, where = BROWSER) {
  if (memory.has(where + name)) return memory.get(where + name);
  const value = parsed(stored(name, where));
  return kind(value) === kind(otherwise) ? value : otherwise;
}

// Returns the valid items of a stored list. If anything else is stored, all of it is put aside
// under another name, so that nothing is lost, and onAside is called with that name.
export function recallItems(name, isValid, onAside = () => {}) {
  if (memory.has(BROWSER + name)) return memory.get(BROWSER + name);
  const text = stored(name, BROWSER);
  const value = text === null ? [] : parsed(text);
  const items = Array.isArray(value) ? value.filter(isValid) : [];
  if (items.length === value?.length) return items;
  const aside = `${PREFIX}${name}:damaged:${Date.now()}`;
  try {
    localStorage.setItem(aside, text);
    remember(name, items);
    onAside(aside);
  } catch {
    memory.set(BROWSER + name, items); // no room for a copy: what is stored stays
  }
  return items;
}

export function remember(name, value, where = BROWSER) {
  try {
    window[where].setItem(PREFIX + name, JSON.stringify(value));
    memory.delete(where + name);
  } catch {
    memory.set(where + name, value);
  }
}

// Removes a value that all tabs of this browser see.
export function forget(name) {
  memory.delete(BROWSER + name);
  try {
    localStorage.removeItem(PREFIX + name);
  } catch {
    // blocked: nothing is stored
  }
}

// Returns the names that begin so, of values that all tabs of this browser see.
export function namesOf(beginning) {
  try {
    const names = Object.keys(localStorage).filter((each) => each.startsWith(PREFIX + beginning));
    return names.map((each) => each.slice(PREFIX.length));
  } catch {
    return []; // blocked
  }
}

function stored(name, where) {
  try {
    return window[where].getItem(PREFIX + name);
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
