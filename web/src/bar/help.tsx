/** The keys, as a dialog. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Key, t } from "../i18n";

export const help = signal(false);

const KEYS: [string, Key][] = [
  ["↑ ↓ Home End", "help.move"],
  ["Enter", "help.enter"],
  ["F2", "help.ack"],
  ["F6, 1–8", "help.close"],
  ["F8", "help.next"],
  ["F3", "help.mute"],
  ["← →", "help.step"],
  ["Esc", "help.esc"],
];

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (help.value) dialog.current?.showModal();
    else dialog.current?.close();
  }, [help.value]);
  return (
    <dialog
      ref={dialog}
      aria-labelledby="help-title"
      onClose={() => {
        help.value = false;
      }}
    >
      <h2 id="help-title">{t("help.title")}</h2>
      <dl>
        {KEYS.map(([key, does]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{t(does)}</dd>
          </div>
        ))}
      </dl>
      <button type="button" onClick={() => (help.value = false)}>
        <kbd>Esc</kbd> {t("help.shut")}
      </button>
    </dialog>
  );
}
