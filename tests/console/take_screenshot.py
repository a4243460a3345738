"""Takes docs/console.png: the real console of a whole box during an alert, for the README.

    .venv/bin/python -m tests.console.take_screenshot [FILE]

Needs what the console tests need (Chromium, fonts-nanum, the built page) and about 2 min, most of them for footage
that fills the strip. Look at the picture afterwards: what happened, where, how long ago, what to press.
"""

import io
import sys
import tempfile
from pathlib import Path
from typing import Final

import av
import numpy as np
from playwright.sync_api import FloatRect, Page, sync_playwright

from services.runtime.identity import ROLES
from tests.console.conftest import ARGUMENTS, CHROMIUM, ROOT, missing
from tests.console.moving import live
from tests.console.real_box import US, RealBox, real_box

PICTURE: Final = ROOT / "docs" / "console.png"
PICTURE_BYTES_MAX: Final = 400_000
FOOTAGE_US: Final = 90 * US
ROLE: Final = "supervisor"
CAMERAS: Final = 4
"""Two for each alley."""
SOMEBODY_IN_THE_MIDDLE: Final = """() => {
  const video = document.querySelector('.tile video');
  const canvas = document.createElement('canvas');
  canvas.width = 64; canvas.height = 36;
  const pen = canvas.getContext('2d');
  pen.drawImage(video, 0, 0, 64, 36);
  const coat = pen.getImageData(26, 24, 16, 1).data;
  return [...coat].some((red, at) => at % 4 === 0 && red - coat[at + 2] > 90);
}"""


def take(box: RealBox, page: Page, file: Path) -> None:
    """Let an earlier alert be answered, then show a new one while its picture is live."""
    page.goto(box.endpoints.gateway)
    page.locator(".roles button").nth(ROLES.index(ROLE)).click()
    page.locator(".link.live").wait_for()
    box.press("bell-2")
    page.locator(".headline").wait_for()
    page.keyboard.press("F2")
    page.locator(".row.acked").wait_for()
    box.wait_until(lambda: _footage_us(box) > FOOTAGE_US, 120)
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    box.press("bell-1")
    page.locator(".headline.p1.waiting").wait_for()
    live(page)
    page.locator(".lane").wait_for()
    page.wait_for_function("() => document.querySelector('.headline-age strong').textContent.match(/[5-9]/)")
    page.wait_for_function(SOMEBODY_IN_THE_MIDDLE)
    shot = page.screenshot()
    box_px = page.locator(".tile video").first.bounding_box()
    assert box_px is not None
    file.write_bytes(_smaller(shot, box_px))


def _smaller(shot: bytes, part: FloatRect) -> bytes:
    """Take the lowest bits off the camera's picture: its grain alone is half of the file."""
    with av.open(io.BytesIO(shot), "r") as source:
        picture = np.asarray(next(source.decode(video=0)).to_ndarray(format="rgb24"), dtype=np.uint8)
    left, top, width, height = (round(part[name]) for name in ("x", "y", "width", "height"))
    video = picture[top : top + height, left : left + width]
    video[:] = (video & 0xF0) + 8
    target = io.BytesIO()
    with av.open(target, "w", format="image2pipe") as sink:
        stream = sink.add_stream("png", rate=1, options={"compression_level": "9", "pred": "mixed"})
        stream.width, stream.height, stream.pix_fmt = picture.shape[1], picture.shape[0], "rgb24"
        sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        sink.mux(stream.encode(None))
    return target.getvalue()


def _footage_us(box: RealBox) -> int:
    items = box.timeline("cam-1").items
    return sum(item.to_us - item.from_us for item in items if item.state in {"recorded", "open"})


def main() -> int:
    """Return the exit status."""
    reason = missing()
    if reason:
        sys.stderr.write(f"{reason}\n")
        return 2
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    with (
        tempfile.TemporaryDirectory() as data,
        real_box(Path(data), cameras=CAMERAS) as box,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1920, "height": 1080}, locale="ko-KR", timezone_id="UTC")
        take(box, context.new_page(), file)
        browser.close()
    size = file.stat().st_size
    sys.stdout.write(f"{file}: {size} bytes\n")
    return 0 if size <= PICTURE_BYTES_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
