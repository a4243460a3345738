/** Tones by priority, made with oscillators. The server hears `sounded` only when a tone really started. */
import { computed, signal } from "@preact/signals";
import { now_us, tick } from "../clock";
import type { EventItem } from "../contracts";
import { LEVEL } from "./order";
import { receipt } from "./receipts";
import { unacknowledged } from "./store";

const MUTE_S = 120;
const EVERY_MS: Record<1 | 2, number> = { 1: 2_000, 2: 30_000 };
const LINK_EVERY_MS = 4_000;

type Beep = [start_s: number, length_s: number, hertz: number];
const TONES: Record<1 | 2 | 3 | "link", Beep[]> = {
  1: [[0, 0.16, 988], [0.22, 0.16, 784], [0.44, 0.16, 988], [0.66, 0.16, 784]], // biome-ignore format: a score
  2: [[0, 0.2, 740], [0.28, 0.2, 740]], // biome-ignore format: a score
  3: [[0, 0.22, 587]],
  link: [[0, 0.45, 262], [0.5, 0.6, 196]], // biome-ignore format: a score
};

let context: AudioContext | null = null;
const running = signal(false);
const muted_until_us = signal(0);
/** Asked to be heard, not heard yet. */
const unheard = new Map<string, EventItem>();
let last_ms: Record<1 | 2 | "link", number> = { 1: 0, 2: 0, link: 0 };
let linkLost = false;

export const mute_left_s = computed(() => {
  tick.value;
  return Math.max(0, Math.ceil((muted_until_us.value - now_us()) / 1_000_000));
});
export type SoundState = "on" | "off" | "muted";
export const soundState = computed<SoundState>(() => {
  if (!running.value) return "off";
  return mute_left_s.value > 0 ? "muted" : "on";
});

export function startSound(): void {
  if (context) return;
  context = new AudioContext();
  running.value = context.state === "running";
  context.onstatechange = () => {
    running.value = context?.state === "running";
    if (running.value) sound();
  };
  for (const gesture of ["pointerdown", "keydown"]) addEventListener(gesture, () => void enable(), true);
  setInterval(sound, 500);
}

/** Works only inside a gesture: browsers keep a page silent until somebody touched it. */
export async function enable(): Promise<void> {
  if (context?.state === "suspended") await context.resume();
}

export function mute(): void {
  muted_until_us.value = now_us() + MUTE_S * 1_000_000;
}

export function unmute(): void {
  muted_until_us.value = 0;
}

export function linkTone(lost: boolean): void {
  linkLost = lost;
  if (lost) sound();
}

export function changed(items: readonly EventItem[]): void {
  for (const item of items) {
    const level = LEVEL[item.alert.priority];
    if (level === 4) continue;
    unheard.set(item.alert_id, item);
    if (level === 3 && audible()) play(3);
    else last_ms = { ...last_ms, [level]: 0 };
  }
  sound();
}

function audible(): boolean {
  return running.value && muted_until_us.value <= now_us();
}

/** A lost link is heard even while alerts are muted: the mute was meant for what could still be seen. */
function sound(): void {
  if (!running.value) return;
  if (linkLost) return repeat("link", LINK_EVERY_MS);
  if (!audible()) return;
  const waiting = new Set(unacknowledged.value.map((alert) => LEVEL[alert.priority]));
  if (waiting.has(1)) repeat(1, EVERY_MS[1]);
  else if (waiting.has(2)) repeat(2, EVERY_MS[2]);
}

function repeat(tone: 1 | 2 | "link", every_ms: number): void {
  if (performance.now() - last_ms[tone] < every_ms && last_ms[tone] > 0) return;
  last_ms = { ...last_ms, [tone]: performance.now() };
  play(tone);
}

function play(tone: 1 | 2 | 3 | "link"): void {
  if (!context) return;
  for (const [start_s, length_s, hertz] of TONES[tone]) beep(context, start_s, length_s, hertz);
  if (tone !== "link") heard(tone);
}

function beep(on: AudioContext, start_s: number, length_s: number, hertz: number): void {
  const from = on.currentTime + 0.02 + start_s;
  const gain = on.createGain();
  gain.gain.setValueAtTime(0, from);
  gain.gain.linearRampToValueAtTime(0.25, from + 0.015);
  gain.gain.setValueAtTime(0.25, from + length_s - 0.03);
  gain.gain.linearRampToValueAtTime(0, from + length_s);
  const tone = on.createOscillator();
  tone.frequency.value = hertz;
  tone.connect(gain).connect(on.destination);
  tone.start(from);
  tone.stop(from + length_s);
}

/** A tone stands for every alert of its level or a lower one: the most urgent speaks for all. */
function heard(level: 1 | 2 | 3): void {
  for (const [id, item] of unheard) {
    if (LEVEL[item.alert.priority] < level) continue;
    unheard.delete(id);
    receipt(item, "sounded");
  }
}
