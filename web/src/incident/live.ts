/** Live pictures of this window over one WebSocket; channels share it (console.md 4.4). */
import { LIVE_HEADER_BYTES, LIVE_VERSION, type LiveServerSays, type LiveStats, type Sub } from "../contracts";
import { ReconnectingSocket } from "../socket";

export interface LiveFrame {
  kind: number;
  capture_us: number;
  seq: number;
  bytes: Uint8Array<ArrayBuffer>;
}

export interface LiveChannel {
  said(message: LiveServerSays): void;
  frame(frame: LiveFrame): void;
  /** The socket went away; a new subscription is sent when it is back. */
  lost(): void;
}

interface Subscribed {
  sub: Sub;
  channel: LiveChannel;
}

const channels = new Map<number, Subscribed>();
let nextChannel = 1;

const socket = new ReconnectingSocket(
  "/api/v1/live",
  {
    opened: () => {
      for (const { sub } of channels.values()) socket.send(sub);
    },
    text: (message) => {
      const said = JSON.parse(message) as LiveServerSays;
      channels.get(said.ch)?.channel.said(said);
    },
    binary: (message) => {
      const frame = parse(message);
      if (frame) channels.get(frame.ch)?.channel.frame(frame);
    },
    closed: () => {
      for (const { channel } of channels.values()) channel.lost();
    },
  },
  null,
);

/** `version u8, kind u8, channel u16, capture_us u64, seq u32`, big-endian, then the bytes, not copied. */
export function parse(message: ArrayBuffer): (LiveFrame & { ch: number }) | null {
  if (message.byteLength < LIVE_HEADER_BYTES) return null;
  const view = new DataView(message);
  if (view.getUint8(0) !== LIVE_VERSION) return null;
  return {
    kind: view.getUint8(1),
    ch: view.getUint16(2),
    capture_us: Number(view.getBigUint64(4)),
    seq: view.getUint32(12),
    bytes: new Uint8Array(message, LIVE_HEADER_BYTES),
  };
}

export function subscribe(sub: Omit<Sub, "op" | "ch">, channel: LiveChannel): number {
  const ch = nextChannel;
  nextChannel = (nextChannel % 65_535) + 1;
  channels.set(ch, { sub: { op: "sub", ch, ...sub }, channel });
  socket.start();
  socket.send(channels.get(ch)?.sub);
  return ch;
}

/** Ask for something else on the same channel: the other stream, or a still. */
export function change(ch: number, sub: Partial<Pick<Sub, "stream" | "want">>): void {
  const known = channels.get(ch);
  if (!known) return;
  known.sub = { ...known.sub, ...sub };
  socket.send(known.sub);
}

export function unsubscribe(ch: number): void {
  if (!channels.delete(ch)) return;
  socket.send({ op: "unsub", ch });
  if (channels.size === 0) socket.stop();
}

export function report(stats: Omit<LiveStats, "op">): void {
  socket.send({ op: "stats", ...stats });
}
