/** The page: sign-in, or the operator console. */
import { effect, signal } from "@preact/signals";
import { render } from "preact";
import { startChannel } from "./alerts/channel";
import { AlertList } from "./alerts/list";
import { startSound } from "./alerts/sound";
import { rows } from "./alerts/store";
import { Bar, Faults } from "./bar/bar";
import { Help } from "./bar/help";
import { lang, t } from "./i18n";
import { IncidentPanel } from "./incident/incident";
import { listen } from "./keys";
import { LiveRegions } from "./live_regions";
import { SignIn } from "./login/sign_in";
import { loadCity, loadSession, signedIn } from "./session";

/** Cameras come, go and change their codec while a console is open. */
const CITY_MS = 30_000;
const started = signal(false);

function Console() {
  return (
    <>
      <Bar />
      <Faults />
      <main class="console">
        <AlertList />
        <IncidentPanel />
      </main>
      <Help />
      <LiveRegions />
    </>
  );
}

/** A session that ended leaves the last state on the screen, covered and marked as old. */
function App() {
  if (!started.value) return null;
  const kept = rows.value.size > 0;
  return (
    <>
      {(signedIn.value || kept) && (
        <div class="whole" inert={!signedIn.value}>
          <Console />
        </div>
      )}
      {!signedIn.value && <SignIn ended={kept} />}
    </>
  );
}

effect(() => {
  document.title = t("app.title");
  lang.value;
});
effect(() => {
  if (!signedIn.value) return;
  startSound();
  void loadCity();
  startChannel();
  const timer = setInterval(() => void loadCity(), CITY_MS);
  return () => clearInterval(timer);
});
listen();
await loadSession();
started.value = true;
const root = document.getElementById("app");
if (root) render(<App />, root);
