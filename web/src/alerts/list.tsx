/** The alert list: windowed rows that stay where they are while somebody works on one. */
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { now_us, tick, timeOfDay } from "../clock";
import type { Alert } from "../contracts";
import { ago, duration, type Key, t, word } from "../i18n";
import { siteName } from "../session";
import { Badge } from "./badge";
import { type Outcome, outcomes } from "./commands";
import { isClosed, isUnacknowledged, LEVEL } from "./order";
import { lookSoon } from "./receipts";
import { held, listed, order, rows, scrolled, select, selected, sortNow, unacknowledged } from "./store";

/** Two lines of words. */
export const ROW_PX = 44;
const ROWS_MAX = 60;
const MARGIN_ROWS = 8;

const top_px = signal(0);
const height_px = signal(600);

export function AlertList() {
  const port = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = port.current;
    if (!element) return;
    const watch = new ResizeObserver(() => {
      height_px.value = element.clientHeight;
    });
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  useLayoutEffect(() => {
    lookSoon();
  });
  useLayoutEffect(() => keepInView(port.current), [selected.value]);

  const ids = order.value;
  const first = Math.max(0, Math.floor(top_px.value / ROW_PX) - MARGIN_ROWS);
  const shown = ids.slice(
    first,
    first + Math.min(ROWS_MAX, Math.ceil(height_px.value / ROW_PX) + 2 * MARGIN_ROWS),
  );
  return (
    <section class="list" aria-labelledby="list-title">
      <header class="list-head">
        <h2 id="list-title">{t("list.title")}</h2>
        <p>{t("list.summary", { waiting: unacknowledged.value.length, all: listed.value })}</p>
      </header>
      <Pill />
      <div class="columns" aria-hidden="true">
        <span>{t("list.priority")}</span>
        <span>{t("list.age")}</span>
        <span>{t("list.what")}</span>
        <span>{t("list.where")}</span>
        <span>{t("list.state")}</span>
      </div>
      <div
        ref={port}
        id="alerts"
        class="rows"
        role="listbox"
        tabIndex={0}
        aria-label={t("list.title")}
        aria-activedescendant={selected.value ? `row-${selected.value}` : undefined}
        onScroll={(event) => {
          top_px.value = event.currentTarget.scrollTop;
          scrolled.value = event.currentTarget.scrollTop > 0;
        }}
      >
        <div class="rows-all" role="presentation" style={{ height: `${ids.length * ROW_PX}px` }}>
          {shown.map((id, index) => (
            <AlertRow key={id} id={id} index={first + index} total={ids.length} />
          ))}
        </div>
      </div>
      {ids.length === 0 && <p class="rows-empty">{t("list.empty")}</p>}
    </section>
  );
}

function AlertRow({ id, index, total }: { id: string; index: number; total: number }) {
  const alert = rows.value.get(id)?.alert;
  if (!alert) return null;
  const waiting = isUnacknowledged(alert);
  const state = waiting ? "waiting" : isClosed(alert) ? "closed" : "acked";
  tick.value;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list box has the keys, as ARIA asks
    // biome-ignore lint/a11y/useFocusableInteractive: options are pointed at by aria-activedescendant
    <div
      id={`row-${id}`}
      data-alert={id}
      class={`row ${state}`}
      role="option"
      aria-selected={selected.value === id}
      aria-posinset={index + 1}
      aria-setsize={total}
      style={{ transform: `translateY(${index * ROW_PX}px)` }}
      onClick={() => select(id)}
    >
      <span class="cell-badge">
        <Badge priority={alert.priority} flashing={waiting} size={waiting ? 28 : 24} />
        {t(`priority.${alert.priority}`)}
      </span>
      <span class="cell-age">{duration(age_s(alert))}</span>
      <span class="cell-what">
        {what(alert)}
        {alert.duplicate_count > 0 && <small> ×{alert.duplicate_count + 1}</small>}
      </span>
      <span class="cell-where">{siteName(alert.site_id)}</span>
      <span class="cell-state">
        <StateWords alert={alert} />
      </span>
    </div>
  );
}

