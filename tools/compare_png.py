#!/usr/bin/env python3
"""Makes docs/compare.png: the figures of a report.html, wide, in light colours. Needs Chromium.

    target/release/pythia-quant compare tests/data/pythia-docs-6m -f tests/data/pythia-docs-6m/heldout.txt --fresh --force
    tools/compare_png.py pythia-compare/report.html docs/compare.png [FIGURES]

With a number of FIGURES, only the first ones are drawn: docs/quantizers.png has 2, of a report with --quantizer.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

WIDTH = 1148
MARGIN = 20


def main(report, picture, count=None):
    page = pathlib.Path(report).read_text(encoding="utf-8")
    style = re.search(r"<style>.*?</style>", page, re.DOTALL).group(0)
    figures = re.findall(r'<div class="wide">\n(.*?)</div>', page, re.DOTALL)[:count]
    boxes = [re.search(r'viewBox="0 0 (\S+) (\S+)"', figure) for figure in figures]
    inner = WIDTH - 2 * MARGIN
    height = sum(round(inner * float(box[2]) / float(box[1])) + 12 for box in boxes) + MARGIN
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "figures.html")
        body = "\n".join(f'<div style="margin-bottom: 12px">{figure}</div>' for figure in figures)
        layout = f"<style>body {{ max-width: none; padding: {MARGIN}px {MARGIN}px 0 }}</style>"
        source.write_text(f'<!doctype html><meta charset="utf-8">{style}{layout}<body>{body}</body>', encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        options += ["--blink-settings=preferredColorScheme=1", f"--window-size={WIDTH},{height}"]
        target = pathlib.Path(picture).resolve()
        subprocess.run(["chromium", *options, f"--screenshot={target}", source.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
