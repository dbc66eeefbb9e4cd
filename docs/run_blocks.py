"""Run the blocks of a page in order in a new folder, as a reader would: `python docs/run_blocks.py PAGE ...`.

Commands of `aip` run in this process, since TensorFlow takes seconds to import. Commands that select devices, start
workers or are part of a longer shell command run as programs. A page that installs packages runs all commands as
programs of a separate virtual environment, which can import the packages of this one. pip has no network access there.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from page_blocks import ROOT, Block, Command, blocks

TIMEOUT = 900
"""Timeout of a command, in seconds."""

TRIALS = 2
"""Trials of a sweep for which the page gives no number."""

SHELL = re.compile(r"[|>;&$(]")
"""Characters that are left to a shell."""

ALONE = re.compile(rf"--device\.|aip launch|{SHELL.pattern}|--trainer\.profile|--trainer\.deterministic")
"""Parts of an `aip` command that require a separate process."""


class BlockError(Exception):
    """A block whose result differs from its page."""


class Runner:
    """Runner of the blocks of one page in the working folder."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": "page"}
        self.alone = any(
            "pip " in block.text and block.language == "console" and "not run" not in block.notes
            for block in blocks(page)
        )
        self.path = _environment(Path(".venv").resolve()) if self.alone else Path(sys.executable).parent

    def run(self) -> None:
        """Run all blocks.

        Raises:
            BlockError: the result of a block differs from the page.
        """
        for block in blocks(self.page):
            place = f"{self.page.name}:{block.line}"
            for line in block.notes.get("run before", "").splitlines():
                self._command(Command(line.strip()), place, "")
            if block.title is not None:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                Path(block.title).write_text(block.text, encoding="utf-8")
            elif {"not run", "excerpt of"} & set(block.notes):
                continue
            elif block.language == "python":
                self._python(block, place)
            elif block.language == "console":
                for command in block.commands():
                    self._command(command, place, block.notes.get("run with", ""))

    def _python(self, block: Block, place: str) -> None:
        try:
            exec(compile("\n" * block.line + block.text, self.page, "exec"), self.names)
        except Exception as error:
            raise BlockError(f"{place}: {type(error).__name__}: {error}") from error

    def _command(self, command: Command, place: str, extra: str) -> None:
        if not command.text:
            return
        text = re.sub(r"(?<!\S)#.*", "", command.text).strip()
        if extra and re.match(r"aip (train|resume|sweep) ", text):
            text = f"{text} {extra}"
        if text.startswith("aip sweep ") and "--trials" not in text:
            text = f"{text} --trials {TRIALS}"
        began = time.monotonic()
        code, said = self._done(text)
        print(f"{place}: {text}: {code}, {time.monotonic() - began:.1f} s", flush=True)
        fails = command.shown is not None and command.shown.lstrip().startswith("error:")
        if fails != (code != 0):
            raise BlockError(f"{place}: {text} exited with {code}:\n{said[-3000:]}")
        if command.shown is not None and not matches(command.shown, said, exact=fails):
            raise BlockError(f"{place}: {text} prints other text than the page shows:\n{said[-3000:]}")

    def _done(self, text: str) -> tuple[int, str]:
        """Run a command, and return its exit code and output."""
        if re.match(r"cd \S+$", text):
            os.chdir(text.removeprefix("cd "))
            return 0, ""
        if found := re.match(r"export (\w+)=(.*)$", text, re.DOTALL):
            (os.environ[found[1]],) = shlex.split(found[2])
            return 0, ""
        if text.startswith("aip ") and not self.alone and not ALONE.search(text):
            return _in_this_process(shlex.split(text)[1:])
        environment = {**os.environ, "PATH": f"{self.path}{os.pathsep}{os.environ['PATH']}"}
        words = ["bash", "-c", text]
        if text.startswith(("aip ", "python ")) and not SHELL.search(text):
            program, *words = shlex.split(text)
            words = [str(self.path / "python"), *(["-m", "aipcore"] if program == "aip" else []), *words]
        done = subprocess.run(
            words,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        return done.returncode, done.stdout


def _environment(folder: Path) -> Path:
    """Create a virtual environment with the packages of this one, and return the folder of its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=TIMEOUT)
    (packages,) = folder.glob("lib/python*/site-packages")
    seen = [path for path in sys.path if path.endswith("-packages")]
    lines = [f"import site; site.addsitedir({path!r})" for path in seen]
    (packages / "seen.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = folder / "bin" / "aip"
    program.write_text('#!/bin/sh\nexec "$(dirname "$0")/python" -m aipcore "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder / "bin"


def _in_this_process(words: list[str]) -> tuple[int, str]:
    from aipcore.cli.main import main

    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    return code, said.getvalue()


def matches(shown: str, said: str, *, exact: bool) -> bool:
    """Return True if an output matches that of a page.

    Args:
        shown: output on the page; `...` matches anything.
        said: printed output.
        exact: if True, white space between lines and numbers must match too.
    """
    if exact:
        return re.fullmatch(_pattern(shown.strip()), said.strip()) is not None
    rest = said.splitlines()
    for line in shown.splitlines():
        if line.strip() in ("", "..."):
            continue
        pattern = re.sub(r"\d+(?:\\?[.,]\d+)*(?:e-?\d+)?", r"[\\d.,e-]+", _pattern(" ".join(line.split())))
        while rest and not re.fullmatch(pattern, " ".join(rest[0].split())):
            rest.pop(0)
        if not rest:
            return False
        rest.pop(0)
    return True


def _pattern(text: str) -> str:
    return re.escape(text).replace(r"\.\.\.", r"[\s\S]*")


def main() -> int:
    """Run the named pages."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    # pip reads the last one as the value of --no-build-isolation, whose own meaning is "no".
    os.environ |= {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }
    for name in sys.argv[1:]:
        page = Path(name).resolve()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            for each in ("examples", "docs"):
                Path(each).symlink_to(ROOT / each)
            try:
                Runner(page).run()
            except BlockError as error:
                print(error, file=sys.stderr)
                return 1
            finally:
                os.chdir(ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
