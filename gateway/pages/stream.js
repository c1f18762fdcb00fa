// The stream: one WebSocket, opened again when it breaks.

import { base, root, stream } from "./api.js";

const SILENCE_MS = 20_000;
const LONGEST_PAUSE_MS = 10_000;

/** Calls `onMessage(message)` for everything and `onState("connecting" | "open" | "lost")`. */
export class Stream {
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.channels = [];
    this.pause = 500;
    this.socket = null;
  }

  open(channels) {
    this.channels = channels;
    this.connect();
  }

  connect() {
    this.onState("connecting");
    const url = new URL(root + base + stream, location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.pause = 500;
      this.onState("open");
      for (const channel of [...this.channels, "heartbeat"]) {
        socket.send(JSON.stringify({ action: "subscribe", channel, snapshot: true }));
      }
      this.watch();
    };
    socket.onmessage = (event) => {
      this.watch();
      this.onMessage(JSON.parse(event.data));
    };
    socket.onclose = () => {
      clearTimeout(this.silence);
      this.onState("lost");
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
    };
  }

  watch() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), SILENCE_MS);
  }
}
