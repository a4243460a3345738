/** Server-aligned time and its words. Workstation clocks may be wrong: ages never use them alone. */
import { signal } from "@preact/signals";

const SAMPLES_MAX = 12;
const samples_ms: number[] = [];
let offset_ms = 0;

/** Changes once a second, so that whatever shows an age reads it. */
export const tick = signal(0);

/** Learn the server's time. The largest offset of the last samples had the least delay on its way. */
export function alignTo(server_time_us: number): void {
  samples_ms.push(server_time_us / 1000 - Date.now());
  if (samples_ms.length > SAMPLES_MAX) samples_ms.shift();
  offset_ms = Math.max(...samples_ms);
}

export function now_us(): number {
  return Math.round((Date.now() + offset_ms) * 1000);
}

const kst = new Intl.DateTimeFormat("en-GB", {
  timeZone: "Asia/Seoul",
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

function parts(at_us: number): Record<string, string> {
  return Object.fromEntries(kst.formatToParts(new Date(at_us / 1000)).map((p) => [p.type, p.value]));
}

export function dateTime(at_us: number): string {
  const { year, month, day, hour, minute, second } = parts(at_us);
  return `${year}-${month}-${day} ${hour}:${minute}:${second}`;
}

export function timeOfDay(at_us: number): string {
  return dateTime(at_us).slice(11);
}

const HALF_DAY_US = 43_200_000_000;

/** Read "HH:MM:SS" or "YYYY-MM-DD HH:MM:SS" as KST; soon after midnight a late time alone is yesterday's. */
export function parseKst(text: string, near_us: number): number | null {
  const match = /^(?:(\d{4}-\d{2}-\d{2})[ T])?(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(text.trim());
  if (!match) return null;
  const day = match[1] ?? dateTime(near_us).slice(0, 10);
  const at_ms = Date.parse(`${day}T${match[2]?.padStart(2, "0")}:${match[3]}:${match[4] ?? "00"}+09:00`);
  if (Number.isNaN(at_ms)) return null;
  const tomorrow = !match[1] && at_ms * 1000 - near_us > HALF_DAY_US;
  return at_ms * 1000 - (tomorrow ? 2 * HALF_DAY_US : 0);
}

setInterval(() => {
  tick.value += 1;
}, 1000);
