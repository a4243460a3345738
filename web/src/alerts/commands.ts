/** Acknowledge and dispose. Nothing is assumed to have worked: the row says what is known (console.md 5.4). */
import { computed, signal } from "@preact/signals";
import type { Alert, DispositionCode } from "../contracts";
import { type Answer, request, uuid } from "../http";
import { applyAnswer } from "./store";

const HELD_MAX_MS = 60_000;
const RETRY_MS = 2_000;
const LOOK_MS = 500;
const SHOWN_MS = 30_000;
const AGAIN = new Set([0, 429, 500, 502, 503, 504]);
const UNDECIDED = new Set(["sending", "waiting", "accepted"]);

export type Outcome =
  | { kind: "sending" | "waiting" | "accepted" | "failed" | "forbidden" }
  | { kind: "already"; winner: string | null; at_us: number | null }
  | { kind: "refused"; code: string };

interface Intent {
  alert_id: string;
  verb: "ack" | "dispose";
  body: { decision_version: number; code?: DispositionCode };
  key: string;
  since_ms: number;
  version: number;
}

export const outcomes = signal<ReadonlyMap<string, Outcome & { verb: Intent["verb"] }>>(new Map());
/** Whether a command is still on its way: who leaves now would not hear what became of it. */
export const undecided = computed(() => [...outcomes.value.values()].some(({ kind }) => UNDECIDED.has(kind)));
const waiting = new Map<string, Intent>();
const timers = new Map<string, ReturnType<typeof setTimeout>>();

export function acknowledge(alert: Alert): void {
  begin(alert, "ack", { decision_version: alert.decision_version });
}

export function dispose(alert: Alert, code: DispositionCode): void {
  begin(alert, "dispose", { decision_version: alert.decision_version, code });
}

/** The link is back: send at once what waits. */
export function flushWaiting(): void {
  for (const intent of [...waiting.values()]) void attempt(intent);
}

function begin(alert: Alert, verb: Intent["verb"], body: Intent["body"]): void {
  const { alert_id, version } = alert;
  const now = outcomes.value.get(alert_id);
  if (now && UNDECIDED.has(now.kind)) return;
  void attempt({ alert_id, verb, body, key: uuid(), since_ms: performance.now(), version });
}

/** The same key goes with each attempt, so that an answer that got lost is given again. */
async function attempt(intent: Intent): Promise<void> {
  clearTimeout(timers.get(intent.alert_id));
  waiting.delete(intent.alert_id);
  if (performance.now() - intent.since_ms >= HELD_MAX_MS) return show(intent, { kind: "failed" });
  if (outcomes.value.get(intent.alert_id)?.kind !== "waiting") show(intent, { kind: "sending" });
  const path = `/api/v1/alerts/${encodeURIComponent(intent.alert_id)}/${intent.verb}`;
  const answer = await request<Alert>("POST", path, intent.body, { "Idempotency-Key": intent.key });
  if (AGAIN.has(answer.status)) return hold(intent);
  if (answer.status === 202) return accepted(intent);
  settle(intent, answer);
}

function hold(intent: Intent): void {
  show(intent, { kind: "waiting" });
  waiting.set(intent.alert_id, intent);
  timers.set(
    intent.alert_id,
    setTimeout(() => void attempt(intent), RETRY_MS),
  );
}

function settle(intent: Intent, { status, body, problem }: Answer<Alert>): void {
  const alert = body ?? problem?.alert;
  if (alert) applyAnswer(alert);
  if (body) return show(intent, null);
  if (status === 403) return show(intent, { kind: "forbidden" });
  const settled = intent.verb === "ack" ? alert?.isa.acked : alert?.isa.disposed;
  if (status === 409 && settled && problem?.winner) {
    return show(intent, { kind: "already", winner: problem.winner, at_us: problem.at_us ?? null });
  }
  show(intent, { kind: "refused", code: problem?.error ?? String(status) });
}

/** 202: not decided in time. A refusal leaves the alert's version, so the list may never show it: it is asked for. */
function accepted(intent: Intent): void {
  show(intent, { kind: "accepted" });
  const accepted_ms = performance.now();
  const path = `/api/v1/alerts/${encodeURIComponent(intent.alert_id)}/commands/${intent.key}`;
  const look = async (): Promise<void> => {
    const answer = await request<Alert>("GET", path);
    if (answer.status !== 202 && !AGAIN.has(answer.status)) return settle(intent, answer);
    if (performance.now() - accepted_ms >= HELD_MAX_MS) return show(intent, { kind: "failed" });
    timers.set(
      intent.alert_id,
      setTimeout(() => void look(), LOOK_MS),
    );
  };
  void look();
}

function show(intent: Intent, outcome: Outcome | null): void {
  const next = new Map(outcomes.value);
  if (outcome) next.set(intent.alert_id, { ...outcome, verb: intent.verb });
  else next.delete(intent.alert_id);
  outcomes.value = next;
  if (outcome?.kind === "already") setTimeout(() => forget(intent.alert_id, "already"), SHOWN_MS);
}

function forget(id: string, kind: Outcome["kind"]): void {
  if (outcomes.value.get(id)?.kind !== kind) return;
  const next = new Map(outcomes.value);
  next.delete(id);
  outcomes.value = next;
}
