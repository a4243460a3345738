/** The strip: footage, hatched gaps, alert mark, playhead. A slider for assistive tools. */
import { useMemo, useRef } from "preact/hooks";
import { Badge } from "../alerts/badge";
import { timeOfDay } from "../clock";
import type { Alert, Timeline } from "../contracts";
import { t } from "../i18n";
import { type Kind, STEP_US, type Stretch, share, stretches, ticks } from "./axis";

const TEN_MINUTES_US = 600_000_000;
const KINDS: readonly Kind[] = ["before", "recorded", "open", "pending", "gap"];
/** In thousandths: a stretch this wide has room for its words. */
const WORDS_FIT = 250;

interface Props {
  timeline: Timeline;
  head_us: number;
  alert: Alert;
  seek: (at_us: number) => void;
  words: string;
}

/** A label at the edge would be cut by it. */
function labelled(timeline: Timeline): number[] {
  return ticks(timeline, TEN_MINUTES_US).filter((at_us) => Math.abs(share(timeline, at_us) - 0.5) < 0.48);
}

/** In the bar and in its legend the same, so that they cannot differ. */
function Stripe({ kind, x, width }: Pick<Stretch, "kind" | "x" | "width">) {
  const hatched = kind === "gap" ? { fill: "url(#hatch)" } : {};
  return <rect class={`stripe ${kind}`} x={x} width={width} y="0" height="100" {...hatched} />;
}

export function TimelineBar({ timeline, head_us, alert, seek, words }: Props) {
  // The playhead renders this many times a second; the footage changes when it is asked for again.
  const drawn = useMemo(() => stretches(timeline), [timeline]);
  const present = KINDS.filter((kind) => drawn.some((one) => one.kind === kind));
  const before = drawn.find((one) => one.kind === "before" && one.width >= WORDS_FIT);
  const axis = useRef<HTMLDivElement>(null);
  const percent = (at_us: number) => `${share(timeline, at_us) * 100}%`;
  const point = (event: PointerEvent) => {
    const box = axis.current?.getBoundingClientRect();
    if (!box) return;
    const part = (event.clientX - box.left) / box.width;
    seek(timeline.from_us + part * (timeline.to_us - timeline.from_us));
  };
  return (
    <div class="strip">
      <div
        class="lane"
        role="slider"
        tabIndex={0}
        aria-label={t("recorded.slider")}
        aria-valuemin={0}
        aria-valuemax={Math.round((timeline.to_us - timeline.from_us) / 1_000_000)}
        aria-valuenow={Math.round((head_us - timeline.from_us) / 1_000_000)}
        aria-valuetext={words}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          point(event);
        }}
        onPointerMove={(event) => {
          if (event.currentTarget.hasPointerCapture(event.pointerId)) point(event);
        }}
        onKeyDown={(event) => {
          const to = {
            Home: timeline.from_us,
            End: timeline.to_us,
            PageUp: head_us - 12 * STEP_US,
            PageDown: head_us + 12 * STEP_US,
          }[event.code];
          if (to === undefined) return;
          event.preventDefault();
          event.stopPropagation();
          seek(to);
        }}
      >
        <div class="axis" ref={axis}>
          <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
            <defs>
              <pattern
                id="hatch"
                width="6"
                height="6"
                patternUnits="userSpaceOnUse"
                patternTransform="rotate(45)"
              >
                <rect width="6" height="6" class="hatch-ground" />
                <rect width="2.5" height="6" class="hatch-line" />
              </pattern>
            </defs>
            {drawn.map((one) => (
              <Stripe key={one.from_us} {...one} />
            ))}
          </svg>
          {before && (
            <span class="before-words" style={{ width: `${before.width / 10}%` }}>
              {t("timeline.before")}
            </span>
          )}
          <span class="playhead" style={{ left: percent(head_us) }} />
          <span
            class="mark"
            title={t("recorded.alert_at", { at: timeOfDay(alert.occurrence.last_us) })}
            style={{ left: percent(alert.occurrence.last_us) }}
          >
            <Badge priority={alert.priority} size={24} />
          </span>
        </div>
      </div>
      <div class="ticks" aria-hidden="true">
        {labelled(timeline).map((at_us) => (
          <span key={at_us} style={{ left: percent(at_us) }}>
            {timeOfDay(at_us).slice(0, 5)}
          </span>
        ))}
      </div>
      <p class="legend" aria-hidden="true">
        {present.map((kind) => (
          <span key={kind}>
            <svg viewBox="0 0 18 14" width="18" height="14" aria-hidden="true">
              <Stripe kind={kind} x={0} width={18} />
            </svg>
            {t(`timeline.${kind}`)}
          </span>
        ))}
        <span>
          <Badge priority={alert.priority} size={24} /> {t("recorded.alert")}
        </span>
        <span>
          <i class="key-head" /> {t("recorded.head")}
        </span>
      </p>
    </div>
  );
}
