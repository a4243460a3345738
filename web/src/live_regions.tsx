/** What a screen reader hears: an emergency at once, all else politely (console.md 9). */
import { what } from "./alerts/list";
import { LEVEL } from "./alerts/order";
import { listed, unacknowledged } from "./alerts/store";
import { t } from "./i18n";
import { siteName } from "./session";

export function LiveRegions() {
  const waiting = unacknowledged.value;
  const emergency = waiting
    .filter((alert) => LEVEL[alert.priority] === 1)
    .sort((a, b) => b.occurrence.last_us - a.occurrence.last_us)[0];
  return (
    <div class="heard-only">
      <p aria-live="assertive">
        {emergency ? `${t("priority.emergency")}. ${what(emergency)}. ${siteName(emergency.site_id)}` : ""}
      </p>
      <p aria-live="polite">{t("list.summary", { waiting: waiting.length, all: listed.value })}</p>
    </div>
  );
}
