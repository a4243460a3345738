/** Fragments into a <video> by MediaSource, close to now and for days (console.md 4.5). */

const TRIM_S = 30;
const SEEK_BEHIND_S = 3;
const BUFFER_ERROR_S = 10;
const QUEUE_MAX_BYTES = 32 * 1024 * 1024;
const RATE = 1.08;
const SLACK = 1.5;

interface Append {
  bytes: Uint8Array<ArrayBuffer>;
  /** null: an init segment. */
  capture_us: number | null;
}

interface Mark {
  media_s: number;
  capture_us: number;
}

export class Player {
  private source: MediaSource | null = null;
  private buffer: SourceBuffer | null = null;
  private url = "";
  private queue: Append[] = [];
  private queued_bytes = 0;
  private current: Append | null = null;
  private before_s = 0;
  private marks: Mark[] = [];
  private typical_s = 0.5;
  private disposed = false;

  constructor(
    private readonly video: HTMLVideoElement,
    private readonly codec: string,
    /** The player cannot go on: the owner asks for the stream anew. */
    private readonly broken: () => void,
  ) {
    video.muted = true;
    video.playsInline = true;
    video.addEventListener("error", this.fail);
    this.attach();
  }

  append(bytes: Uint8Array<ArrayBuffer>, capture_us: number | null): void {
    this.queue.push({ bytes, capture_us });
    this.queued_bytes += bytes.byteLength;
    if (this.queued_bytes > QUEUE_MAX_BYTES) this.fail();
    else this.pump();
  }

  /** When the picture on the screen was taken. */
  shown_us(): number | null {
    const at_s = this.video.currentTime;
    const mark = this.marks.findLast((m) => m.media_s <= at_s + 0.001);
    return mark ? mark.capture_us + (at_s - mark.media_s) * 1_000_000 : null;
  }

  buffered_s(): number {
    const ranges = this.video.buffered;
    return ranges.length ? ranges.end(ranges.length - 1) - this.video.currentTime : 0;
  }

  dropped(): number {
    return this.video.getVideoPlaybackQuality().droppedVideoFrames;
  }

  /** Release the decoder: browsers cap how many a page may hold. */
  dispose(): void {
    this.disposed = true;
    this.video.removeEventListener("error", this.fail);
    this.queue = [];
    this.buffer = null;
    this.source = null;
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
  }

  private attach(): void {
    const source = new MediaSource();
    this.source = source;
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
    source.addEventListener("sourceopen", () => this.open(source), { once: true });
  }

  private open(source: MediaSource): void {
    if (this.disposed) return;
    try {
      this.buffer = source.addSourceBuffer(`video/mp4; codecs="${this.codec}"`);
    } catch {
      this.fail();
      return;
    }
    this.buffer.mode = "segments";
    this.buffer.addEventListener("updateend", this.updated);
    this.buffer.addEventListener("error", this.fail);
    this.pump();
  }

  private readonly fail = (): void => {
    if (this.disposed) return;
    this.dispose();
    this.broken();
  };

  private readonly updated = (): void => {
    if (this.disposed) return;
    if (this.current?.capture_us != null) this.note(this.current.capture_us);
    this.current = null;
    if (!this.trim()) this.pump();
    this.chase();
  };

  private pump(): void {
    if (!this.buffer || this.buffer.updating || this.source?.readyState !== "open") return;
    const next = this.queue.shift();
    if (!next) return;
    this.queued_bytes -= next.bytes.byteLength;
    this.current = next;
    this.before_s = this.end_s();
    try {
      this.buffer.appendBuffer(next.bytes);
    } catch {
      this.fail();
    }
  }

  private end_s(): number {
    const ranges = this.buffer?.buffered;
    return ranges?.length ? ranges.end(ranges.length - 1) : Number.NaN;
  }

  /** Remember which media time was captured when; a fragment starts where the buffer ended before it. */
  private note(capture_us: number): void {
    const ranges = this.buffer?.buffered;
    if (!ranges?.length) return;
    const last_start = ranges.start(ranges.length - 1);
    const media_s = Math.max(Number.isNaN(this.before_s) ? last_start : this.before_s, last_start);
    const length_s = ranges.end(ranges.length - 1) - media_s;
    if (length_s > 0) this.typical_s = 0.8 * this.typical_s + 0.2 * length_s;
    this.marks.push({ media_s, capture_us });
    while (this.marks.length > 200) this.marks.shift();
  }

  /** Keep at most 30 s behind the playhead. Return whether the buffer is busy with it. */
  private trim(): boolean {
    const ranges = this.buffer?.buffered;
    const until_s = this.video.currentTime - TRIM_S / 2;
    if (!this.buffer || !ranges?.length || this.video.currentTime - ranges.start(0) < TRIM_S) return false;
    this.buffer.remove(0, until_s);
    return true;
  }

  /** Catch up by rate; seek only when far behind, for each seek empties the decoder. */
  private chase(): void {
    const ranges = this.video.buffered;
    if (!ranges.length) return;
    const live_s = ranges.end(ranges.length - 1);
    const start_s = ranges.start(ranges.length - 1);
    if (this.video.currentTime < start_s || live_s - this.video.currentTime > SEEK_BEHIND_S) {
      if (live_s - this.video.currentTime > BUFFER_ERROR_S && this.video.currentTime > start_s)
        return this.fail();
      this.video.currentTime = Math.max(start_s, live_s - this.typical_s);
    }
    this.video.playbackRate = live_s - this.video.currentTime > SLACK * this.typical_s + 0.1 ? RATE : 1;
    if (this.video.paused) void this.video.play().catch(() => undefined);
  }
}
