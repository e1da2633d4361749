"""The page in a real browser, with drawings and the model of the demo. It needs Playwright (of the
extra `test`) and Debian's Chromium: `apt-get install -y chromium`, as .ci/run does.
"""

import base64
import re
import urllib.parse

import pytest
from PIL import Image

import vlmo_jax
from tests.search.server.conftest import serving
from vlmo_jax.datasets import open_source
from vlmo_jax.datasets.images import decode_image
from vlmo_jax.search import open_index
from vlmo_jax.search.building.update import update_index
from vlmo_jax.search.demo.bundled import BUNDLED
from vlmo_jax.search.queries import Searcher

drawing = pytest.importorskip("docs.draw_search", reason="pip install playwright")
pytestmark = pytest.mark.skipif(
    drawing.find_chromium() is None, reason=f"Chromium is not installed: {drawing.INSTALL}"
)
DRAWINGS = 60


def save_drawings(folder):
    """Drawings with their names beside them, half of them in a folder, a day for each of those."""
    (folder / "round").mkdir(parents=True)
    source = open_source("emoji", "unseen_artist")
    captions = set()
    for row in range(0, len(source), 15):
        record = source[row]
        caption = record.texts[0]
        if len(caption.split()) > 2 or caption in captions:
            continue
        captions.add(caption)
        number = len(captions)
        place = folder / ("round" if number % 2 else "") / f"{caption.replace(' ', '-')}.jpg"
        exif = Image.Exif()
        if number % 2:
            exif.get_ifd(0x8769)[0x9003] = f"2024:0{1 + number // 20}:15 10:00:00"
        decode_image(record.image).save(place, exif=exif, quality=95)
        place.with_suffix(".txt").write_text(caption)
        if number == DRAWINGS:
            return folder
    raise AssertionError("too few drawings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawings")
    save_drawings(folder / "pictures")
    return folder


@pytest.fixture(scope="module")
def address(folder):
    model = vlmo_jax.load(BUNDLED, show_progress=False)
    update_index(folder / "pictures", folder / "index", model, BUNDLED)
    with (
        open_index(folder / "index") as index,
        serving(Searcher(index, model)) as client,
    ):
        yield f"http://{client.address}"


