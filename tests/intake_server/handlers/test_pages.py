"""The browse page in a real browser: found, read, used with the keyboard, and safe whatever a catalog says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import FLAGS, chromium_path
from tests.processes import DaemonProcess, start_daemon

expect.set_options(timeout=30_000)
ATTACKS = (
    "<img src=x onerror=alert(1)>",
    "<script>alert(1)</script>",
    '"><svg onload=alert(1)>',
    "javascript:alert(1)",
    "';alert(1)//",
)
CATALOG = """
sources:
  weather:
    driver: parquet
    description: Hourly weather of two stations
    metadata: {licence: CC0}
    args: {urlpath: "{{ CATALOG_DIR }}/weather.parquet"}
  wave: {driver: numpy, args: {path: "{{ CATALOG_DIR }}/wave.npy", chunks: 20}}
  line: {driver: numpy, args: {path: "{{ CATALOG_DIR }}/line.npy"}}
  heat: {driver: netcdf, args: {urlpath: "{{ CATALOG_DIR }}/heat.nc"}}
  text:
    driver: textfiles
    args: {urlpath: "{{ CATALOG_DIR }}/{{ letter }}.txt"}
    parameters:
      letter: {description: which file, type: str, default: a, allowed: [a, b]}
  lost: {driver: csv, args: {urlpath: "{{ CATALOG_DIR }}/nothing.csv"}}
  sub: {driver: yaml_file_cat, description: more, args: {path: "{{ CATALOG_DIR }}/sub.yml"}}
"""
SUB = """
sources:
  inner: {driver: parquet, args: {urlpath: "{{ CATALOG_DIR }}/weather.parquet"}}
  "a/b c": {driver: textfiles, args: {urlpath: "{{ CATALOG_DIR }}/a.txt"}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browse")
    hours = np.arange(1000)
    weather = {
        "time": pd.date_range("2024-01-01", periods=1000, freq="h"),
        "temperature": 10 + 8 * np.sin(hours / 120),
        "pressure": 1000 + 5 * np.cos(hours / 300),
        "station": ["Rome", None] * 500,
    }
    pd.DataFrame(weather).to_parquet(folder / "weather.parquet")
    np.save(folder / "wave.npy", np.arange(50 * 60.0).reshape(50, 60))
    np.save(folder / "line.npy", np.arange(700.0))
    fields = {"heat": (("time", "lat", "lon"), np.arange(2 * 5 * 8.0).reshape(2, 5, 8)), "height": 2.5}
    xr.Dataset(fields, {"lat": [1.0, 2, 3, 4, 5]}).to_netcdf(folder / "heat.nc", engine="h5netcdf")
    (folder / "a.txt").write_text("alpha\n")
    (folder / "b.txt").write_text("beta\n")
    (folder / "catalog.yml").write_text(CATALOG)
    (folder / "sub.yml").write_text(SUB)
    return folder


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    with start_daemon("intake_server", folder / "catalog.yml", "--prefix", "cat") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, daemon: DaemonProcess) -> Iterator[Page]:
    yield from opened(browser, f"{daemon.url}/browse/")


