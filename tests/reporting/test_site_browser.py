"""The page in a real browser, with hostile rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from pipelines.provenance.revision import Revision
from pipelines.reporting.site.gather import gather
from pipelines.reporting.site.page import write
from tests.browser import Browser, chromium, open_browser
from tests.reporting.hostile import SOURCE, VERDICTS, build

SCREENS = [(width, dark) for width in (390, 1440) for dark in (False, True)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chromium()
    folder = build(tmp_path_factory.mktemp("hostile"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("pipelines.reporting.site.gather.verify", lambda revision: VERDICTS)
        return write(gather(Revision("work\u202e<b>space", ""), datetime(2026, 5, 4, tzinfo=UTC)), folder / "site")


def items(browser: Browser, name: str) -> list[str]:
    return browser.run(f"return [...document.querySelectorAll('#{name} .item')].map(e => e.innerText)")


def status(browser: Browser, name: str) -> str:
    return browser.run(f"return document.querySelector('#{name} .status').textContent")


def put(browser: Browser, control: str, value: str) -> None:
    browser.run(
        "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
        "c.dispatchEvent(new Event('input', {bubbles: true}))",
        control,
        value,
    )


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_it_loads_without_complaint_or_request_and_fits(browser, page, width, dark):
    browser.show(page, width=width, dark=dark)
    assert browser.complaints() == []
    assert [url for url in browser.requested() if url.partition(":")[0] not in ("file", "data", "about")] == []
    assert browser.run("return document.documentElement.scrollWidth") <= width
    assert browser.run("return innerWidth") == width
    # A list may be too wide only inside a region that scrolls and that the keyboard reaches.
    beyond = browser.run(
        "return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.scroll') && !e.closest('nav ul') && !e.closest('.skip')).map(e => e.outerHTML.slice(0, 90))"
    )
    assert beyond == []
    shade = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(int(n) for n in shade[4:-1].split(",")) < 200) == dark


@pytest.mark.parametrize(("width", "dark"), SCREENS)
def test_contrast_names_and_roles_are_as_axe_wants_them(browser, page, width, dark):
    from axe_core_python.selenium import Axe

    browser.show(page, width=width, dark=dark)
    browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
    found = Axe().run(browser.driver)
    told = [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found["violations"]]
    assert told == []
    assert any(p["id"] == "color-contrast" for p in found["passes"])


def test_nothing_hostile_runs_or_becomes_markup(browser, page):
    for fragment in ("", "#pairs?q=script", f"#replies?q={quote('<script>')}", "#<img src=x onerror=window.hacked=10>"):
        browser.show(page, fragment=fragment)
        assert browser.run("return window.hacked === undefined")
        assert browser.complaints() == []
    browser.run("for (const b of document.querySelectorAll('.more')) while (!b.hidden) b.click()")
    found = browser.run(
        "return {scripts: document.scripts.length, images: document.images.length,"
        " handlers: [...document.querySelectorAll('*')]"
        ".filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length,"
        " links: [...document.links].filter(a => a.protocol !== 'file:').length,"
        " frames: document.querySelectorAll('iframe,object,embed,base').length,"
        " text: document.body.innerText}"
    )
    assert (found["scripts"], found["images"], found["handlers"], found["links"], found["frames"]) == (2, 0, 0, 0, 0)
    for literal in (
        "<script>window.hacked=1</script>",
        'onerror="window.hacked=2"',
        "{{ 7 * 7 }}",
        "javascript:window",
    ):
        assert literal in found["text"]
    assert browser.run("return window.hacked === undefined")


def test_marks_of_direction_are_seen_and_steer_nothing(browser, page):
    browser.show(page, fragment="#replies?q=gnp.exe")
    assert "⟦U+202E⟧" in items(browser, "replies")[0]
    assert browser.run(
        "return document.body.textContent.match(/[\\u202a-\\u202e\\u2066-\\u2069\\u200b\\u0007]/) === null"
    )
    assert browser.run(
        "return [...document.querySelectorAll('#replies .reply, #replies .prompt, #pairs .turn')]"
        ".every(p => p.querySelector('bdi[dir=auto]') || p.querySelector('em'))"
    )
    browser.show(page, fragment=f"#replies?q={quote('עולם')}")
    directions = browser.run(
        "return [...document.querySelectorAll('#replies bdi')].filter(b => b.textContent.startsWith('שלום'))"
        ".map(b => getComputedStyle(b).direction)"
    )
    assert directions
    assert set(directions) == {"rtl"}
    assert browser.run("return getComputedStyle(document.querySelector('#replies .item')).direction") == "ltr"


def test_search_and_filters_narrow_the_lists_and_stand_in_the_address(browser, page):
    browser.show(page)
    assert status(browser, "replies") == "10 of 24 prompts"
    put(browser, "replies-q", "NEEDLE row")
    [only] = items(browser, "replies")
    assert "needle" in only
    assert browser.run("return location.hash") == "#replies?q=NEEDLE+row"
    put(browser, "replies-q", "no such word anywhere")
    assert items(browser, "replies") == []
    assert status(browser, "replies").startswith("No prompts fit.")
    browser.run("document.querySelector('#replies .reset').click()")
    assert len(items(browser, "replies")) == 10
    put(browser, "replies-caught", "caught by a gate or unrated")
    assert ["broken: echo" in text for text in items(browser, "replies")] == [True]
    put(browser, "pairs-rule", "dedup-near-v1")
    assert status(browser, "pairs") == "10 of 10 pairs that fit, of 61"
    assert all("duplicate: near" in text for text in items(browser, "pairs"))
    put(browser, "pairs-min", "0.85")
    assert 0 < len(items(browser, "pairs")) < 10
    assert browser.run("return location.hash") == "#pairs?rule=dedup-near-v1&min=0.85"


def test_orders_follow_the_gain_over_the_first_model(browser, page):
    browser.show(page, fragment=f"#replies?order={quote('sft-100 gains most')}")
    first = items(browser, "replies")[0]
    put(browser, "replies-order", "sft-100 loses most")
    assert first != items(browser, "replies")[0]
    assert "row 23" in first


def test_a_link_leads_to_its_section_filters_and_entry(browser, page):
    browser.show(page, fragment=f"#pairs?kind=leak&source={quote(SOURCE)}&min=0.9")
    assert all("leak: contained" in text for text in items(browser, "pairs"))
    assert browser.run("return document.getElementById('pairs-kind').value") == "leak"
    assert browser.run("return Math.abs(document.getElementById('pairs').getBoundingClientRect().top) < 120")
    browser.run("document.querySelector('#pairs .permalink').click()")
    wanted = browser.run("return new URLSearchParams(location.hash.split('?')[1]).get('id')")
    assert browser.run("return [...document.querySelectorAll('#pairs .item')].map(e => e.dataset.id)") == [wanted]
    browser.show(page, fragment="#replies?id=p5")
    assert browser.run("return [...document.querySelectorAll('#replies .item')].map(e => e.dataset.id)") == ["p5"]
    browser.show(page, fragment="#replies?source=nothing-of-that-name")
    assert len(items(browser, "replies")) == 10


def test_the_keyboard_reaches_everything_in_order(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.show(page)
    order = []
    for _ in range(24):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        found = browser.run(
            "const e = document.activeElement; const s = getComputedStyle(e);"
            "return [e.id || e.textContent.trim().slice(0, 24) || e.tagName, s.outlineStyle]"
        )
        assert found[1] != "none", found
        order.append(found[0])
    assert order[0] == "Skip to the scores"
    assert order[1:10] == [
        "Scores", "Replies", "Judge", "Training", "Mixture", "Flow of rows", "Duplicates and leaks", "Validation", "Chain"
    ]  # fmt: skip
    assert (
        order.index("replies-q") < order.index("replies-source") < order.index("replies-order") < order.index("Clear")
    )
    browser.run("document.querySelector('#replies .more').focus()")
    ActionChains(browser.driver).send_keys(Keys.ENTER).perform()
    assert len(items(browser, "replies")) == 20
    assert browser.run("return document.activeElement.closest('.item').dataset.id") == "p10"


def test_without_javascript_all_but_the_lists_is_there(browser, page):
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.show(page)
        text = browser.driver.find_element("tag name", "body").text
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "need JavaScript" in text
    for heading in ("Scores", "The judge", "From raw rows to the mixture", "The chain of hashes"):
        assert heading in text
