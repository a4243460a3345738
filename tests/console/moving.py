"""Whether a picture in the page moves: frames are compared, not the player's word for it."""

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
