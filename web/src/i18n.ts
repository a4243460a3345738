/** All words come from two dictionaries; the switch sets the page's `lang`. */
import { effect, signal } from "@preact/signals";
import en from "./i18n/en.json";
import ko from "./i18n/ko.json";

export type Lang = "ko" | "en";
export type Key = keyof typeof ko;
const DICTIONARIES: Record<Lang, Record<Key, string>> = { ko, en };
const STORED = "safealley.lang";

export const lang = signal<Lang>(localStorage.getItem(STORED) === "en" ? "en" : "ko");

effect(() => {
  document.documentElement.lang = lang.value;
  localStorage.setItem(STORED, lang.value);
});

/** Return the words of a key with `{name}` filled in. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return DICTIONARIES[lang.value][key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

/** Return the words of a closed word such as `gap.disk_full`, or the fallback for one we do not know yet. */
export function word(group: string, value: string, fallback: Key): string {
  const key = `${group}.${value}`;
  return key in ko ? t(key as Key) : `${t(fallback)} (${value})`;
}

export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return t("age.s", { s });
  if (s < 3600) return t("age.m", { m: Math.floor(s / 60), s: s % 60 });
  if (s < 86_400) return t("age.h", { h: Math.floor(s / 3600), m: Math.floor((s % 3600) / 60) });
  return t("age.d", { d: Math.floor(s / 86_400), h: Math.floor((s % 86_400) / 3600) });
}

export function ago(seconds: number): string {
  return t("age.ago", { age: duration(seconds) });
}
