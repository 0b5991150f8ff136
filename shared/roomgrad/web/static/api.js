// Requests to the server of this page. Failures are thrown as a Problem with a sentence.

const LONGEST_MS = 20_000; // the server has given up long before

export class Problem extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status; // 0: no response
  }

  // Whether the same request may succeed later: only the server of this page judges its content.
  get passes() {
    return this.status !== 413 && this.status !== 422;
  }
}

// path: relative to the page, which may be below a path of a proxy.
export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, { ...options, signal: AbortSignal.timeout?.(LONGEST_MS) });
  } catch {
    throw new Problem(0, "the page cannot reach its server");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  // A proxy answers in its own words, and with a page of its own if it asks for a password.
  const status = response.ok ? 0 : response.status;
  throw new Problem(status, answer?.reason ?? `the server answered ${response.status}`);
}

// Returns 32 hexadecimal digits; crypto.randomUUID does not exist on pages served by plain HTTP.
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
