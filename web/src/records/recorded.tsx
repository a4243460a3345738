/** The last hour of one camera: footage, gaps with their causes, playback across them. */
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { dateTime, now_us, parseKst, timeOfDay } from "../clock";
import type { Alert, StreamName, Timeline, TimelineItem } from "../contracts";
import { request } from "../http";
import { duration, type Key, t, word } from "../i18n";
import { canPlay, codecName, type NearCamera } from "../incident/cameras";
import {
  clamp,
  footageFrom,
  HOUR_US,
  isBeforeFirst,
  isMissing,
  itemAt,
  missingBetween,
  STEP_US,
} from "./axis";
import type { Playback, PlaybackTrouble } from "./playback";
import { TimelineBar } from "./timeline_bar";

const BEFORE_ALERT_US = 10_000_000;
const LOOK_MS = 100;
const GAP_SHOWN_MS = 1_500;
/** The last frame before a gap ends a little before it. */
const GAP_NEAR_US = 300_000;
const CASE = "safealley.case";

interface Props {
  alert: Alert;
  camera: NearCamera;
  needsCase: boolean;
}

export function Recorded({ alert, camera, needsCase }: Props) {
  const purpose = useSignal(needsCase ? (sessionStorage.getItem(CASE) ?? "") : alert.alert_id);
  return (
    <section class="recorded" aria-labelledby="recorded-title">
      <h3 id="recorded-title">{t("recorded.title", { camera: camera.camera_id })}</h3>
      {needsCase && <CaseNumber purpose={purpose} />}
      {purpose.value && (
        <LastHour key={purpose.value} alert={alert} camera={camera} purpose={purpose.value} />
      )}
    </section>
  );
}

function CaseNumber({ purpose }: { purpose: Signal<string> }) {
  const given = useSignal(purpose.value);
  return (
    <form
      class="case"
      onSubmit={(event) => {
        event.preventDefault();
        purpose.value = given.value.trim();
        sessionStorage.setItem(CASE, purpose.value);
      }}
    >
      <label>
        {t("recorded.case")}{" "}
        <input
          required
          maxLength={128}
          value={given.value}
          onInput={(event) => {
            given.value = event.currentTarget.value;
          }}
        />
      </label>
      <button type="submit">{t("recorded.case_use")}</button>
    </form>
  );
}

type Answer = { timeline: Timeline } | { trouble: Key } | null;

function timelineUrl(
  camera_id: string,
  from_us: number,
  to_us: number,
  purpose: string,
  stream: StreamName,
): string {
  const query = new URLSearchParams({ from: String(from_us), to: String(to_us), purpose, stream });
  return `/api/v1/archive/cameras/${encodeURIComponent(camera_id)}/timeline?${query}`;
}

/** The stream that this browser can play; null when there is none. */
function playable(camera: NearCamera): StreamName | null {
  const codec = camera.device?.codec;
  if (!codec || !/^[a-z0-9]+\./i.test(codec))
    return codecName(codec ?? "") === "H.265" && !canPlay("hvc1.1.6.L93.B0") ? null : "main";
  return canPlay(codec) ? "main" : null;
}

function LastHour({ alert, camera, purpose }: { alert: Alert; camera: NearCamera; purpose: string }) {
  const answer = useSignal<Answer>(null);
  const asked = useSignal(0);
  const stream = playable(camera);
  useEffect(() => {
    let gone = false;
    const to_us = now_us();
    void request<Timeline>(
      "GET",
      timelineUrl(camera.camera_id, to_us - HOUR_US, to_us, purpose, stream ?? "main"),
    ).then(({ status, body }) => {
      if (gone) return;
      answer.value = body
        ? { timeline: body }
        : { trouble: status === 403 ? "recorded.forbidden" : "recorded.failed" };
    });
    return () => {
      gone = true;
    };
  }, [asked.value, camera.camera_id, purpose]);
  const again = () => {
    asked.value += 1;
  };
  if (!answer.value) return <p role="status">{t("recorded.loading")}</p>;
  if ("trouble" in answer.value) {
    return (
      <p class="not-allowed" role="status">
        {t(answer.value.trouble)}{" "}
        <button type="button" onClick={again}>
          {t("recorded.again")}
        </button>
      </p>
    );
  }
  const { timeline } = answer.value;
  return (
    <Deck
      key={`${timeline.from_us}`}
      alert={alert}
      camera={camera}
      purpose={purpose}
      stream={stream}
      timeline={timeline}
      again={again}
    />
  );
}

interface DeckProps {
  alert: Alert;
  camera: NearCamera;
  purpose: string;
  stream: StreamName | null;
  timeline: Timeline;
  again: () => void;
}

