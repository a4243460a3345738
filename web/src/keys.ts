/** Keys of the operator console. `code`, never `key`: with a Hangul input method `key` is "Process". */
import { move, showHeld } from "./alerts/list";
import { mute } from "./alerts/sound";
import { select, selected } from "./alerts/store";
import { help } from "./bar/help";
import { acknowledgeOpen, closing, goNext, openClosing } from "./incident/incident";

const ACTIONS: Record<string, () => void> = {
  F2: acknowledgeOpen,
  F3: mute,
  F6: openClosing,
  F8: goNext,
  ArrowUp: () => move("up"),
  ArrowDown: () => move("down"),
  Home: () => {
    showHeld();
    move("first");
  },
  End: () => move("last"),
  Escape: leave,
};

function leave(): void {
  if (closing.value) closing.value = false;
  else select(null);
  document.getElementById("alerts")?.focus();
}

function enter(): void {
  if (selected.value) document.querySelector<HTMLElement>("#incident button, #incident")?.focus();
}

/** Enter and `?` act only on the list, so that they neither press a button twice nor act as character keys. */
function actionOf(event: KeyboardEvent): (() => void) | undefined {
  const target = event.target as HTMLElement;
  if (target.closest("input, textarea, select, dialog")) return undefined;
  const onList = target === document.body || target.id === "alerts";
  if (event.code === "Enter") return onList ? enter : undefined;
  if (event.code === "Slash" && event.shiftKey) return onList ? () => (help.value = true) : undefined;
  if (event.shiftKey) return undefined;
  return ACTIONS[event.code];
}

export function listen(): void {
  addEventListener("keydown", (event) => {
    if (event.isComposing || event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const action = actionOf(event);
    if (!action) return;
    event.preventDefault();
    if (!event.repeat || event.code.startsWith("Arrow")) action();
  });
}