@pytest.fixture(scope="module")
def browser():
    with drawing.open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """A page that may neither complain nor ask anybody else."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(10_000)
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: asked.url.startswith((address, "blob:")) or wrong.append(asked.url),
    )
    page.expected = []  # complaints that a test has provoked
    yield page
    page.close()
    assert [one for one in wrong if not any(part in one for part in page.expected)] == []


def names(page):
    return page.locator(".tile img").evaluate_all("all => all.map((image) => image.alt)")


def status(page):
    return page.locator("#status").inner_text()


def search(page, text):
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")
    settle(page, re.escape(urllib.parse.urlencode({"text": text.split(" -")[0]})))
    assert "best first" in status(page)


def settle(page, pattern):
    """Until the address is that, and the answer is drawn."""
    page.wait_for_url(re.compile(pattern))
    page.locator("#results:not(.waiting)").wait_for(state="attached")
    page.locator("#status", has_text="pictures").wait_for()


def captions(folder):
    return [path.read_text() for path in sorted(folder.glob("pictures/**/*.txt"))]


def give(page, path, how):
    """Drops or pastes a file as a person would."""
    data = base64.b64encode(path.read_bytes()).decode()
    page.evaluate(
        """([data, how]) => {
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], "a.jpg", { type: "image/jpeg" }));
          const give = (Kind, name, field) => document.body.dispatchEvent(
            new Kind(name, { bubbles: true, cancelable: true, [field]: transfer })
          );
          if (how === "paste") give(ClipboardEvent, "paste", "clipboardData");
          else for (const name of ["dragenter", "dragover", "drop"]) {
            give(DragEvent, name, "dataTransfer");
          }
        }""",
        [data, how],
    )


def test_a_text_finds_its_drawing(page, address):
    page.goto(address)
    page.locator("#status", has_text="newest first").wait_for()
    for caption in ("cow", "purple heart", "woman golfing", "house"):
        search(page, caption)
        assert caption in names(page)[:3]
    assert len(names(page)) == 48 and status(page).startswith("48 of 60 pictures, best first")
    scores = [float(text) for text in page.locator(".tile .score:not(.copies)").all_inner_texts()]
    assert 1 > scores[0] > 0.3 and scores == sorted(scores, reverse=True)


def test_the_query_is_in_the_address(page, address, folder):
    first, second = captions(folder)[3:5]
    page.goto(address)
    search(page, first)
    found, url = names(page), page.url
    page.reload()
    settle(page, re.escape(url))
    assert names(page) == found and page.locator("#text").input_value() == first
    search(page, f"{second} -{first}")
    assert "without=" in page.url
    page.go_back()
    settle(page, re.escape(url))
    assert names(page) == found and page.locator("#text").input_value() == first


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_a_picture_is_given_and_its_address_can_be_loaded_again(page, address, folder, how):
    page.goto(address)
    page.locator(".tile").first.wait_for()
    path = sorted(folder.glob("pictures/*.jpg"))[4]
    give(page, path, how)
    settle(page, "upload=")
    caption = path.with_suffix(".txt").read_text()
    assert names(page)[0] == caption
    assert page.locator("#terms li").count() == 1 and page.locator("#drop").is_hidden()
    page.reload()
    settle(page, "upload=")
    assert names(page)[0] == caption
    assert page.locator("#terms img").evaluate("image => image.naturalWidth") > 0
    page.locator("#terms button").click()
    settle(page, f"{address}/$")
    assert "newest first" in status(page)


def test_more_like_this_and_without_this(page, address, folder):
    page.goto(address)
    search(page, captions(folder)[7])
    page.locator(".tile").nth(1).hover()
    page.locator(".tile .like").nth(1).click()
    settle(page, r"\?like=[0-9a-f]{16}$")
    found = names(page)
    page.get_by_role("button", name=f"Without {found[0]}").first.click(force=True)
    settle(page, "unlike=")
    assert found[0] not in names(page)
    chips = page.locator("#terms li").evaluate_all(
        "all => all.map((one) => one.textContent.trim())"
    )
    assert [re.sub(r"\s+", " ", one) for one in chips] == ["like", "without"]


def test_a_drawing_is_shown_large_and_left_with_escape(page, address):
    page.goto(address)
    page.locator(".tile .open").nth(2).click()
    large = page.locator("#large")
    large.wait_for()
    title = page.locator("#large-title")
    assert title.inner_text() == names(page)[2]
    page.locator("#large-image[src$='/original']").wait_for()
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == names(page)[3]
    page.keyboard.press("Escape")
    large.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.title") == names(page)[3]


def test_the_keyboard_reaches_everything(page, address):
    page.goto(address)
    page.locator(".tile").first.wait_for()
    focused = lambda: page.evaluate("document.activeElement.title || document.activeElement.id")
    page.locator("#results").focus()
    page.keyboard.press("/")
    assert focused() == "text"
    page.keyboard.press("ArrowDown")
    assert focused() == names(page)[0]
    page.keyboard.press("ArrowRight")
    assert focused() == names(page)[1]
    page.keyboard.press("ArrowDown")
    below = focused()
    assert below in names(page)[3:]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert focused() == names(page)[0]
    page.keyboard.press("Tab")
    assert focused() == "More like this"
    page.keyboard.press("Enter")
    settle(page, "like=")
    assert focused() == names(page)[0]
    page.keyboard.press("Enter")
    page.locator("#large").wait_for()


def test_filters_and_the_match(page, address, folder):
    page.goto(f"{address}/?text=a")
    page.locator(".tile").first.wait_for()
    page.locator("#folder").select_option("round")
    settle(page, "folder=round")
    inside = {path.read_text() for path in folder.glob("pictures/round/*.txt")}
    assert set(names(page)) == inside
    page.locator("#since").fill("2024-03-01")
    settle(page, "since=2024-03-01")
    assert 0 < len(names(page)) < len(inside)
    page.locator("#match").check()
    settle(page, "rerank=50")
    scores = page.locator(".tile .score").first.inner_text()
    assert re.fullmatch(r"match [\d.]+ %", scores)
    page.locator("#until").fill("2024-03-02")
    settle(page, "until=")
    page.get_by_text("Nothing here").wait_for()
    page.get_by_role("button", name="Clear filters").click()
    settle(page, r"\?text=a$")
    assert len(names(page)) == 48


def test_more_come_towards_the_end(page, address):
    page.goto(address)
    page.locator("#status", has_text="48 of 60").wait_for()
    page.mouse.wheel(0, 10_000)
    page.locator("#status", has_text="60 of 60").wait_for()
    assert len(set(names(page))) == 60 and page.locator("#more").is_hidden()


def test_a_narrow_window_and_the_dark(page, address):
    page.set_viewport_size({"width": 360, "height": 700})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/?text=heart")
    page.locator(".tile").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 27)"
    boxes = page.locator(".tile").evaluate_all(
        "all => all.map((tile) => tile.getBoundingClientRect().width)"
    )
    assert all(70 < width <= 336 for width in boxes)


def test_what_goes_wrong_is_told_in_words(page, address):
    page.expected = ["410", "415"]
    page.goto(f"{address}/?upload=forgotten")
    page.get_by_role("heading", name="That picture is gone").wait_for()
    assert "Drop it here once more" in page.locator("#empty").inner_text()
    page.locator("#file").set_input_files(
        {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"no picture"}
    )
    page.get_by_role("heading", name="Not a picture").wait_for()
    search(page, "heart")
    assert page.locator("#empty").is_hidden() and len(names(page)) == 48


def test_a_server_that_is_gone(page, address):
    page.goto(address)
    page.locator(".tile").first.wait_for()
    page.expected = ["ERR_FAILED"]
    page.route("**/search?*", lambda route: route.abort())
    page.locator("#text").fill("heart")
    page.locator("#text").press("Enter")
    page.get_by_role("heading", name="No answer").wait_for()
    assert "Is it still running?" in page.locator("#empty").inner_text()


def test_a_busy_server_is_asked_again(page, address):
    page.expected = ["503"]
    page.goto(address)
    page.locator("#status", has_text="newest first").wait_for()
    answers = iter([503])

    def answer(route):
        if next(answers, None):
            route.fulfill(status=503, headers={"Retry-After": "1"}, body="busy")
        else:
            route.continue_()

    page.route("**/search?*", answer)
    search(page, "heart")
    assert len(names(page)) == 48


def test_everything_has_a_name_for_those_who_do_not_see(page, address):
    page.goto(f"{address}/?text=heart")
    page.locator(".tile").first.wait_for()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, a, input, select, img")].filter((one) => {
          const label = one.getAttribute("aria-label") || one.textContent.trim() || one.alt
            || one.labels?.[0]?.textContent.trim() || one.querySelector?.("img")?.alt;
          return !label && one.alt !== "" && !one.hidden;
        }).map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert page.get_by_role("search").count() == 1 and page.get_by_role("main").count() == 1
