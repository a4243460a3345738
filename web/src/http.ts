/** Same-origin requests with a deadline; a refusal is a `Problem`, never a thrown surprise. */
import type { Problem } from "./contracts";

export const DEADLINE_MS = 5_000;

export interface Answer<T> {
  /** 0: no answer came. */
  status: number;
  body: T | null;
  problem: Problem | null;
}

export async function request<T>(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answer<T>> {
  try {
    const response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    const json: unknown = await response.json().catch(() => null);
    return response.ok
      ? { status: response.status, body: json as T | null, problem: null }
      : { status: response.status, body: null, problem: json as Problem | null };
  } catch {
    // fetch throws for a lost network and for the deadline alike: in both the answer is unknown.
    return { status: 0, body: null, problem: null };
  }
}

/** A UUID also on plain http, where `crypto.randomUUID` is absent (console.md 6.2). */
export function uuid(): string {
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = ((b[6] ?? 0) & 0x0f) | 0x40;
  b[8] = ((b[8] ?? 0) & 0x3f) | 0x80;
  const hex = [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
