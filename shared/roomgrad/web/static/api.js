// Requests to the server of this page. Failures are thrown as a Problem with a sentence.

export class Problem extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status; // 0: no response
  }

  // Whether the same request may succeed later.
  get passes() {
    return this.status === 0 || this.status >= 500 || this.status === 401;
  }
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem(0, "the page cannot reach its server");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Problem(response.status, answer.reason ?? `the server answered ${response.status}`);
  }
  return answer;
}

// Returns 32 hexadecimal digits; crypto.randomUUID does not exist on pages served by plain HTTP.
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
