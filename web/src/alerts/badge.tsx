/** Priority as shape, number and colour, always all three (console.md 2.1). */
import type { Priority } from "../contracts";
import { t } from "../i18n";
import { LEVEL } from "./order";

const SHAPES: Record<Priority, preact.JSX.Element> = {
  emergency: <path d="M12 2 23 21.5H1Z" />,
  high: <path d="M12 1 23 12 12 23 1 12Z" />,
  medium: <circle cx="12" cy="12" r="10.2" />,
  low: <rect x="2.5" y="2.5" width="19" height="19" />,
};

interface Props {
  priority: Priority;
  /** Flashes beside the text while nobody has acknowledged. */
  flashing?: boolean;
  size?: number;
  /** Beside a count the grade's number would be taken for another count. */
  numbered?: boolean;
}

export function Badge({ priority, flashing = false, size = 24, numbered = true }: Props) {
  const level = LEVEL[priority];
  return (
    <svg
      class={`badge p${level}${flashing ? " flashing" : ""}`}
      viewBox="0 0 24 24"
      width={size}
      height={size}
      role="img"
      aria-label={t(`priority.${priority}`)}
    >
      {SHAPES[priority]}
      {numbered && (
        <text x="12" y={level === 1 ? 19 : 16.5} text-anchor="middle">
          {level}
        </text>
      )}
    </svg>
  );
}