function Deck({ alert, camera, purpose, stream, timeline, again }: DeckProps) {
  const video = useRef<HTMLVideoElement>(null);
  const playback = useRef<Playback | null>(null);
  const started = useSignal(false);
  const playing = useSignal(false);
  const trouble = useSignal<PlaybackTrouble | null>(stream === null ? "codec" : null);
  const head_us = useSignal(clamp(timeline, alert.occurrence.last_us - BEFORE_ALERT_US));
  const in_gap_ms = useRef(0);
  const crossed = useRef(false);
  /** The gap told last, by its start: once is enough for one that is shorter than the tolerance. */
  const told_us = useRef<number | null>(null);

  const open = async (): Promise<Playback | null> => {
    if (playback.current || !video.current || stream === null) return playback.current;
    started.value = true;
    const { Playback } = await import("./playback");
    if (!video.current) return null;
    const range = {
      camera_id: camera.camera_id,
      from_us: timeline.from_us,
      to_us: timeline.to_us,
      purpose,
      stream,
    };
    playback.current ??= new Playback(video.current, range, (what) => {
      trouble.value = what;
      playing.value = false;
    });
    return playback.current;
  };
  const goOn = () => {
    crossed.current = false;
    void video.current?.play().catch(() => undefined);
  };
  const seek = (at_us: number) => {
    head_us.value = clamp(timeline, at_us);
    in_gap_ms.current = 0;
    told_us.current = null;
    if (crossed.current) goOn();
    playback.current?.seek(head_us.value);
  };
  const play = async () => {
    const deck = await open();
    if (!deck) return;
    deck.seek(head_us.value);
    playing.value = true;
    await video.current?.play().catch(() => undefined);
  };
  const pause = () => {
    playing.value = false;
    crossed.current = false;
    video.current?.pause();
  };
  const toggle = () => void (playing.value ? pause() : play());

  useEffect(() => {
    const timer = setInterval(() => follow(), LOOK_MS);
    const follow = () => {
      if (!playing.value || !video.current) return;
      const at_us = playback.current?.at_us();
      if (crossed.current) {
        in_gap_ms.current += LOOK_MS;
        if (in_gap_ms.current < GAP_SHOWN_MS) return;
        goOn();
      }
      const missing = itemAt(timeline, head_us.value + GAP_NEAR_US);
      if (missing && isMissing(missing) && (video.current.paused || video.current.readyState < 3)) {
        // hls.js needs up to 8 s to step over a gap, or stays in it after a seek (hls.js#6814): say what is
        // missing for as long as it takes to read, then go on at the next footage.
        head_us.value = Math.max(head_us.value, missing.from_us);
        in_gap_ms.current += LOOK_MS;
        const next_us = footageFrom(timeline, head_us.value);
        if (in_gap_ms.current >= GAP_SHOWN_MS && next_us === null) pause();
        else if (in_gap_ms.current >= GAP_SHOWN_MS && next_us !== null) {
          seek(next_us + 50_000);
          told_us.current = missing.from_us;
        }
        return;
      }
      const jumped =
        at_us != null && !video.current.seeking
          ? missingBetween(timeline, head_us.value - GAP_NEAR_US, at_us + GAP_NEAR_US)
          : undefined;
      if (jumped && jumped.from_us !== told_us.current) {
        // Over a short gap hls.js jumps at once, or after a moment in it: stop for the rest of the time, so that
        // nobody takes what follows for what came next.
        crossed.current = true;
        told_us.current = jumped.from_us;
        head_us.value = Math.max(head_us.value, jumped.from_us);
        video.current.pause();
        return;
      }
      in_gap_ms.current = 0;
      if (at_us != null && !video.current.seeking) head_us.value = clamp(timeline, at_us);
      if (video.current.ended) pause();
    };
    return () => clearInterval(timer);
  }, []);
  useEffect(() => () => playback.current?.dispose(), []);

  const here = itemAt(timeline, head_us.value);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys of the controls inside, in one place
    <div class="deck" onKeyDown={(event) => keys(event, toggle, () => head_us.value, seek)}>
      {trouble.value && <p class="why">{troubleWords(trouble.value, camera)}</p>}
      <figure
        class="tile playback"
        hidden={!started.value || trouble.value === "codec"}
        data-picture="recorded"
      >
        <figcaption>
          <span class="chip">{t("recorded.recorded")}</span>
          <span class="chip">{dateTime(head_us.value)} KST</span>
        </figcaption>
        <div class="screen">
          <video ref={video} muted playsInline />
          {here && isMissing(here) && (
            <div class="cover empty">
              <p>{gapWords(here)}</p>
            </div>
          )}
        </div>
      </figure>
      <TimelineBar
        timeline={timeline}
        head_us={head_us.value}
        alert={alert}
        seek={seek}
        words={headWords(timeline, head_us.value)}
      />
      <div class="controls">
        <button type="button" class="play" onClick={toggle} disabled={stream === null}>
          <kbd>{t("key.space")}</kbd> {playing.value ? t("recorded.pause") : t("recorded.play")}
        </button>
        <button type="button" onClick={() => seek(head_us.value - STEP_US)}>
          <kbd>←</kbd> {t("recorded.back")}
        </button>
        <button type="button" onClick={() => seek(head_us.value + STEP_US)}>
          <kbd>→</kbd> {t("recorded.forward")}
        </button>
        <p>
          {t("recorded.head")}{" "}
          <output class="head" aria-label={t("recorded.head")}>
            {dateTime(head_us.value)} KST
          </output>
        </p>
        <GoTo timeline={timeline} seek={seek} />
        <button type="button" onClick={again}>
          {t("recorded.again")}
        </button>
      </div>
      <Gaps timeline={timeline} seek={seek} />
    </div>
  );
}

