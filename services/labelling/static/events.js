// The server's events: each has the whole state of the page.

export class Events {
  // onState(state), onConnection(connected)
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
      // The browser reconnects by itself, unless the server refused the request.
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.#open(), 1000);
    });
  }
}
