/** The bar on every screen: time, link, sound, what waits, who sits here, language, help. */
import { useSignal } from "@preact/signals";
import { Badge } from "../alerts/badge";
import { cursor_at_us, link } from "../alerts/channel";
import { undecided } from "../alerts/commands";
import { enable, mute, mute_left_s, soundState, unmute } from "../alerts/sound";
import { counts } from "../alerts/store";
import { dateTime, now_us, tick } from "../clock";
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
      <Badge priority="emergency" size={20} />
      <strong class={p1 ? "some" : ""}>{p1}</strong>
      <Badge priority="high" size={20} />
      <strong class={p2 ? "some" : ""}>{p2}</strong>
      <small aria-hidden="true">{t("bar.unacknowledged")}</small>
    </span>
  );
}

function Sound() {
  const left_s = mute_left_s.value;
  if (soundState.value === "off") return <span class="sound off">{t("sound.off")}</span>;
  return (
    <button type="button" class={`sound ${soundState.value}`} onClick={left_s > 0 ? unmute : mute}>
      <kbd>F3</kbd> {left_s > 0 ? t("sound.muted", { left: duration(left_s) }) : t("sound.mute")}
    </button>
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
