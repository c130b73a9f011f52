#!/usr/bin/env python3
"""The page of `pythia-run serve` in headless Chromium: types, analyses, points, walks by keys, compares, generates, stops.

    cargo build --release
    python3 tools/page_test.py [--bin DIR] [--venv DIR] [--pictures DIR]

Needs Chromium, and installs playwright into a virtual environment. Where that cannot be, it says so and ends with 0.
With --pictures it also writes docs/page.png and docs/page-phone.png, or what DIR is instead of docs.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import environment
import serving

TEXT = (serving.MODEL / "heldout.txt").read_text()
ATTACK = "<img src=x onerror=alert(1)> & <script>alert(2)</script>\n\ttail"


class Check:
    """Says what was tried, and counts what did not hold."""

    def __init__(self):
        self.failures = 0

    def __call__(self, what, holds, found=""):
        if not holds:
            self.failures += 1
        print(f"{'ok  ' if holds else 'FAIL'} {what}{'' if holds else f': {found}'}", flush=True)


def open_page(browser, server, width=1200, height=900, scheme="light", touch=False):
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=touch)
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" and "status of 4" not in message.text else None)
    page.on("request", lambda request: errors.append(f"outside: {request.url}") if not request.url.startswith(server.url) else None)
    page.goto(server.url + "/")
    return page, errors


def until(page, condition, seconds=60):
    """Waits for a condition in JavaScript. Playwright's own waiting needs eval, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise RuntimeError(f"did not happen within {seconds} s: {condition}")
        time.sleep(0.02)


def analyse(page, text):
    page.fill("#text", text)
    page.click("#analyse")
    until(page, "document.getElementById('progress').textContent === ''")


def panel_text(page, m):
    """The text of a panel as it was sent: without the marks for line breaks and for what comes next."""
    return page.locator(".panel .text").nth(m).evaluate("e => e.textContent").removesuffix("\u25b8").replace("\u21b5", "")


def walk(browser, server, check):
    page, errors = open_page(browser, server)
    page.wait_for_selector("#model-list input")
    check("both models are offered", page.locator("#model-list input").count() == 2)
    text = TEXT[:700]
    analyse(page, text)
    check("a panel per model", page.locator(".panel").count() == 2)
    check("panels show the text", [panel_text(page, m) for m in (0, 1)] == [text, text], panel_text(page, 0)[:80])
    reply = server.post("/v1/tokens", {"prompt": text, "models": ["F16", "Q2_K"], "top": 1})
    n = len(reply["tokens"])
    check("as many tokens as the server says", page.locator(".panel").nth(0).locator(".text .t").count() == n + 1)
    flips = sum(t["models"][0]["top"][0]["id"] != t["models"][1]["top"][0]["id"] for t in reply["tokens"][1:])
    check("changed predictions are marked", page.locator(".panel").nth(1).locator(".flip").count() == flips > 0, flips)
    nll = -sum(t["models"][1]["log_likelihood"] for t in reply["tokens"][1:])
    kld = sum(t["models"][1]["kld"] for t in reply["tokens"][1:]) / (n - 1)
    sums = page.locator(".panel .sums").nth(1).inner_text()
    check("sums are those of the server", f"NLL {nll:.3f}" in sums and f"Mean KLD {kld:.5f}" in sums, sums)

    tokens = page.locator(".panel").nth(0).locator(".text .t")
    tokens.nth(5).hover()
    top = server.post("/v1/tokens", {"prompt": text, "models": ["F16"], "top": 3})["tokens"][5]["models"][0]["top"]
    rows = page.locator("#detail table").nth(0).locator("tr")
    check("pointing shows the alternatives", rows.count() == 8 and top[0]["token"].strip() in rows.nth(0).inner_text(), rows.nth(0).inner_text())
    check("in every panel at once", page.locator(".text .at").count() == 2)

    page.keyboard.press("Escape")
    page.locator("#take").evaluate("() => document.getElementById('temperature').focus()")
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('t')"):
            break
    at = lambda: page.evaluate("Number(document.activeElement.dataset.i)")
    check("the tab key reaches the tokens", page.evaluate("document.activeElement.classList.contains('t')"))
    first = at()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    check("arrow keys move", at() == first + 2, at())
    page.keyboard.press("ArrowDown")
    below = at()
    page.keyboard.press("ArrowUp")
    check("and go up and down lines", below > first + 2 and at() < below, (first, below, at()))
    page.keyboard.press("End")
    check("to the end", at() == n, at())
    page.keyboard.press("Home")
    check("to the start", at() == 0, at())
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    check("the focus is visible", outline == "solid", outline)

    page.fill("#n-tokens", "30")
    page.fill("#temperature", "0")
    page.keyboard.press("Escape")
    tokens.nth(40).click()
    until(page, "document.getElementById('progress').textContent === ''")
    start = server.post("/tokenize", {"content": text, "add_special": False})["tokens"][:41]
    greedy = {"model": "F16", "prompt": start, "max_tokens": 30, "temperature": 0}
    want = server.post("/v1/completions", greedy)["choices"][0]["text"]
    made = page.locator("#generated .made").evaluate("e => e.textContent")
    check("a click continues from there", made == want and len(want) > 10, (made, want))

    page.fill("#n-tokens", "400")
    page.fill("#text", text[:40])
    # The model writes 400 tokens in a fraction of a second, so the page itself must press the button.
    page.evaluate("""() => new MutationObserver((_, observer) => {
        if (document.querySelector('#generated .made')?.textContent.length > 20) { document.getElementById('stop').click(); observer.disconnect(); }
    }).observe(document.getElementById('generated-text'), { childList: true, subtree: true, characterData: true })""")
    page.click("#continue")
    until(page, "document.querySelector('#generated .made').textContent.length > 20")
    until(page, "document.getElementById('stop').disabled")
    length = page.locator("#generated .made").evaluate("e => e.textContent.length")
    whole = server.post("/v1/completions", {"model": "F16", "prompt": text[:40], "max_tokens": 400, "temperature": 0})
    whole = len(whole["choices"][0]["text"])
    check("it streams, and Stop stops it", 20 < length < whole / 2, (length, whole))
    end = time.monotonic() + 10
    while any(slot["is_processing"] for slot in server.get("/slots")) and time.monotonic() < end:
        time.sleep(0.05)
    check("also at the server", not any(slot["is_processing"] for slot in server.get("/slots")))

    analyse(page, ATTACK)
    check("a text is never markup", page.locator(".panel img, .panel script, .panel .text b").count() == 0 and panel_text(page, 0) == ATTACK, panel_text(page, 0))
    analyse(page, "a 🌋")
    check("a part of a character is shown by its bytes", "\u27e8f0\u27e9" in panel_text(page, 0), panel_text(page, 0))
    analyse(page, "")
    check("an empty text is explained", "no text" in page.locator("#error").inner_text(), page.locator("#error").inner_text())
    analyse(page, TEXT[:20_000])
    message = page.locator("#error").inner_text()
    check("a text that is too long is explained", message != "" and "undefined" not in message, message)
    check("nothing went wrong, and nothing came from elsewhere", errors == [], errors)

    long = TEXT[:1600]
    analyse(page, long)
    took = page.evaluate("""() => { const all = document.querySelectorAll('.panel .text')[0].children, start = performance.now();
        for (let i = 1; i < 51; i++) { all[i].focus(); document.body.offsetHeight; } return (performance.now() - start) / 50; }""")
    check("moving from token to token is quick", took < 50, f"{took:.1f} ms")
    page.context.close()


