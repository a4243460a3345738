/** Sign-in. In the demo: one button per role; elsewhere the city's identity provider comes first. */
import { useSignal } from "@preact/signals";
import { LanguageSwitch } from "../bar/bar";
import { t, word } from "../i18n";
import { loadSession, session, sessionError, signIn } from "../session";

export function SignIn({ ended }: { ended: boolean }) {
  const failed = useSignal(false);
  const busy = useSignal(false);
  const roles = session.value?.demo_roles ?? [];
  const choose = async (role: string) => {
    busy.value = true;
    failed.value = !(await signIn(role));
    busy.value = false;
  };
  return (
    <main class="sign-in">
      <div class="sign-in-card">
        <LanguageSwitch />
        <h1>{t("app.name")}</h1>
        <p class="lead">{t(ended ? "login.ended" : "login.lead")}</p>
        {roles.length > 0 && (
          <>
            <h2>{t("login.demo")}</h2>
            <ul class="roles">
              {roles.map((role) => (
                <li key={role}>
                  <button type="button" disabled={busy.value} onClick={() => void choose(role)}>
                    <strong>{word("role", role, "role.unknown")}</strong>
                    <span>{word("duty", role, "duty.unknown")}</span>
                  </button>
                </li>
              ))}
            </ul>
          </>
        )}
        {session.value && roles.length === 0 && <p>{t("login.outside")}</p>}
        {(failed.value || sessionError.value) && (
          <p class="wrong" role="alert">
            {t(failed.value ? "login.failed" : "login.unreachable")}{" "}
            <button type="button" onClick={() => void loadSession()}>
              {t("recorded.again")}
            </button>
          </p>
        )}
      </div>
    </main>
  );
}
