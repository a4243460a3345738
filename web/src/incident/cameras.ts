/** Pure: which cameras belong to an alert, nearest first, and which codecs this browser plays. */
import type { Alert, CityView, DeviceView } from "../contracts";

export interface NearCamera {
  camera_id: string;
  distance_m: number;
  device: DeviceView | undefined;
}

const RADIUS_M = 500;
const CAMERAS_MAX = 4;
const METRES_PER_DEGREE = 111_320;

/** Good to a metre within 500 m. */
export function distance_m(a: { lon: number; lat: number }, b: { lon: number; lat: number }): number {
  const north = (a.lat - b.lat) * METRES_PER_DEGREE;
  const east = (a.lon - b.lon) * METRES_PER_DEGREE * Math.cos((a.lat * Math.PI) / 180);
  return Math.hypot(north, east);
}

/** Alerting's own order first; else the cameras of the registry within 500 m, then those of the site. */
export function nearCameras(alert: Alert, city: CityView | null): NearCamera[] {
  const cameras = city?.devices.filter((device) => device.kind === "camera") ?? [];
  const deviceOf = (id: string) => cameras.find((device) => device.device_id === id);
  const ranked = [...alert.evidence]
    .sort((a, b) => a.rank - b.rank)
    .map((e) => ({ camera_id: e.camera_id, distance_m: e.distance_m, device: deviceOf(e.camera_id) }));
  const near = cameras
    .map((device) => ({ camera_id: device.device_id, distance_m: distance_m(alert.device, device), device }))
    .filter((c) => c.distance_m <= RADIUS_M || c.device.site_id === alert.site_id)
    .sort((a, b) => a.distance_m - b.distance_m);
  const known = new Set(ranked.map((c) => c.camera_id));
  return [...ranked, ...near.filter((c) => !known.has(c.camera_id))].slice(0, CAMERAS_MAX);
}

export function canPlay(codec: string): boolean {
  return "MediaSource" in globalThis && MediaSource.isTypeSupported(`video/mp4; codecs="${codec}"`);
}

/** The codec's name as people say it. */
export function codecName(codec: string): string {
  if (/^(hev1|hvc1)/.test(codec) || /^h\.?265|hevc/i.test(codec)) return "H.265";
  if (/^avc[13]/.test(codec) || /^h\.?264/i.test(codec)) return "H.264";
  return codec;
}
