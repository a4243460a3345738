/** The only WebSocket code: opens, notices silence, comes back with jitter (console.md 5.2 rule 4). */

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 8_000;

export interface SocketHandlers {
  opened(): void;
  text(message: string): void;
  binary?(message: ArrayBuffer): void;
  /** `opened` says whether this attempt had ever been up. */
  closed(code: number, opened: boolean): void;
}

/** Half of the wait is certain, half is chance, so that consoles do not return all at once. */
export function backoff_ms(attempt: number, chance: number): number {
  const whole = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** attempt);
  return whole / 2 + (whole / 2) * chance;
}

export class ReconnectingSocket {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private heard_ms = 0;
  private earliest_ms = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watch: ReturnType<typeof setInterval> | undefined;

  constructor(
    private readonly path: string,
    private readonly handlers: SocketHandlers,
    /** null: silence is no fault on this socket. */
    private readonly silence_ms: number | null,
  ) {}

  start(): void {
    if (this.watch !== undefined) return;
    this.watch = setInterval(() => this.watchSilence(), 1000);
    addEventListener("online", this.now);
    this.open();
  }

  stop(): void {
    clearInterval(this.watch);
    clearTimeout(this.timer);
    this.watch = undefined;
    removeEventListener("online", this.now);
    this.drop();
  }

  get isOpen(): boolean {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  send(message: unknown): boolean {
    if (!this.isOpen) return false;
    this.socket?.send(JSON.stringify(message));
    return true;
  }

  /** The server said when to come back. */
  notBefore(wait_ms: number): void {
    this.earliest_ms = performance.now() + wait_ms;
  }

  /** Give the connection up and come back, e.g. after a hole in `seq`. */
  restart(): void {
    this.drop();
    this.handlers.closed(0, true);
    this.later();
  }

  private readonly now = (): void => {
    if (this.socket || this.watch === undefined) return;
    clearTimeout(this.timer);
    this.open();
  };

  private open(): void {
    const socket = new WebSocket(new URL(this.path, location.href.replace(/^http/, "ws")));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard_ms = performance.now();
    let opened = false;
    socket.onopen = () => {
      opened = true;
      this.heard_ms = performance.now();
      this.handlers.opened();
    };
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      this.heard_ms = performance.now();
      this.attempt = 0;
      if (typeof event.data === "string") this.handlers.text(event.data);
      else this.handlers.binary?.(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.later();
      this.handlers.closed(event.code, opened);
    };
  }

  private drop(): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  private later(): void {
    if (this.watch === undefined) return;
    const wait_ms = Math.max(backoff_ms(this.attempt, Math.random()), this.earliest_ms - performance.now());
    this.attempt += 1;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open(), wait_ms);
  }

  private watchSilence(): void {
    if (this.silence_ms === null || !this.socket) return;
    if (performance.now() - this.heard_ms > this.silence_ms) this.restart();
  }
}