def stranger(browser, folder, files, bin, check):
    """A server with a key: the page asks for it. One that has gone: the page says so."""
    with serving.Server(bin, {"F16": files["F16"]}, "--api-key", "secret") as server:
        page, _ = open_page(browser, server)
        page.wait_for_selector("#key")
        until(page, "!document.getElementById('key-row').hidden")
        page.fill("#key", "secret")
        analyse(page, "Hello there, world.")
        check("a key is asked for and used", page.locator(".panel .t").count() > 3)
        check("one model needs no choice", page.locator("#models").is_hidden())
    analyse(page, "Hello")
    check("a server that is gone is explained", "cannot be reached" in page.locator("#error").inner_text())
    page.context.close()


def looks(browser, server, check, pictures):
    for name, width, height, scheme, touch in (("page", 1100, 760, "light", False), ("page-dark", 1100, 760, "dark", False), ("page-phone", 390, 780, "dark", True)):
        page, errors = open_page(browser, server, width, height, scheme, touch)
        page.wait_for_selector("#model-list input")
        analyse(page, TEXT[1300:2100])
        token = page.locator(".panel").nth(0).locator(".text .t").nth(21)
        token.tap() if touch else token.hover()
        page.wait_for_selector("#detail table")
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        check(f"{name}: nothing is wider than the screen", wide <= 0, wide)
        check(f"{name}: no error", errors == [], errors)
        if pictures:
            page.screenshot(path=str(pictures / f"{name}.png"))
        page.context.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", type=Path, default=serving.ROOT / "target/release")
    parser.add_argument("--venv", type=Path, default=serving.ROOT / "target/page-test")
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("SKIPPED: no Chromium")
        return 0
    python = environment.interpreter(args.venv, ["playwright"], ["playwright"])
    if python is None:
        return 0
    if python != Path(sys.executable):
        os.execv(python, [str(python), *sys.argv])
    from playwright.sync_api import sync_playwright

    check = Check()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        files = serving.convert(args.bin, folder, ["F16", "Q2_K"])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        with serving.Server(args.bin, files) as server:
            walk(browser, server, check)
            looks(browser, server, check, args.pictures)
        stranger(browser, folder, files, args.bin, check)
        browser.close()
    print(f"{check.failures} failures" if check.failures else "all held")
    return 1 if check.failures else 0


if __name__ == "__main__":
    sys.exit(main())
