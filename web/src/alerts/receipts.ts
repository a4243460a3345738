/** Receipts: delivered, painted, sounded (console.md 5.3). `painted` is sent only for what is in view. */
import { now_us } from "../clock";
import type { EventItem, ReceiptItem } from "../contracts";

const BATCH_MS = 200;
const ITEMS_MAX = 256;

type Send = (items: ReceiptItem[]) => boolean;
let send: Send = () => false;
const waiting: ReceiptItem[] = [];
/** Asked for and not seen yet, by alert: a newer version replaces an older one. */
const unpainted = new Map<string, EventItem>();
let timer: ReturnType<typeof setTimeout> | undefined;
let looking = false;

export function sendWith(how: Send): void {
  send = how;
}

export function asked(items: readonly EventItem[]): void {
  for (const item of items) {
    receipt(item, "delivered");
    unpainted.set(item.alert_id, item);
  }
  lookSoon();
}

export function receipt(item: EventItem, kind: ReceiptItem["kind"]): void {
  waiting.push({ tx: item.tx, alert_id: item.alert_id, version: item.version, kind, at_us: now_us() });
  if (waiting.length > ITEMS_MAX * 4) waiting.splice(0, waiting.length - ITEMS_MAX * 4);
  timer ??= setTimeout(flush, BATCH_MS);
}

function flush(): void {
  timer = undefined;
  const batch = waiting.slice(0, ITEMS_MAX);
  if (!batch.length) return;
  if (send(batch)) waiting.splice(0, batch.length);
  if (waiting.length) timer = setTimeout(flush, BATCH_MS * 5);
}

/** Look once the next frame is on the screen: rAF runs before painting, the posted message after it. */
export function lookSoon(): void {
  if (looking || !unpainted.size) return;
  looking = true;
  requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      looking = false;
      look();
    };
    port2.postMessage(null);
  });
}

function look(): void {
  if (document.visibilityState !== "visible") return;
  for (const [id, item] of unpainted) {
    if (![...document.querySelectorAll(`[data-alert="${CSS.escape(id)}"]`)].some(inView)) continue;
    unpainted.delete(id);
    receipt(item, "painted");
  }
}

function inView(element: Element): boolean {
  const box = element.getBoundingClientRect();
  const port =
    element.closest(".rows")?.getBoundingClientRect() ?? new DOMRect(0, 0, innerWidth, innerHeight);
  return box.height > 0 && box.top >= port.top - 1 && box.bottom <= port.bottom + 1;
}

document.addEventListener("visibilitychange", lookSoon);
addEventListener("resize", lookSoon);
