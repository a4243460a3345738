/** The alert stream of this window: snapshot, events, cursor (alerts.md 8). */
import { signal } from "@preact/signals";
import { alignTo, now_us } from "../clock";
import { CLOSE_SESSION_ENDED, type Cursor, type EventItem, type GatewaySays } from "../contracts";
import { uuid } from "../http";
import { loadCity, loadSession, session } from "../session";
import { ReconnectingSocket } from "../socket";
import { flushWaiting } from "./commands";
import type { Row } from "./order";
import { asked, sendWith } from "./receipts";
import { changed, linkTone, soundState } from "./sound";
import { apply, replaceAll, restore, rows } from "./store";

const SILENCE_MS = 12_000;
const KEPT = "safealley.kept";
const CONSOLE = "safealley.console";

export type Link = "connecting" | "live" | "lost";
export const link = signal<Link>("connecting");
/** When the last frame with a cursor came, in server time. */
export const cursor_at_us = signal(0);

let shadow: EventItem[] | null = null;
let seq: number | null = null;
let cursor: Cursor | null = null;

/** A cursor is worth nothing without the list it belongs to: both are kept together over a reload. */
interface Kept {
  account: string;
  cursor: Cursor;
  rows: [string, Row][];
}

export const consoleId = sessionStorage.getItem(CONSOLE) ?? `c-${uuid()}`;
sessionStorage.setItem(CONSOLE, consoleId);

const socket = new ReconnectingSocket("/api/v1/alert-stream", { opened, text, closed }, SILENCE_MS);
sendWith((items) => socket.send({ op: "receipt", items }));

export function startChannel(): void {
  if (cursor === null) takeUp();
  socket.start();
}

function takeUp(): void {
  const text = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  const kept = text === null ? null : (JSON.parse(text) as Kept);
  if (!kept || kept.account !== session.value?.account) return;
  cursor = kept.cursor;
  restore(new Map(kept.rows));
}

addEventListener("pagehide", () => {
  const account = session.value?.account;
  if (!account || !cursor) return;
  const kept: Kept = { account, cursor, rows: [...rows.value] };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    // The list is larger than the browser's store: the next page asks for a snapshot.
    sessionStorage.removeItem(KEPT);
  }
});

function opened(): void {
  seq = null;
  shadow = null;
  const sound = soundState.value === "on" ? "on" : "off";
  socket.send({ op: "hello", proto: 1, console_id: consoleId, cursor, filters: {}, sound });
}

function closed(code: number, wasOpen: boolean): void {
  link.value = "lost";
  linkTone(true);
  if (code === CLOSE_SESSION_ENDED) {
    socket.stop();
    if (session.value) session.value = { ...session.value, account: null, role: null };
  }
  // A refused upgrade looks like a lost link to a browser: ask over HTTP which it was.
  if (code === CLOSE_SESSION_ENDED || !wasOpen) void loadSession();
}

function text(message: string): void {
  const frame = JSON.parse(message) as GatewaySays;
  if (seq !== null && frame.seq !== seq + 1) {
    socket.restart();
    return;
  }
  seq = frame.seq;
  if (link.value !== "live") {
    link.value = "live";
    linkTone(false);
    flushWaiting();
    void loadCity();
  }
  handle(frame);
}

function handle(frame: GatewaySays): void {
  switch (frame.op) {
    case "snapshot":
      shadow = [...(shadow ?? []), ...frame.items];
      break;
    case "snapshot_end":
      replaceAll(shadow ?? []);
      arrived(shadow ?? []);
      shadow = null;
      keep(frame.cursor);
      break;
    case "event":
      arrived(apply(frame.items));
      keep(frame.cursor);
      break;
    case "heartbeat":
      alignTo(frame.server_time_us);
      keep(frame.cursor);
      break;
    case "resync":
      shadow = [];
      break;
    case "bye":
      socket.notBefore(frame.retry_ms);
      break;
  }
}

/** Sound starts here, in the handler of the message, because hidden tabs get no animation frames. */
function arrived(items: readonly EventItem[]): void {
  asked(items.filter((item) => item.ask));
  changed(items.filter((item) => item.ask));
}

function keep(at: Cursor): void {
  cursor = at;
  cursor_at_us.value = now_us();
}
