/** Pure: which change is newer, which alert stands higher, what is still to be answered. */
import type { Alert, EventItem, Priority } from "../contracts";

export interface Row {
  epoch: number;
  version: number;
  alert: Alert;
}

export const LEVEL: Record<Priority, 1 | 2 | 3 | 4> = { emergency: 1, high: 2, medium: 3, low: 4 };
/** Closed alerts stay at the foot of the list for one shift. */
export const CLOSED_KEPT_US = 8 * 3600 * 1_000_000;

export function isNewer(item: Pick<EventItem, "epoch" | "version">, known: Row | undefined): boolean {
  if (!known) return true;
  return item.epoch !== known.epoch ? item.epoch > known.epoch : item.version > known.version;
}

export function isUnacknowledged(alert: Alert): boolean {
  return alert.isa.state === "UNACK" || alert.isa.state === "RTN_UNACK";
}

export function isClosed(alert: Alert): boolean {
  return alert.isa.state === "NORMAL";
}

function group(alert: Alert): number {
  if (isUnacknowledged(alert)) return 0;
  return isClosed(alert) ? 2 : 1;
}

/** Unacknowledged first, then priority, then newest; closed last, newest first. */
export function compare(a: Alert, b: Alert): number {
  const groups = group(a) - group(b);
  if (groups) return groups;
  const levels = isClosed(a) ? 0 : LEVEL[a.priority] - LEVEL[b.priority];
  return levels || b.occurrence.last_us - a.occurrence.last_us || (a.alert_id < b.alert_id ? -1 : 1);
}

export function isListed(alert: Alert, at_us: number): boolean {
  return !isClosed(alert) || at_us - (alert.closed_us ?? alert.isa.since_us) < CLOSED_KEPT_US;
}

export function sorted(rows: ReadonlyMap<string, Row>, at_us: number): string[] {
  return [...rows.values()]
    .map((row) => row.alert)
    .filter((alert) => isListed(alert, at_us))
    .sort(compare)
    .map((alert) => alert.alert_id);
}
