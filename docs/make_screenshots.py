"""Renew the pictures in docs/images/ from real runs. This needs tmux, Chromium and nbconvert, and takes a minute.

It is not part of `make docs`, since the pictures differ each time. Run it after a change of the pictured output.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parent / "images"
EXAMPLES = Path(__file__).parents[1] / "examples"
PROGRAMS = Path(sys.executable).parent
SESSION = f"aip-screenshot-{os.getpid()}"
WIDTH, HEIGHT = 118, 60
MOST_BYTES = 150_000

# Rich's own template loads a font from the network. Each piece of text has a fixed width anyway.
SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
  line-height: {line_height}px }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def terminal(command: str, picture: Path, folder: Path) -> None:
    """Run a command in a terminal, and draw the final screen."""
    done = folder / f"{picture.stem}.done"
    shell = f"printf '$ %s\\n' {command!r}; PATH={PROGRAMS}:$PATH {command}; touch {done}; sleep 600"
    size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
    subprocess.run(["tmux", "new-session", "-d", "-s", SESSION, *size, "-c", folder, shell], check=True)
    try:
        while not done.exists():
            time.sleep(0.2)
        screen = subprocess.run(
            ["tmux", "capture-pane", "-e", "-p", "-S", "-", "-t", SESSION], check=True, capture_output=True, text=True
        ).stdout
    finally:
        subprocess.run(["tmux", "kill-session", "-t", SESSION], check=True)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen.rstrip()), soft_wrap=True)
    drawn = console.export_svg(title=command, code_format=SVG, unique_id="aip")
    # An explicit space is as wide as any other, and shorter than its entity.
    picture.write_text(re.sub(r"&#160;", "\N{NO-BREAK SPACE}", drawn), encoding="utf-8")


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Run TensorBoard on a folder, and yield its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder.name, "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--load_fast", "false"],
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = next(found[1] for line in process.stdout if (found := re.search(r" at (http://127\S+)/", line)))
        yield address
    finally:
        process.kill()
        process.communicate()


def page(address: str, picture: Path, size: tuple[int, int] = (1120, 720)) -> None:
    """Take a picture of a page after it has loaded."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("Chromium is not installed. Install it, for example with apt-get install chromium.")
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--virtual-time-budget=30000", f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", address],
        check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(128)
    small.save(picture, optimize=True)
    if picture.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{picture} has {picture.stat().st_size} bytes, more than {MOST_BYTES}. Make it smaller.")


def notebook(example: Path, picture: Path, folder: Path) -> None:
    """Run a notebook with nbconvert, and take a picture of the cell that trains."""
    # It runs in its own folder.
    copy = shutil.copy(example, folder)
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "html", "--execute", copy], check=True)
    html = (folder / example.name).with_suffix(".html")
    with html.open("a", encoding="utf-8") as file:
        file.write('<style>.jp-Cell:not([id="cell-id=train"]) { display: none }</style>')
    page(html.as_uri(), picture, (760, 1090))


def main() -> None:
    """Train, and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        terminal("aip train tutorial --optimizer adabelief", IMAGES / "train.svg", folder)
        terminal("aip plugins list", IMAGES / "plugins.svg", folder)
        runs = folder / "runs"
        (runs / "tutorial-1").rename(runs / "adabelief")
        other = ["--optimizer", "sgd", "--optimizer.momentum", "0.9", "--trainer.output_dir", runs / "sgd", "--quiet"]
        subprocess.run([PROGRAMS / "aip", "train", "tutorial", *other], cwd=folder, check=True)
        with tensorboard(runs) as address:
            page(f"{address}/#scalars&_smoothingWeight=0", IMAGES / "tensorboard.png")
            page(f"{address}/#images", IMAGES / "tensorboard-images.png", (1120, 720))
        notebook(EXAMPLES / "train_in_a_notebook.ipynb", IMAGES / "notebook.png", folder)


if __name__ == "__main__":
    main()