function keys(
  event: KeyboardEvent,
  toggle: () => void,
  head: () => number,
  seek: (at_us: number) => void,
): void {
  const target = event.target as HTMLElement;
  if (event.isComposing || target.closest("input, summary, table")) return;
  if (event.code === "Space" && target.closest("button") === null) toggle();
  else if (event.code === "ArrowLeft") seek(head() - STEP_US);
  else if (event.code === "ArrowRight") seek(head() + STEP_US);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/** What is asked for and cannot be shown is told: nobody may take another time for it. */
function GoTo({ timeline, seek }: { timeline: Timeline; seek: (at_us: number) => void }) {
  const text = useSignal("");
  const told = useSignal<string | null>(null);
  return (
    <form
      class="goto"
      onSubmit={(event) => {
        event.preventDefault();
        const at_us = parseKst(text.value, timeline.to_us);
        told.value = at_us === null ? t("recorded.goto_wrong") : notShown(timeline, at_us);
        if (at_us !== null && itemAt(timeline, at_us)) seek(at_us);
      }}
    >
      <label>
        {t("recorded.goto")}{" "}
        <input
          placeholder="HH:MM:SS"
          size={9}
          value={text.value}
          aria-invalid={told.value !== null}
          onInput={(event) => {
            text.value = event.currentTarget.value;
          }}
        />
      </label>
      <button type="submit">{t("recorded.goto_do")}</button>
      {told.value && (
        <span class="wrong" role="alert">
          {told.value}
        </span>
      )}
    </form>
  );
}

function notShown(timeline: Timeline, at_us: number): string | null {
  const item = itemAt(timeline, at_us);
  if (item) return isMissing(item) ? gapWords(item) : null;
  return t("recorded.goto_outside", { from: timeOfDay(timeline.from_us), to: timeOfDay(timeline.to_us) });
}

/** The gaps again as a table: the form that needs no eyes for hatching. */
function Gaps({ timeline, seek }: { timeline: Timeline; seek: (at_us: number) => void }) {
  const gaps = useMemo(
    () => timeline.items.filter((item) => isMissing(item) && !isBeforeFirst(item)),
    [timeline],
  );
  const ratio = (timeline.coverage_ratio * 100).toFixed(1);
  if (!gaps.length) return <p class="gaps-none">{noGaps(timeline, ratio)}</p>;
  return (
    <details class="gaps" open={gaps.length <= 3}>
      <summary>{t("recorded.gaps", { n: gaps.length, ratio })}</summary>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("recorded.gap_from")}</th>
            <th scope="col">{t("recorded.gap_length")}</th>
            <th scope="col">{t("recorded.gap_cause")}</th>
          </tr>
        </thead>
        <tbody>
          {gaps.map((gap) => (
            <tr key={gap.from_us}>
              <td>
                <button type="button" class="link" onClick={() => seek(gap.from_us - STEP_US)}>
                  {timeOfDay(gap.from_us)}
                </button>
              </td>
              <td>{duration((gap.to_us - gap.from_us) / 1_000_000)}</td>
              <td>{causeWords(gap)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

function noGaps(timeline: Timeline, ratio: string): string {
  const before = timeline.items.findLast(isBeforeFirst);
  return before
    ? t("recorded.no_gaps_since", { at: timeOfDay(before.to_us), ratio })
    : t("recorded.no_gaps", { ratio });
}

function causeWords(item: TimelineItem): string {
  if (isBeforeFirst(item)) return t("timeline.before");
  if (item.state !== "gap") return t(`timeline.${item.state}`);
  return word("gap", item.cause ?? "unknown", "gap.unknown");
}

function gapWords(item: TimelineItem): string {
  const length = duration((item.to_us - item.from_us) / 1_000_000);
  return t("recorded.in_gap", {
    cause: causeWords(item),
    from: timeOfDay(item.from_us),
    to: timeOfDay(item.to_us),
    length,
  });
}

function headWords(timeline: Timeline, at_us: number): string {
  const item = itemAt(timeline, at_us);
  const state = item ? (isMissing(item) ? gapWords(item) : t(`timeline.${item.state}`)) : "";
  return `${dateTime(at_us)} KST, ${state}`;
}

function troubleWords(trouble: PlaybackTrouble, camera: NearCamera): string {
  if (trouble === "codec")
    return t("recorded.unsupported", { codec: codecName(camera.device?.codec ?? "H.265") });
  return trouble === "forbidden" ? t("recorded.forbidden") : t("recorded.failed");
}
