/** One live tile: picture, age, stale cover; a still with its reason where the browser cannot play. */
import { type Signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { dateTime, now_us, timeOfDay } from "../clock";
import { LIVE_FRAGMENT, LIVE_INIT, LIVE_JPEG, type LiveServerSays, type StreamName } from "../contracts";
import { ago, t, word } from "../i18n";
import { canPlay, codecName, type NearCamera } from "./cameras";
import { change, type LiveFrame, report, subscribe, unsubscribe } from "./live";
import { Player } from "./player";

const STALE_S = 3;
const LOOK_MS = 200;
const REPORT_MS = 5_000;
const REBUILD_MS = 1_000;

type Picture = "opening" | "video" | "still";

interface View {
  picture: Picture;
  codec: string;
  age_s: number | null;
  stale: boolean;
  /** A reason in words, while there is one. */
  trouble: { kind: "gap"; cause: string; from_us: number } | { kind: "err"; code: string } | null;
}

const START: View = { picture: "opening", codec: "", age_s: null, stale: false, trouble: null };

/** The life of one subscription, outside the component so that it can be read in one piece. */
class Tile {
  private ch = 0;
  private player: Player | null = null;
  private streams: StreamName[];
  private codec = "";
  private want: "video" | "still" = "video";
  private still_us: number | null = null;
  private fresh_ms = performance.now();
  private last_s = -1;
  private reported_ms = 0;
  private readonly timer = setInterval(() => this.look(), LOOK_MS);
  private rebuild: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly view: Signal<View>,
    private readonly video: HTMLVideoElement,
    private readonly canvas: HTMLCanvasElement,
    camera: NearCamera,
    purpose: string,
  ) {
    // Main first; the other stream is the way out when its codec cannot be played here.
    this.streams = (["main", "sub"] as const).filter(
      (s) => camera.device?.streams.includes(s) ?? s === "main",
    );
    const stream = this.streams.shift() ?? "main";
    this.ch = subscribe({ camera: camera.camera_id, purpose, stream, want: "video" }, this);
  }

  close(): void {
    clearInterval(this.timer);
    clearTimeout(this.rebuild);
    unsubscribe(this.ch);
    this.player?.dispose();
  }

  lost(): void {
    this.player?.dispose();
    this.player = null;
  }

  said(message: LiveServerSays): void {
    switch (message.op) {
      case "init":
        if (this.want === "video") this.begin(message.codec);
        break;
      case "gap":
        this.set({
          trouble:
            message.to_us === null ? { kind: "gap", cause: message.cause, from_us: message.from_us } : null,
        });
        break;
      case "err":
        this.set({ trouble: { kind: "err", code: message.code } });
        break;
      case "key":
      case "drop":
        break;
    }
  }

  frame({ kind, capture_us, bytes }: LiveFrame): void {
    if (kind === LIVE_JPEG) void this.still(bytes, capture_us);
    else if (this.want === "still") return;
    else if (kind === LIVE_INIT) this.player?.append(bytes, null);
    else if (kind === LIVE_FRAGMENT) {
      this.player?.append(bytes, capture_us);
      if (this.view.value.trouble) this.set({ trouble: null });
    }
  }

  private begin(codec: string): void {
    this.codec = codec;
    this.player?.dispose();
    this.player = null;
    if (canPlay(codec)) {
      this.player = new Player(this.video, codec, () => this.again());
      this.set({ codec, picture: "video", trouble: null });
      return;
    }
    const other = this.streams.shift();
    if (other) return change(this.ch, { stream: other });
    this.want = "still";
    this.set({ codec, picture: "still" });
    change(this.ch, { want: "still" });
  }

  /** The player broke: a new subscription brings the init and the last key picture again. */
  private again(): void {
    this.player = null;
    clearTimeout(this.rebuild);
    this.rebuild = setTimeout(() => change(this.ch, {}), REBUILD_MS);
  }

  /** A canvas needs no blob address, which the content policy would have to allow. */
  private async still(bytes: Uint8Array<ArrayBuffer>, capture_us: number): Promise<void> {
    const image = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })).catch(() => null);
    if (!image) return;
    this.canvas.width = image.width;
    this.canvas.height = image.height;
    this.canvas.getContext("2d")?.drawImage(image, 0, 0);
    image.close();
    this.still_us = capture_us;
    this.fresh_ms = performance.now();
    this.set({ picture: "still", codec: this.codec, trouble: null });
  }

  private look(): void {
    if (this.player && this.video.currentTime !== this.last_s && this.video.readyState >= 2) {
      this.last_s = this.video.currentTime;
      this.fresh_ms = performance.now();
    }
    const shown_us = this.want === "still" ? this.still_us : (this.player?.shown_us() ?? null);
    const silent_s = (performance.now() - this.fresh_ms) / 1000;
    const age_s = shown_us === null ? null : Math.max(0, (now_us() - shown_us) / 1_000_000);
    const limit_s = this.want === "still" ? STALE_S * 2 : STALE_S;
    this.set({ age_s, stale: silent_s > limit_s || (age_s ?? 0) > limit_s * 2 });
    if (this.player && performance.now() - this.reported_ms > REPORT_MS) {
      this.reported_ms = performance.now();
      report({ ch: this.ch, buffer_s: this.player.buffered_s(), dropped: this.player.dropped() });
    }
  }

  private set(part: Partial<View>): void {
    this.view.value = { ...this.view.value, ...part };
  }
}

