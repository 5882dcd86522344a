"""The page in a real browser: what it makes of it, and whether it fits. Skipped without chromium."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reverie.analysis.report import report_runs
from tests.helpers.two_agents import write_two_agents

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>addEventListener("load", () => {
  document.title = [
    document.documentElement.scrollWidth - innerWidth,
    performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:")).length,
    document.querySelectorAll("table").length,
    document.querySelectorAll("img").length,
  ].join(" ")
})</script>"""
"""Writes into the title how far the page is wider than the window, what it loaded, and its tables and figures."""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")


def browse(folder: Path, page: Path, *options: str) -> str:
    assert BROWSER
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command = [BROWSER, *flags, *options, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [1200, 600])
def test_the_page_is_whole_and_fits_the_window(tmp_path: Path, width: int) -> None:
    write_two_agents(tmp_path / "runs")
    made = report_runs([tmp_path / "runs"], tmp_path / "out")
    probed = tmp_path / "probed.html"
    allowed = re.sub(r"<meta[^>]*Content-Security-Policy[^>]*>", "", made.page.read_text(encoding="utf-8"))
    probed.write_text(allowed.replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom = browse(tmp_path, probed, "--dump-dom", f"--window-size={width},2000")
    title = dom.partition("<title>")[2].partition("</title>")[0].split()
    overflow, loaded, tables, figures = map(int, title)
    assert overflow <= 0
    assert loaded == 0  # self-contained: nothing is fetched
    assert (tables, figures) == (dom.count("<table"), dom.count("<img"))
    assert tables >= 3 and figures >= 2

    picture = tmp_path / "page.png"
    browse(tmp_path, made.page, f"--screenshot={picture}", f"--window-size={width},2000")
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    assert (pixels > 250).all(1).mean() > 0.5  # dark on white
    assert len(np.unique(pixels, axis=0)) > 50
