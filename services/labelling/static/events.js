// The server's events: each one is all that the page shows.

export class Events {
  // onState(state), onConnection(whether)
  constructor({ onState, onConnection }) {
    this.onState = onState;
    this.onConnection = onConnection;
    this.source = null;
    this.#open();
  }

  #open() {
    this.source = new EventSource("/api/events");
    this.source.addEventListener("state", (event) => {
      this.onConnection(true);
      this.onState(JSON.parse(event.data));
    });
    this.source.addEventListener("error", () => {
      this.onConnection(false);
      // The browser tries again by itself, unless the server gave an answer that ends it.
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.#open(), 1000);
    });
  }
}