export function LiveTile({ camera, purpose }: { camera: NearCamera; purpose: string }) {
  const view = useSignal<View>(START);
  const video = useRef<HTMLVideoElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (!video.current || !canvas.current) return;
    view.value = START;
    const tile = new Tile(view, video.current, canvas.current, camera, purpose);
    return () => tile.close();
  }, [camera.camera_id, purpose]);

  const { picture, codec, age_s, stale, trouble } = view.value;
  const cover = trouble || stale || age_s === null;
  return (
    <figure
      class="tile"
      data-picture={picture}
      data-stale={stale}
      aria-label={t("live.of", { camera: camera.camera_id })}
    >
      <figcaption>
        <span class={`chip${picture === "video" && !cover ? " live" : ""}`}>
          {picture === "still" ? t("live.still") : cover ? t("live.not_live") : t("live.live")}
        </span>
        <span class="chip">{camera.camera_id}</span>
        {age_s !== null && (
          <span class="chip age" data-age={age_s.toFixed(1)}>
            {t("live.age", { at: timeOfDay(now_us() - age_s * 1_000_000), age: age_s.toFixed(1) })}
          </span>
        )}
        {codec && <span class="chip">{codecName(codec)}</span>}
      </figcaption>
      <div class="screen">
        <video ref={video} hidden={picture === "still"} muted playsInline />
        <canvas ref={canvas} hidden={picture !== "still"} />
        {cover && (
          <div class={`cover${age_s === null ? " empty" : ""}`}>
            <p>{coverWords(view.value)}</p>
          </div>
        )}
        {picture === "still" && (
          <p class="why" role="status">
            {t("live.unsupported", { codec: codecName(codec) })}
          </p>
        )}
      </div>
    </figure>
  );
}

function coverWords({ picture, age_s, trouble }: View): string {
  if (trouble?.kind === "gap") {
    const cause = word("gap", trouble.cause, "gap.unknown");
    return t("live.gap", { cause, since: timeOfDay(trouble.from_us) });
  }
  if (trouble?.kind === "err") return word("live_err", trouble.code, "live_err.unknown");
  if (age_s === null) return picture === "opening" ? t("live.opening") : t("live.waiting");
  return t("live.stale", { age: ago(age_s), at: dateTime(now_us() - age_s * 1_000_000) });
}
