/** What happened, where, how long ago, what to press next; the picture; the last hour. */
import { signal, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { Badge } from "../alerts/badge";
import { acknowledge, dispose, outcomes } from "../alerts/commands";
import { age_s, outcomeWords, stateWords, what } from "../alerts/list";
import { isClosed, isUnacknowledged, LEVEL } from "../alerts/order";
import { counts, lastClosed, nextUnacknowledged, select, selectedRow, sortNow } from "../alerts/store";
import { dateTime, tick, timeOfDay } from "../clock";
import { type Alert, DISPOSITION_CODES } from "../contracts";
import { ago, lang, t } from "../i18n";
import { Recorded } from "../records/recorded";
import { city, mayCommand, mayLive, mayRecorded, needsCase, siteName, siteOf } from "../session";
import { nearCameras } from "./cameras";
import { LiveTile } from "./tile";

/** A camera is asked for only once the operator rests on an alert: each look is written to the audit log. */
const REST_MS = 300;

export const closing = signal(false);

export function goNext(): void {
  const id = nextUnacknowledged();
  if (!id) return;
  closing.value = false;
  select(id);
  sortNow();
}

export function acknowledgeOpen(): void {
  const alert = selectedRow.value?.alert;
  if (alert && mayCommand.value && isUnacknowledged(alert)) acknowledge(alert);
}

export function openClosing(): void {
  const alert = selectedRow.value?.alert;
  if (alert && mayCommand.value && mayClose(alert)) closing.value = true;
}

export function closeWith(digit: number): void {
  const alert = selectedRow.value?.alert;
  const code = DISPOSITION_CODES[digit - 1];
  if (!closing.value || !alert || !code) return;
  closing.value = false;
  dispose(alert, code);
}

function mayClose(alert: Alert): boolean {
  return !isUnacknowledged(alert) && !isClosed(alert) && !alert.isa.disposed;
}

export function IncidentPanel() {
  const alert = selectedRow.value?.alert;
  return (
    <section class="incident" id="incident" aria-labelledby="incident-title" tabIndex={-1}>
      {alert ? <Incident key={alert.alert_id} alert={alert} /> : <Nothing />}
    </section>
  );
}

function Nothing() {
  const closed = lastClosed.value;
  const waiting = counts.value.all;
  return (
    <div class="nothing">
      <h2 id="incident-title">{waiting ? t("incident.none_waiting", { n: waiting }) : t("incident.none")}</h2>
      {closed && (
        <p>
          {t("incident.closed_last", { what: what(closed), where: siteName(closed.site_id) })}{" "}
          {stateWords(closed)}
        </p>
      )}
      {waiting > 0 && <NextButton />}
    </div>
  );
}

function NextButton() {
  return (
    <button type="button" class="next" onClick={goNext}>
      <kbd>F8</kbd> {t("do.next")}
    </button>
  );
}

function Incident({ alert }: { alert: Alert }) {
  const site = siteOf(alert.site_id);
  const other = site?.name[lang.value === "ko" ? "en" : "ko"];
  tick.value;
  return (
    <>
      <header
        class={`headline p${LEVEL[alert.priority]} ${isUnacknowledged(alert) ? "waiting" : "answered"}`}
        data-alert={alert.alert_id}
      >
        <Badge priority={alert.priority} size={52} />
        <div class="headline-words">
          <h2 id="incident-title">
            {what(alert)} <span class="headline-priority">{t(`priority.${alert.priority}`)}</span>
          </h2>
          <p class="where">
            <strong>{siteName(alert.site_id)}</strong>
            {other && <span class="other-name">{other}</span>}
          </p>
          <p class="address">
            {site?.address && <span>{site.address}</span>}
            <span>{t("incident.device", { device: alert.device.device_id })}</span>
            {alert.code112 <= 1 && <strong>{t("incident.code112", { code: alert.code112 })}</strong>}
          </p>
        </div>
        <div class="headline-age">
          <strong>{ago(age_s(alert))}</strong>
          <span>{dateTime(alert.occurrence.last_us)}</span>
          {alert.occurrence.n > 1 && (
            <span>
              {t("incident.occurrence", { n: alert.occurrence.n, first: timeOfDay(alert.received_us) })}
            </span>
          )}
        </div>
      </header>
      <Next alert={alert} />
      <Pictures alert={alert} />
    </>
  );
}

/** One sentence and one button: what to press now. */
function Next({ alert }: { alert: Alert }) {
  const outcome = outcomes.value.get(alert.alert_id);
  const busy = outcome?.kind === "sending" || outcome?.kind === "waiting" || outcome?.kind === "accepted";
  const open = closing.value && mayClose(alert);
  return (
    <div class="next-step">
      <p class="sentence" role="status">
        {outcome ? (
          <strong class={`outcome ${outcome.kind}`}>{outcomeWords(outcome)}</strong>
        ) : (
          sentence(alert)
        )}
      </p>
      {mayCommand.value && (
        <div class="buttons">
          {isUnacknowledged(alert) && (
            <button type="button" class="primary" disabled={busy} onClick={() => acknowledge(alert)}>
              <kbd>F2</kbd> {t("do.ack")}
            </button>
          )}
          {mayClose(alert) && (
            <button
              type="button"
              class="primary"
              disabled={busy}
              aria-expanded={open}
              onClick={() => (closing.value = !open)}
            >
              <kbd>F6</kbd> {t("do.close")}
            </button>
          )}
          {!isUnacknowledged(alert) || counts.value.all > 1 ? <NextButton /> : null}
        </div>
      )}
      {open && <Causes />}
    </div>
  );
}

function sentence(alert: Alert): string {
  if (isClosed(alert)) return stateWords(alert);
  if (!mayCommand.value) return `${stateWords(alert)} · ${t("incident.only_looking")}`;
  if (isUnacknowledged(alert)) return t("incident.press_ack");
  return `${stateWords(alert)} · ${t("incident.press_close")}`;
}

/** Digits act only while this group has the focus (console.md 3.1 rule 3). */
function Causes() {
  const group = useRef<HTMLFieldSetElement>(null);
  // Not after the next paint: on a busy screen a digit typed right after F6 would go nowhere.
  // The group, not its first button: a stray Enter must not say what an emergency was.
  useLayoutEffect(() => group.current?.focus(), []);
  return (
    <fieldset
      ref={group}
      class="causes"
      tabIndex={-1}
      onKeyDown={(event) => {
        const digit = /^(?:Digit|Numpad)([1-8])$/.exec(event.code)?.[1];
        if (!digit || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
        event.preventDefault();
        closeWith(Number(digit));
      }}
    >
      <legend>{t("close.title")}</legend>
      {DISPOSITION_CODES.map((code, index) => (
        <button type="button" key={code} onClick={() => closeWith(index + 1)}>
          <kbd>{index + 1}</kbd> {t(`disposition.${code}`)}
        </button>
      ))}
    </fieldset>
  );
}

function Pictures({ alert }: { alert: Alert }) {
  const cameras = nearCameras(alert, city.value);
  const chosen = useSignal<string | null>(null);
  const rested = useSignal(false);
  useEffect(() => {
    const timer = setTimeout(() => {
      rested.value = true;
    }, REST_MS);
    return () => clearTimeout(timer);
  }, []);
  const camera = cameras.find((c) => c.camera_id === chosen.value) ?? cameras[0];
  if (!camera) return city.value && <p class="no-camera">{t("live.no_camera")}</p>;
  return (
    <div class="pictures">
      {cameras.length > 1 && (
        <fieldset class="cameras" aria-label={t("live.cameras")}>
          {cameras.map((c) => (
            <button
              type="button"
              key={c.camera_id}
              aria-pressed={c === camera}
              onClick={() => {
                chosen.value = c.camera_id;
              }}
            >
              {c.camera_id} <span>{Math.round(c.distance_m)} m</span>
            </button>
          ))}
        </fieldset>
      )}
      {mayLive.value ? (
        <div class="stage">{rested.value && <LiveTile camera={camera} purpose={alert.alert_id} />}</div>
      ) : (
        <p class="not-allowed">{t("live.not_allowed")}</p>
      )}
      {mayRecorded.value ? (
        rested.value && (
          <Recorded key={camera.camera_id} alert={alert} camera={camera} needsCase={needsCase.value} />
        )
      ) : (
        <p class="not-allowed">{t("recorded.not_allowed")}</p>
      )}
    </div>
  );
}
