"""The pages in a real browser, driven as a person would: by keyboard and mouse."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the studio is not installed: pip install 'reverie[studio]'")
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser is installed: apt install chromium")


class Server:
    """`reverie studio`, which can be started again at its port."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache, self.port = folder, cache, 0
        self.start()

    def start(self) -> None:
        code = "from reverie.cli.main import main; main()"
        command = [sys.executable, "-c", code, "studio", str(self.folder), "--port", str(self.port)]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.cache), "PYTHONPATH": ":".join(sys.path)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.process.communicate(timeout=10)
        self.port = int(self.address.split(":")[2].split("/")[0])

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)


@pytest.fixture(scope="module")
def studio(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("watched")
    for run in runs.iterdir():
        shutil.copytree(run, folder / run.name)
    server = Server(folder, tmp_path_factory.mktemp("home"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def context(studio: Server) -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        context.set_default_timeout(30_000)
        context.new_page().goto(studio.address)
        yield context
        browser.close()


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert errors == []


def address(studio: Server, path: str) -> str:
    return f"http://127.0.0.1:{studio.port}{path}"


def depth(page: Any) -> int:
    return int(page.inner_text("#depth").split(" of ")[0])


def open_game(page: Any, studio: Server, name: str) -> None:
    page.goto(address(studio, f"/play/{name}"))
    page.wait_for_selector("#actions >> css=button, input")
    page.wait_for_selector("#depth:has-text('0 of 0')")


def restart(page: Any, studio: Server) -> None:
    studio.stop()
    page.wait_for_selector("#state:has-text('does not answer')")
    studio.start()
    page.wait_for_selector("#state:text-is('')", state="attached")
    page.wait_for_timeout(1500)


def wait_until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It has not happened."
        time.sleep(0.05)


def test_runs_are_listed_sorted_and_filtered(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/"))
    page.wait_for_selector("#runs tbody tr")
    assert page.locator("#runs tbody tr").count() == 2
    page.click("button[data-sort=name]")
    assert page.locator("#runs tbody tr td:nth-child(2)").all_inner_texts() == ["breakout", "cartpole"]
    page.click("button[data-sort=name]")
    assert page.locator("#runs tbody tr td:nth-child(2)").all_inner_texts() == ["cartpole", "breakout"]
    page.fill("#filter", "minatar")
    assert page.locator("#runs tbody tr td:nth-child(2)").all_inner_texts() == ["breakout"]


def test_curves_are_drawn_and_runs_compared(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/run/cartpole"))
    page.wait_for_selector("[data-chart='KL and entropies'] .scatterlayer .trace")
    assert "replay.batch_size" in page.inner_text("#changed")
    page.goto(address(studio, "/"))
    for name in ("cartpole", "breakout"):
        page.check(f"[aria-label='Choose {name}']")
    page.click("#compare")
    page.wait_for_selector("#chart .scatterlayer .trace")
    assert page.locator("#compared tbody tr").count() == 2


def test_a_game_by_keyboard_alone(page: Any, studio: Server, tmp_path: Path) -> None:
    open_game(page, studio, "breakout")
    page.keyboard.press("p")
    for key in ("ArrowLeft", "ArrowRight") * 20:
        page.keyboard.down(key)
        page.wait_for_timeout(150)
        page.keyboard.up(key)
        if page.inner_text("#pause") == "Play":  # the real episode is over, and the dream goes on
            page.keyboard.press("p")
        if depth(page) >= 50:
            break
    page.keyboard.press("p")
    wait_until(lambda: page.inner_text("#pause") == "Play")
    page.wait_for_timeout(300)
    reached = depth(page)
    assert reached >= 50
    for _ in range(10):
        page.keyboard.press("b")
    assert depth(page) == reached - 10
    page.keyboard.press("m")
    assert depth(page) == reached - 9
    page.keyboard.down("ArrowRight")
    page.keyboard.press("n")
    page.keyboard.up("ArrowRight")
    page.wait_for_selector(f"#depth:has-text('{reached - 8} of {reached - 8}')")
    assert page.locator("#branches option").count() == 2
    page.select_option("#branches", index=0)
    assert depth(page) == reached
    page.focus("[name=player][value=person]")
    page.keyboard.press("ArrowRight")
    assert page.is_checked("[name=player][value=policy]")
    page.keyboard.press("n")
    page.wait_for_selector(f"#depth:has-text('{reached + 1} of')")


def test_dreams_are_recorded_saved_and_opened(page: Any, studio: Server, tmp_path: Path) -> None:
    open_game(page, studio, "breakout")
    for index in range(4):
        page.click("#actions button >> nth=1")
        page.wait_for_selector(f"#depth:has-text('{index + 1} of')")
    picture = page.evaluate("() => document.querySelector('#dream').toDataURL()")
    with page.expect_download() as download:
        page.click("#gif")
    download.value.save_as(tmp_path / "dream.gif")
    assert (tmp_path / "dream.gif").read_bytes()[:4] == b"GIF8"
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "dream.json")
    assert len(json.loads((tmp_path / "dream.json").read_text())["steps"]) == 4
    page.click("text=Start, speed and chance")
    page.fill("#seed", "7")
    page.click("#new-env")
    page.wait_for_selector("#depth:has-text('0 of 0')")
    page.set_input_files("#open", tmp_path / "dream.json")
    page.wait_for_selector("#depth:has-text('4 of 4')")
    page.wait_for_timeout(200)
    assert page.evaluate("() => document.querySelector('#dream').toDataURL()") == picture
    page.click("#link")
    page.wait_for_selector("#state:has-text('link')")
    link = page.evaluate("() => location.href")
    for address, depth_shown, words in ((link, "4 of 4", ""), (link[:-9], "0 of 0", "The link is damaged")):
        page.goto("about:blank")
        page.goto(address)
        page.wait_for_selector(f"#depth:has-text('{depth_shown}')")
        page.wait_for_timeout(200)
        assert words in page.inner_text("#message")
        assert (page.evaluate("() => document.querySelector('#dream').toDataURL()") == picture) is (words == "")


def test_link_of_the_longest_dream_is_short_enough_for_an_address(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/"))
    actions = [int(action) for action in np.random.default_rng(0).integers(6, size=10_000)]
    length, same = page.evaluate(
        """async (actions) => {
            const { pack, unpack } = await import("/static/common.js");
            const dream = { steps: actions.map((action) => [action, "both", "person"]) };
            const text = await pack(dream);
            return [text.length, JSON.stringify(await unpack(text)) === JSON.stringify(dream)];
        }""",
        actions,
    )
    assert same
    assert length < 30_000


def test_bookmarks_are_remembered_by_the_browser(page: Any, studio: Server) -> None:
    open_game(page, studio, "breakout")
    assert page.is_disabled("#recall")
    for index in range(3):
        page.click("#actions button >> nth=1")
        page.wait_for_selector(f"#depth:has-text('{index + 1} of')")
    page.wait_for_timeout(200)
    picture = page.evaluate("() => document.querySelector('#dream').toDataURL()")
    page.click("#bookmark")
    page.wait_for_selector("#bookmarks option", state="attached")
    page.click("#actions button >> nth=2")
    page.wait_for_selector("#depth:has-text('4 of 4')")
    for reload in (False, True):
        if reload:
            open_game(page, studio, "breakout")
        assert page.locator("#bookmarks option").all_inner_texts() == ["3 steps from seed 0"]
        page.click("#recall")
        page.wait_for_selector("#depth:has-text('3 of 3')")
        page.wait_for_timeout(200)
        assert page.evaluate("() => document.querySelector('#dream').toDataURL()") == picture
    page.click("#forget")
    assert page.locator("#bookmarks option").count() == 0


def test_answer_that_comes_late_does_not_undo_a_rewind(page: Any, studio: Server) -> None:
    open_game(page, studio, "breakout")
    for index in range(3):
        page.click("#actions button >> nth=1")
        page.wait_for_selector(f"#depth:has-text('{index + 1} of')")
    page.evaluate("() => { document.querySelector('#one').click(); document.querySelector('#back').click(); }")
    page.wait_for_timeout(800)
    assert depth(page) == 2
    page.evaluate("() => { for (const name of ['one', 'back', 'back']) document.querySelector(`#${name}`).click(); }")
    page.wait_for_timeout(800)
    assert page.inner_text("#depth") == "0 of 4"
    assert page.locator("#branches option").count() == 2


def test_newest_episodes_are_reached_from_the_page_of_the_run(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/run/breakout"))
    page.click("text=Watch the newest episodes")
    page.wait_for_selector("#real-title:has-text('Recorded')")
    page.keyboard.press("m")
    wait_until(lambda: depth(page) == 1)


def test_diagnosis_is_made_when_asked_for(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/run/cartpole"))
    page.click("#examine")
    page.wait_for_selector("#findings li")
    page.wait_for_selector("#diagnosis-picture")
    assert "steps" in page.inner_text("#examined")
    page.click("text=Report")
    page.wait_for_selector("text=What to know first")


def test_keys_are_the_actions_of_an_atari_game(page: Any, studio: Server) -> None:
    open_game(page, studio, "example:boxing")
    assert page.locator("#actions button").all_inner_texts()[:4] == ["noop", "fire", "up", "right"]
    for keys in (["ArrowRight"], ["ArrowUp", "ArrowLeft"], ["ArrowDown", " "]):
        for key in keys:
            page.keyboard.down(key)
        reached = depth(page)
        page.keyboard.press("n")
        page.wait_for_selector(f"#depth:has-text('{reached + 1} of')")
        for key in keys:
            page.keyboard.up(key)
    with page.expect_download() as download:
        page.click("#save")
    steps = json.loads(Path(download.value.path()).read_text())["steps"]
    assert [action for action, *_ in steps] == [3, 7, 13]  # RIGHT, UPLEFT, DOWNFIRE


def test_a_button_is_held_as_a_key_is(page: Any, studio: Server) -> None:
    open_game(page, studio, "breakout")
    page.keyboard.press("p")
    page.hover("#actions button >> nth=2")
    page.mouse.down()
    page.wait_for_timeout(1500)
    page.mouse.up()
    page.keyboard.press("p")
    page.wait_for_timeout(300)
    with page.expect_download() as download:
        page.click("#save")
    actions = [step[0] for step in json.loads(Path(download.value.path()).read_text())["steps"]]
    assert actions.count(2) >= 3 and len(actions) == depth(page)


def test_vectors_are_drawn_as_bars(page: Any, studio: Server) -> None:
    open_game(page, studio, "cartpole")
    page.click("#actions button >> nth=0")
    page.wait_for_selector("#depth:has-text('1 of')")
    assert page.locator("#dream-vectors svg rect").count() == 4
    assert page.is_hidden("#dream")


def test_a_phone_has_no_sideways_scrolling(context: Any, studio: Server) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 375, "height": 800})
    for path in ("/", "/run/cartpole", "/play/breakout"):
        page.goto(address(studio, path))
        page.wait_for_timeout(700)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 375, path
    page.close()


def test_every_control_has_a_name(page: Any, studio: Server) -> None:
    for path in ("/", "/run/cartpole", "/play/breakout"):
        page.goto(address(studio, path))
        page.wait_for_timeout(700)
        unnamed = page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, select, canvas")]
                .filter((each) => !(each.textContent.trim() || each.ariaLabel || each.labels?.length))
                .map((each) => each.outerHTML)"""
        )
        assert unnamed == [], path


def test_game_survives_a_restart_of_the_server(page: Any, studio: Server) -> None:
    open_game(page, studio, "breakout")
    for index in range(3):
        page.click("#actions button >> nth=2")
        page.wait_for_selector(f"#depth:has-text('{index + 1} of')")
    picture = page.evaluate("() => document.querySelector('#dream').toDataURL()")
    restart(page, studio)
    assert page.evaluate("() => document.querySelector('#dream').toDataURL()") == picture
    page.click("#actions button >> nth=2")
    page.wait_for_selector("#depth:has-text('4 of 4')")


def test_episode_that_was_left_survives_a_restart_of_the_server(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/play/breakout#episodes"))
    page.wait_for_selector("#real-title:has-text('Recorded')")
    page.keyboard.press("m")
    page.keyboard.press("m")
    page.click("#actions button >> nth=1")
    page.wait_for_selector("#depth:has-text('3 of 3')")
    page.wait_for_timeout(200)
    picture = page.evaluate("() => document.querySelector('#dream').toDataURL()")
    restart(page, studio)
    assert page.inner_text("#depth") == "3 of 3"
    assert page.evaluate("() => document.querySelector('#dream').toDataURL()") == picture


def test_run_that_disappears_leaves_the_table(page: Any, studio: Server) -> None:
    page.goto(address(studio, "/"))
    page.wait_for_selector("#runs tbody tr:nth-child(2)")
    shutil.rmtree(studio.folder / "cartpole")
    page.wait_for_selector("#runs tbody tr:nth-child(2)", state="detached")
    page.goto(address(studio, "/run/cartpole"))
    assert "There is no run" in page.inner_text("body")


def test_oversized_messages_end_their_socket_alone(studio: Server) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    cookie = (studio.cache / ".cache" / "reverie" / "studio-cookie").read_text()
    origin = f"http://127.0.0.1:{studio.port}"

    def open_socket() -> Any:
        headers = {"Cookie": f"reverie_studio_{studio.port}={cookie}"}
        return connect(f"ws://127.0.0.1:{studio.port}/game/breakout", origin=origin, additional_headers=headers)

    with open_socket() as socket:
        assert "hello" in socket.recv(timeout=30)
        socket.send("x" * (2 << 20))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    with open_socket() as socket:
        assert "hello" in socket.recv(timeout=30)
