"""Whether a picture in the page moves, and what covered it: looked at in the page, not taken from the player's word."""

from playwright.sync_api import Page

_MOVES = """async place => {
  const video = document.querySelector(`${place} video`);
  const canvas = document.createElement('canvas');
  canvas.width = 64; canvas.height = 36;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const look = () => { pen.drawImage(video, 0, 0, 64, 36); return [...pen.getImageData(0, 0, 64, 36).data]; };
  const frame = () => new Promise(done => video.requestVideoFrameCallback(done));
  await frame();
  const before = look();
  for (let i = 0; i < 12; i++) await frame();
  return look().some((value, at) => Math.abs(value - before[at]) > 40);
}"""


def live(page: Page) -> None:
    """Wait until the live tile plays."""
    page.locator(".tile[data-picture=video] .chip.live").wait_for()
    page.wait_for_function("() => document.querySelector('.tile video').currentTime > 0")


def moves(page: Page, place: str = ".tile") -> bool:
    """Compare two pictures twelve frames apart."""
    return bool(page.evaluate(_MOVES, place))


def note_covers(page: Page) -> None:
    """Let the page note in `covers` what covers the recorded picture from now on, and for how long."""
    page.evaluate("""() => {
      globalThis.covers = [];
      const look = () => {
        const told = document.querySelector('.playback .cover')?.textContent ?? null;
        const last = covers.at(-1);
        if (last && last.ms === null && last.told !== told) last.ms = performance.now() - last.from;
        if (told && (!last || last.ms !== null)) covers.push({told, from: performance.now(), ms: null});
      };
      const deck = document.querySelector('.deck');
      new MutationObserver(look).observe(deck, {childList: true, subtree: true, characterData: true});
    }""")
