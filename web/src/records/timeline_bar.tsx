/** The strip: footage, hatched gaps, alert mark, playhead. A slider for assistive tools. */
import { LEVEL } from "../alerts/order";
import { timeOfDay } from "../clock";
import type { Alert, Timeline, TimelineItem } from "../contracts";
import { t } from "../i18n";
import { isBeforeFirst, isFootage, isMissing, STEP_US, share, ticks } from "./axis";

const TEN_MINUTES_US = 600_000_000;
const WIDTH = 1000;
/** A gap of a second in an hour would be a third of a pixel: it is drawn wide enough to be seen. */
const GAP_MIN = 3;

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

function classOf(item: TimelineItem): string {
  if (isFootage(item)) return `footage ${item.state}`;
  if (isBeforeFirst(item)) return "before";
  return isMissing(item) ? "missing" : "pending";
}

export function TimelineBar({ timeline, head_us, alert, seek, words }: Props) {
  const x = (at_us: number) => share(timeline, at_us) * WIDTH;
  const percent = (at_us: number) => `${share(timeline, at_us) * 100}%`;
  const point = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
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
        <svg viewBox={`0 0 ${WIDTH} 40`} preserveAspectRatio="none" aria-hidden="true">
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
          {timeline.items.map((item) => (
            <rect
              key={item.from_us}
              class={classOf(item)}
              x={x(item.from_us)}
              width={Math.max(isMissing(item) ? GAP_MIN : 0, x(item.to_us) - x(item.from_us))}
              y="0"
              height="40"
              {...(classOf(item) === "missing" ? { fill: "url(#hatch)" } : {})}
            />
          ))}
        </svg>
        <span
          class={`mark p${LEVEL[alert.priority]}`}
          title={t("recorded.alert_at", { at: timeOfDay(alert.occurrence.last_us) })}
          style={{ left: percent(alert.occurrence.last_us) }}
        />
        <span class="playhead" style={{ left: percent(head_us) }} />
      </div>
      <div class="ticks" aria-hidden="true">
        {labelled(timeline).map((at_us) => (
          <span key={at_us} style={{ left: percent(at_us) }}>
            {timeOfDay(at_us).slice(0, 5)}
          </span>
        ))}
      </div>
      <p class="legend" aria-hidden="true">
        <span class="key-footage" /> {t("timeline.recorded")} <span class="key-open" /> {t("timeline.open")}{" "}
        <span class="key-gap" /> {t("timeline.gap")} <span class="key-alert" /> {t("recorded.alert")}
      </p>
    </div>
  );
}
