/** The bar on every screen: time, link, sound, what waits, who sits here, language, help. */
import { useSignal } from "@preact/signals";
import { Badge } from "../alerts/badge";
import { cursor_at_us, link } from "../alerts/channel";
import { undecided } from "../alerts/commands";
import { enable, mute, mute_left_s, soundState, unmute } from "../alerts/sound";
import { counts } from "../alerts/store";
import { dateTime, now_us, tick } from "../clock";
import type { Priority } from "../contracts";
import { duration, lang, t, word } from "../i18n";
import { session, signOut } from "../session";
import { help } from "./help";

export function Bar() {
  tick.value;
  return (
    <header class="bar">
      <a class="skip" href="#alerts">
        {t("bar.skip")}
      </a>
      <h1>{t("app.name")}</h1>
      <time class="clock">{dateTime(now_us())} KST</time>
      <LinkState />
      <Waiting />
      <Sound />
      <span class="who">
        {session.value?.account} · {word("role", session.value?.role ?? "", "role.unknown")}
      </span>
      <SignOut />
      <LanguageSwitch />
      <button type="button" onClick={() => (help.value = true)}>
        <kbd>?</kbd> {t("bar.help")}
      </button>
    </header>
  );
}

function LinkState() {
  const age_s = cursor_at_us.value ? (now_us() - cursor_at_us.value) / 1_000_000 : null;
  return (
    <span class={`link ${link.value}`}>
      <i class="dot" aria-hidden="true" />
      {t(`link.${link.value}`)}
      {age_s !== null && <small>{t("link.age", { age: duration(age_s) })}</small>}
    </span>
  );
}

function Waiting() {
  const { p1, p2 } = counts.value;
  return (
    <span class="counts" role="status" aria-label={t("bar.waiting", { p1, p2 })}>
      <span>{t("bar.unacknowledged")}</span>
      <Count priority="emergency" n={p1} />
      <span>·</span>
      <Count priority="high" n={p2} />
    </span>
  );
}

function Count({ priority, n }: { priority: Priority; n: number }) {
  return (
    <span class={`count ${n ? "some" : ""}`}>
      <Badge priority={priority} size={22} numbered={false} />
      {t(`priority.${priority}`)} {t("bar.count", { n })}
    </span>
  );
}

/** What is, as text; what can be done, as a button. */
function Sound() {
  if (soundState.value === "off") return <span class="sound off">{t("sound.off")}</span>;
  const muted = soundState.value === "muted";
  return (
    <>
      <span class={`sound ${soundState.value}`}>
        {muted ? t("sound.muted", { left: duration(mute_left_s.value) }) : t("sound.on")}
      </span>
      {muted ? (
        <button type="button" onClick={unmute}>
          {t("sound.unmute")}
        </button>
      ) : (
        <button type="button" onClick={mute}>
          <kbd>F3</kbd> {t("sound.mute")}
        </button>
      )}
    </>
  );
}

function SignOut() {
  const failed = useSignal(false);
  const leave = async () => {
    failed.value = !(await signOut());
  };
  return (
    <>
      {failed.value && (
        <span class="wrong" role="alert">
          {t("bar.sign_out_failed")}
        </span>
      )}
      <button type="button" class="sign-out" disabled={undecided.value} onClick={() => void leave()}>
        {t("bar.sign_out")}
      </button>
    </>
  );
}

export function LanguageSwitch() {
  const other = lang.value === "ko" ? "en" : "ko";
  return (
    <button
      type="button"
      class="language"
      lang={other}
      onClick={() => {
        lang.value = other;
      }}
    >
      {other === "ko" ? "한국어" : "English"}
    </button>
  );
}

/** Bars that stay until the fault is gone. */
export function Faults() {
  return (
    <div class="faults">
      {link.value === "lost" && (
        <p class="fault link-lost" role="alert">
          {t("link.lost_bar")}
        </p>
      )}
      {soundState.value === "off" && (
        <button type="button" class="fault sound-off" onClick={() => void enable()}>
          {t("sound.off_bar")}
        </button>
      )}
    </div>
  );
}
