/** The list as this console shows it. New items never move the row an operator works on: they are held
 * behind a pill until the operator asks for them (console.md 2.1 rule 4). */
import { batch, computed, signal } from "@preact/signals";
import { now_us } from "../clock";
import type { Alert, EventItem } from "../contracts";
import { isClosed, isNewer, isUnacknowledged, LEVEL, type Row, sorted } from "./order";

export const rows = signal<ReadonlyMap<string, Row>>(new Map());
/** The ids in the order of the screen. */
export const order = signal<readonly string[]>([]);
export const selected = signal<string | null>(null);
export const scrolled = signal(false);
/** The alert this console closed last, for the empty incident panel. */
export const lastClosed = signal<Alert | null>(null);

export const held = computed(() => {
  const shown = new Set(order.value);
  return sorted(rows.value, now_us()).filter((id) => !shown.has(id));
});
/** How many are in the list, those held behind the pill too. */
export const listed = computed(() => order.value.length + held.value.length);
export const selectedRow = computed(() => (selected.value ? rows.value.get(selected.value) : undefined));
export const unacknowledged = computed(() =>
  [...rows.value.values()].map((row) => row.alert).filter(isUnacknowledged),
);
export const counts = computed(() => {
  const of = (level: number) => unacknowledged.value.filter((a) => LEVEL[a.priority] === level).length;
  return { p1: of(1), p2: of(2), all: unacknowledged.value.length };
});

/** Put the whole list in its true order and let held alerts in. */
export function sortNow(): void {
  order.value = sorted(rows.value, now_us());
}

export function select(id: string | null): void {
  batch(() => {
    selected.value = id;
    if (id === null && !scrolled.value) sortNow();
  });
}

/** Apply what is newer; return the items that were. */
export function apply(items: readonly EventItem[]): EventItem[] {
  const next = new Map(rows.value);
  const fresh = items.filter((item) => {
    if (!isNewer(item, next.get(item.alert_id))) return false;
    next.set(item.alert_id, { epoch: item.epoch, version: item.version, alert: item.alert });
    return true;
  });
  if (fresh.length) settle(next);
  return fresh;
}

/** Swap the whole list in one step, after a snapshot. */
export function replaceAll(items: readonly EventItem[]): void {
  const next = new Map<string, Row>();
  for (const { alert_id, epoch, version, alert } of items) next.set(alert_id, { epoch, version, alert });
  settle(next);
}

/** Take up the list of the page before this one. */
export function restore(kept: ReadonlyMap<string, Row>): void {
  settle(kept);
}

/** An answer to a command carries the alert without its epoch: it is of the epoch we know. */
export function applyAnswer(alert: Alert): void {
  const known = rows.value.get(alert.alert_id);
  if (!known || alert.version <= known.version) return;
  settle(new Map(rows.value).set(alert.alert_id, { epoch: known.epoch, version: alert.version, alert }));
}

export function nextUnacknowledged(): string | null {
  const waiting = sorted(rows.value, now_us()).filter((id) => {
    const row = rows.value.get(id);
    return row && isUnacknowledged(row.alert);
  });
  return waiting.find((id) => id !== selected.value) ?? waiting[0] ?? null;
}

function settle(next: ReadonlyMap<string, Row>): void {
  batch(() => {
    const open = selected.value ? rows.value.get(selected.value)?.alert : undefined;
    const opened = selected.value ? next.get(selected.value)?.alert : undefined;
    rows.value = next;
    if (open && opened && !isClosed(open) && isClosed(opened)) {
      lastClosed.value = opened;
      selected.value = null;
    }
    if (selected.value && !next.has(selected.value)) selected.value = null;
    if (selected.value === null && !scrolled.value) sortNow();
    else order.value = order.value.filter((id) => next.has(id));
    openEmergency();
  });
}

/** An emergency opens itself only when nothing else is open (console.md 3, S1). */
function openEmergency(): void {
  if (selected.value !== null) return;
  const first = order.value[0];
  const alert = first ? rows.value.get(first)?.alert : undefined;
  if (alert && alert.priority === "emergency" && isUnacknowledged(alert)) selected.value = alert.alert_id;
}
