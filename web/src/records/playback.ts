/** Plays an archive range through hls.js, by wall time. Loaded only when somebody plays. */
import Hls, { ErrorTypes, Events, type Fragment } from "hls.js/light";
import type { StreamName } from "../contracts";

export interface Range {
  camera_id: string;
  from_us: number;
  to_us: number;
  purpose: string;
  stream: StreamName;
}

export type PlaybackTrouble = "codec" | "forbidden" | "unavailable";

export function playlistUrl(range: Range): string {
  const query = new URLSearchParams({
    from: String(range.from_us),
    to: String(range.to_us),
    purpose: range.purpose,
    stream: range.stream,
  });
  return `/api/v1/archive/cameras/${encodeURIComponent(range.camera_id)}/playlist.m3u8?${query}`;
}

/** A decoder that fails again after two fresh starts will not be better for a third. */
const RECOVERIES_MAX = 2;

export class Playback {
  // The content policy forbids workers made from text; passing fMP4 through costs the page little.
  private readonly hls = new Hls({
    enableWorker: false,
    maxBufferLength: 20,
    backBufferLength: 30,
    autoStartLoad: false,
  });
  private wanted_us: number | null = null;
  private recoveries = 0;
  private known: readonly Fragment[] = [];

  constructor(
    private readonly video: HTMLVideoElement,
    range: Range,
    trouble: (what: PlaybackTrouble) => void,
  ) {
    this.hls.on(Events.LEVEL_LOADED, (_, data) => {
      if (this.known.length) return;
      this.known = data.details.fragments;
      // hls.js would begin at the first entry, and at a gap there it stays: begin where we want to be.
      const at_s = this.wanted_us === null ? 0 : (this.mediaTime(this.wanted_us) ?? 0);
      this.wanted_us = null;
      this.hls.startLoad(at_s);
    });
    this.hls.on(Events.ERROR, (_, data) => {
      if (!data.fatal) return;
      const status = data.response?.code ?? 0;
      if (status === 401 || status === 403) trouble("forbidden");
      else if (data.type === ErrorTypes.MEDIA_ERROR && data.details.startsWith("bufferAddCodec"))
        trouble("codec");
      else if (
        data.type === ErrorTypes.MEDIA_ERROR &&
        !data.details.includes("Codec") &&
        this.recoveries++ < RECOVERIES_MAX
      )
        this.hls.recoverMediaError();
      else trouble(data.type === ErrorTypes.MEDIA_ERROR ? "codec" : "unavailable");
    });
    this.hls.loadSource(playlistUrl(range));
    this.hls.attachMedia(video);
  }

  /** Wall time of the picture shown; null while there is none: a playhead without a picture stands at zero. */
  at_us(): number | null {
    if (this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return null;
    const fragment = this.known.findLast((f) => f.start <= this.video.currentTime + 0.001);
    if (fragment?.programDateTime == null) return null;
    return (fragment.programDateTime + (this.video.currentTime - fragment.start) * 1000) * 1000;
  }

  seek(at_us: number): void {
    const at_s = this.mediaTime(at_us);
    if (at_s === null) this.wanted_us = at_us;
    else this.video.currentTime = at_s;
  }

  private mediaTime(at_us: number): number | null {
    const at_ms = at_us / 1000;
    const starts = (f: Fragment): number => f.programDateTime ?? Number.POSITIVE_INFINITY;
    const fragment = this.known.findLast((f) => starts(f) <= at_ms) ?? this.known[0];
    if (fragment?.programDateTime == null) return null;
    return Math.max(0, fragment.start + (at_ms - fragment.programDateTime) / 1000);
  }

  dispose(): void {
    this.hls.destroy();
    this.video.removeAttribute("src");
    this.video.load();
  }
}
