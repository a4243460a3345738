/** Pure: a timeline's stretches as parts of an axis, and what lies at an instant. */
import type { Timeline, TimelineItem } from "../contracts";

export const HOUR_US = 3_600_000_000;
export const STEP_US = 5_000_000;

export function isFootage(item: TimelineItem): boolean {
  return item.state === "recorded" || item.state === "open";
}

/** The last seconds are on their way: neither footage nor missing. */
export function isMissing(item: TimelineItem): boolean {
  return !isFootage(item) && item.state !== "pending";
}

/** Before the first picture of a camera nothing was expected: that is no gap to look into. */
export function isBeforeFirst(item: TimelineItem): boolean {
  return item.state === "gap" && item.detail === "before_first_record";
}

export type Kind = "recorded" | "open" | "pending" | "gap" | "before";

export function kindOf(item: TimelineItem): Kind {
  if (isFootage(item) || item.state === "pending") return item.state as Kind;
  return isBeforeFirst(item) ? "before" : "gap";
}

export interface Stretch {
  kind: Kind;
  from_us: number;
  x: number;
  width: number;
}

/** In thousandths of the axis: a second of an hour would be a third of a pixel. */
const SHORTEST = 4;
/** The first footage of a camera has room to the left, where nothing is yet. */
const SHORTEST_FIRST = 16;

/** What to draw, in thousandths of the axis, in the order of painting: however short, each can be seen. */
export function stretches(timeline: Timeline): Stretch[] {
  const drawn = timeline.items.map((item, index) => {
    const before = timeline.items[index - 1];
    return stretch(timeline, item, before !== undefined && isBeforeFirst(before));
  });
  // A short stretch lies above long ones, a short gap above all: footage never hides that some is missing.
  const layer = ({ kind, width }: Stretch): number => {
    if (kind === "before") return 0;
    if (kind === "gap") return width < 2 * SHORTEST ? 3 : 1;
    return width <= SHORTEST ? 2 : 1;
  };
  return drawn.sort((a, b) => layer(a) - layer(b));
}

/** Footage grows to the left and a gap to the right, so that neighbours do not cover each other. */
function stretch(timeline: Timeline, item: TimelineItem, first: boolean): Stretch {
  const kind = kindOf(item);
  const from = share(timeline, item.from_us) * 1000;
  const to = share(timeline, item.to_us) * 1000;
  const shortest = first && kind !== "gap" ? SHORTEST_FIRST : SHORTEST;
  const width = Math.max(shortest, to - from);
  const x = kind === "gap" ? Math.min(from, 1000 - width) : Math.max(0, to - width);
  return { kind, from_us: item.from_us, x, width };
}

export function itemAt(timeline: Timeline, at_us: number): TimelineItem | undefined {
  return timeline.items.find((item) => item.from_us <= at_us && at_us < item.to_us);
}

export function share(timeline: Timeline, at_us: number): number {
  const length_us = timeline.to_us - timeline.from_us;
  return length_us > 0 ? Math.min(1, Math.max(0, (at_us - timeline.from_us) / length_us)) : 0;
}

export function clamp(timeline: Timeline, at_us: number): number {
  return Math.min(Math.max(at_us, timeline.from_us), Math.max(timeline.from_us, timeline.to_us - 1_000_000));
}

/** The next footage at or after an instant; null when there is none. */
export function footageFrom(timeline: Timeline, at_us: number): number | null {
  const item = timeline.items.find((i) => isFootage(i) && i.to_us > at_us);
  return item ? Math.max(item.from_us, at_us) : null;
}

/** What is missing between two instants, whole; the first of it. */
export function missingBetween(timeline: Timeline, from_us: number, to_us: number): TimelineItem | undefined {
  return timeline.items.find((i) => isMissing(i) && i.from_us >= from_us && i.to_us <= to_us);
}

/** Whole ten minutes within the range, for the axis. */
export function ticks(timeline: Timeline, every_us: number): number[] {
  const first = Math.ceil(timeline.from_us / every_us) * every_us;
  const found: number[] = [];
  for (let at = first; at < timeline.to_us; at += every_us) found.push(at);
  return found;
}