export function what(alert: Alert): string {
  return word("class", alert.alarm_class, "class.unknown");
}

export function age_s(alert: Alert): number {
  return (now_us() - alert.occurrence.last_us) / 1_000_000;
}

/** What is known of the operator's own command comes before the state of the alert. */
export function StateWords({ alert }: { alert: Alert }) {
  const outcome = outcomes.value.get(alert.alert_id);
  if (outcome) return <OutcomeWords outcome={outcome} />;
  return <>{stateWords(alert)}</>;
}

export function stateWords(alert: Alert): string {
  if (alert.isa.state === "ACKED") return t("state.acked_by", { who: alert.people.acked_by ?? "–" });
  if (isClosed(alert) && alert.disposition) {
    return t("state.closed_as", { code: t(`disposition.${alert.disposition.code}`) });
  }
  const bellWentBack = alert.isa.state === "RTN_UNACK" && alert.alarm_class === "bell";
  return bellWentBack ? t("state.RTN_UNACK_bell") : word("state", alert.isa.state, "state.unknown");
}

const OUTCOME_KEYS: Record<Exclude<Outcome["kind"], "already" | "refused">, Key> = {
  sending: "command.sending",
  waiting: "command.waiting",
  accepted: "command.accepted",
  failed: "command.failed",
  forbidden: "command.forbidden",
};

export function outcomeWords(outcome: Outcome & { verb: "ack" | "dispose" }): string {
  if (outcome.kind === "already") {
    const at = outcome.at_us === null ? "" : timeOfDay(outcome.at_us);
    return t(outcome.verb === "ack" ? "command.already" : "command.already_closed", {
      who: outcome.winner ?? "–",
      at,
    });
  }
  if (outcome.kind === "refused")
    return t("command.refused", { detail: word("refusal", outcome.code, "refusal.unknown") });
  return t(OUTCOME_KEYS[outcome.kind]);
}

function OutcomeWords({ outcome }: { outcome: Outcome & { verb: "ack" | "dispose" } }) {
  return <strong class={`outcome ${outcome.kind}`}>{outcomeWords(outcome)}</strong>;
}

/** Alerts that came while the operator works on another; the most urgent is told in full. */
function Pill() {
  const ids = held.value;
  const first = ids[0] ? rows.value.get(ids[0])?.alert : undefined;
  if (!first) return null;
  tick.value;
  return (
    <button
      type="button"
      class={`pill p${LEVEL[first.priority]}`}
      data-alert={first.alert_id}
      onClick={showHeld}
    >
      <Badge priority={first.priority} flashing={isUnacknowledged(first)} />
      <span>
        {t("list.new", { n: ids.length })} · {what(first)} · {siteName(first.site_id)} · {ago(age_s(first))}
      </span>
    </button>
  );
}

export function showHeld(): void {
  sortNow();
  document.getElementById("alerts")?.scrollTo({ top: 0 });
}

export function move(to: "up" | "down" | "first" | "last"): void {
  const ids = order.value;
  const at = selected.value ? ids.indexOf(selected.value) : -1;
  const target = {
    up: Math.max(0, at - 1),
    down: Math.min(ids.length - 1, at + 1),
    first: 0,
    last: ids.length - 1,
  }[to];
  const id = ids[target];
  if (id) select(id);
}

function keepInView(port: HTMLDivElement | null): void {
  const at = selected.value ? order.value.indexOf(selected.value) : -1;
  if (!port || at < 0) return;
  const row_top = at * ROW_PX;
  if (row_top < port.scrollTop) port.scrollTop = row_top;
  else if (row_top + ROW_PX > port.scrollTop + port.clientHeight)
    port.scrollTop = row_top + ROW_PX - port.clientHeight;
}