def opened(browser: Browser, url: str) -> Iterator[Page]:
    """A page that may ask its own server only, must raise no error and must never open a dialog."""
    context = browser.new_context()
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(f"error {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: None if is_own(request.url, url) else wrong.append(f"request {request.url}"))
    page.goto(url)
    yield page
    context.close()
    assert wrong == []


def is_own(asked: str, url: str) -> bool:
    origin = re.match(r"http://[^/]+/", url)
    return origin is not None and asked.removeprefix("blob:").startswith(origin[0])


def item(page: Page, name: str):
    return page.get_by_role("treeitem", name=name, exact=True)


def open_entry(page: Page, name: str) -> None:
    item(page, name).locator("> .label").click()
    expect(page.locator("main h2")).to_have_text(name)


def test_a_frame_shows_what_it_is_its_first_rows_a_plot_and_how_to_open_it(page, daemon):
    open_entry(page, "weather")
    expect(page.locator("main")).to_contain_text("Hourly weather of two stations")
    expect(page.locator("main")).to_contain_text("dataframe, 1000 × 4, one partition, driver parquet")
    expect(page.locator("#schema tbody tr")).to_have_count(4)
    expect(page.locator("#rows tbody tr")).to_have_count(20)
    expect(page.locator("#rows tbody tr").first).to_contain_text("2024-01-01T00:00:00")
    expect(page.locator("#plot svg path")).to_have_count(1)
    page.get_by_label("pressure").check()
    expect(page.locator("#plot svg path")).to_have_count(2)
    lines = page.locator("#python").inner_text().splitlines()
    address = daemon.url.replace("http://", "intake://")
    assert lines == [
        "import intake",
        f'catalog = intake.open_catalog("{address}")',
        'data = catalog["weather"].read()',
    ]


def test_the_plot_goes_through_the_data(page):
    open_entry(page, "line")
    path = page.locator("#plot svg path").get_attribute("d") or ""
    points = [tuple(map(float, point.split())) for point in re.split("[ML]", path)[1:]]
    assert len(points) == 500
    assert points == sorted(points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_integers_that_javascript_would_round_are_shown_as_they_are(page):
    sent = '{"n": [9007199254740993, -9007199254740993, 5, 1.5e300, 0.12345678901234567], "\\"9007199254740993": "x"}'
    found = page.evaluate("text => import('./server.js').then((module) => module.exact(text))", sent)
    assert found["n"] == ["9007199254740993", "-9007199254740993", 5, 1.5e300, 0.12345678901234567]
    assert found['"9007199254740993'] == "x"


def test_lines_are_copied_where_the_browser_has_no_clipboard(page):
    page.add_init_script("delete Navigator.prototype.clipboard")
    page.reload()
    open_entry(page, "weather")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()


def test_an_array_is_shown_as_numbers_and_as_a_picture(page):
    open_entry(page, "wave")
    expect(page.locator("#schema")).to_have_text("float64, shape [50,60], in blocks of 20 + 20 + 10 by 60")
    expect(page.locator("#rows tbody tr")).to_have_count(10)
    picture = page.locator("#plot img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => [image.naturalWidth / 60, image.naturalHeight / 50]") == [4, 4]


def test_a_data_set_is_a_table_of_variables_of_which_one_is_shown(page):
    open_entry(page, "heat")
    expect(page.locator("#schema tbody tr")).to_have_count(3)
    expect(page.locator("#schema tbody tr").first).to_contain_text("time: 2, lat: 5, lon: 8")
    expect(page.locator("#variable h3").first).to_have_text("heat")
    expect(page.locator("#plot img")).to_be_visible()
    page.get_by_role("button", name="height").click()
    expect(page.locator("#rows")).to_have_text("2.5")
    page.get_by_role("button", name="lat").click()
    expect(page.locator("#rows")).to_have_text("[1,2,3,4,5]")
    with page.expect_download() as started:
        page.get_by_role("link", name="npy", exact=True).click()
    assert np.load(started.value.path()).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert started.value.suggested_filename == "heat-lat.npy"
    assert page.locator("#python").inner_text().startswith("import intake, intake_xarray\n")


def test_parameters_are_chosen_in_a_form_and_stand_in_the_lines_of_python(page):
    open_entry(page, "text")
    expect(page.locator("#rows")).to_have_text('"alpha\\n"')
    page.get_by_label("letter (str)").select_option("b")
    page.get_by_role("button", name="Open with these").click()
    expect(page.locator("#rows")).to_have_text('"beta\\n"')
    assert page.locator("#python").inner_text().endswith('data = catalog["text"](**{"letter": "b"}).read()')
    expect(page.get_by_role("link", name="txt", exact=True)).to_have_attribute("href", re.compile(r"p\.letter=b"))


def test_a_data_set_can_be_downloaded(page):
    open_entry(page, "weather")
    with page.expect_download() as started:
        page.get_by_role("link", name="parquet", exact=True).click()
    assert len(pd.read_parquet(started.value.path())) == 1000
    assert started.value.suggested_filename == "weather.parquet"


def test_an_entry_that_cannot_be_opened_says_why_and_leaves_the_rest_alone(page):
    open_entry(page, "lost")
    expect(page.locator("main .error")).to_contain_text("It cannot be opened: {CATALOG_DIR}/nothing.csv")
    open_entry(page, "weather")
    expect(page.locator("main .error")).to_have_count(0)


def test_everything_is_reached_with_the_keyboard_alone(page):
    expect(item(page, "weather")).to_be_visible()
    for _ in range(4):  # the skip link, the title, the search field, the link to the API; then the tree
        page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(item(page, "weather")).to_be_focused()
    page.keyboard.press("End")
    expect(item(page, "sub")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(item(page, "sub")).to_have_attribute("aria-expanded", "true")
    expect(item(page, "inner")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("main h2")).to_have_text("sub / inner")
    expect(page.locator("main")).to_be_focused()
    item(page, "inner").focus()
    page.keyboard.press("ArrowLeft")
    expect(item(page, "sub")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(item(page, "sub")).to_have_attribute("aria-expanded", "false")
    expect(item(page, "inner")).to_be_hidden()


def test_a_name_with_a_slash_has_an_address_that_can_be_kept(page, browser, daemon):
    item(page, "sub").locator("> .label").click()
    item(page, "a/b c").locator("> .label").click()
    expect(page.locator("main h2")).to_have_text("sub / a/b c")
    expect(page.locator("#rows")).to_have_text('"alpha\\n"')
    for again in opened(browser, page.url):
        expect(again.locator("main h2")).to_have_text("sub / a/b c")
        expect(again).to_have_title("sub / a/b c · Catalog")


def test_a_narrow_window_needs_no_sideways_scrolling(page):
    page.set_viewport_size({"width": 400, "height": 800})
    open_entry(page, "weather")
    expect(page.locator("#plot svg")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_search_replaces_the_tree_by_what_it_finds(page):
    page.get_by_label("Search").fill("weather")
    page.keyboard.press("Enter")
    expect(page.get_by_role("treeitem")).to_have_count(1)
    page.get_by_label("Search").fill("inner")
    page.keyboard.press("Enter")
    item(page, "sub.inner").locator("> .label").click()
    expect(page.locator("main h2")).to_have_text("sub / inner")
    page.get_by_label("Search").fill("nowhere to be found")
    page.keyboard.press("Enter")
    expect(page.locator("#tree")).to_have_text(re.compile("Nothing is here"))


def test_text_of_catalogs_and_data_is_never_markup(browser, folder, tmp_path):
    sources = {
        attack: {
            "driver": "csv",
            "description": attack,
            "metadata": {attack: attack},
            "args": {"urlpath": str(tmp_path / "attack.csv")},
            "parameters": {attack: {"description": attack, "type": "str", "default": attack}},
        }
        for attack in ATTACKS
    }
    frame = pd.DataFrame({attack: [attack, 1] for attack in ATTACKS} | {f"n {ATTACKS[0]}": [1, 2]})
    frame.to_csv(tmp_path / "attack.csv", index=False)
    (tmp_path / "attack.yml").write_text(repr({"sources": sources}))
    with start_daemon("intake_server", tmp_path / "attack.yml") as running:
        for page in opened(browser, f"{running.url}/browse/"):
            for attack in ATTACKS:
                open_entry(page, attack)
                expect(page.locator("main p").first).to_have_text(attack)
                expect(page.locator("#rows tbody tr")).to_have_count(2)
                expect(page.locator("#plot svg")).to_be_visible()
                assert page.locator("main script, main img, main [onload], main [onerror]").count() == 0
                last = page.locator("#python").inner_text().splitlines()[-1]
                assert ast.literal_eval(last.removeprefix("data = catalog[").removesuffix("].read()")) == attack


def test_a_server_with_a_key_asks_for_it_once(browser, folder):
    with start_daemon("intake_server", folder / "catalog.yml", "--auth-secret", "s3cret") as running:
        for page in opened(browser, f"{running.url}/browse/"):
            page.get_by_label("This server asks for a key").fill("wrong")
            page.get_by_role("button", name="Use it").click()
            expect(page.get_by_role("alert")).to_have_text("This key is not accepted.")
            page.get_by_label("This server asks for a key").fill("s3cret")
            page.get_by_role("button", name="Use it").click()
            open_entry(page, "weather")
            expect(page.locator("#rows tbody tr")).to_have_count(20)
            expect(page.locator("#unlock")).to_be_hidden()
            assert "s3cret" not in page.locator("body").inner_text()
            with page.expect_download() as started:
                page.get_by_role("link", name="csv", exact=True).click()
            assert len(pd.read_csv(started.value.path())) == 1000
            page.reload()
            expect(item(page, "weather")).to_be_visible()


def test_the_page_of_the_api_works_offline_and_can_be_tried(page):
    page.get_by_role("link", name="API").click()
    expect(page.locator(".opblock")).to_have_count(5)
    page.locator(".opblock-summary-control").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
