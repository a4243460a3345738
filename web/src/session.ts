/** Who sits at this console, what the role may do here, and the city it may see. The server decides. */
import { computed, signal } from "@preact/signals";
import type { CityView, SessionView, Site } from "./contracts";
import { request } from "./http";
import { lang } from "./i18n";

const SESSION = "/api/v1/session";
const LIVE_ROLES = ["operator", "supervisor"];
const RECORDED_ROLES = ["supervisor", "auditor"];
const COMMAND_ROLES = ["operator", "supervisor"];

export const session = signal<SessionView | null>(null);
export const sessionError = signal(false);
export const city = signal<CityView | null>(null);

const role = computed(() => session.value?.role ?? "");
export const signedIn = computed(() => session.value?.account != null);
export const mayLive = computed(() => LIVE_ROLES.includes(role.value));
export const mayRecorded = computed(() => RECORDED_ROLES.includes(role.value));
export const mayCommand = computed(() => COMMAND_ROLES.includes(role.value));
/** An auditor looks at footage under a case number, never under the alert alone (design.md). */
export const needsCase = computed(() => role.value === "auditor");

export async function loadSession(): Promise<void> {
  const answer = await request<SessionView>("GET", SESSION);
  sessionError.value = answer.body === null;
  if (answer.body) session.value = answer.body;
}

/** Return whether it worked. */
export async function signIn(as: string): Promise<boolean> {
  const answer = await request<SessionView>("POST", SESSION, { role: as });
  if (answer.status < 200 || answer.status >= 300) return false;
  await loadSession();
  return signedIn.value;
}

/** Return whether the server forgot us; the page then begins anew, so that nothing of this person stays in it. */
export async function signOut(): Promise<boolean> {
  const answer = await request<null>("DELETE", SESSION);
  if (answer.status < 200 || answer.status >= 300) return false;
  // Without an account nothing is kept over the reload.
  if (session.value) session.value = { ...session.value, account: null, role: null };
  location.reload();
  return true;
}

export async function loadCity(): Promise<void> {
  const answer = await request<CityView>("GET", "/api/v1/city");
  if (answer.body) city.value = answer.body;
}

export function siteOf(id: string): Site | undefined {
  return city.value?.sites.find((site) => site.site_id === id);
}

export function siteName(id: string): string {
  return siteOf(id)?.name[lang.value] ?? id;
}
