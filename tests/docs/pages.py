"""The pages for users, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "services/*/README.md",
    "shared/README.md",
    "deploy/*.md",
)

FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Code between two fences."""

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file name in a first line like `# cannon.py`, or an empty string."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command that a page shows, and the output below it."""

    where: str
    text: str
    output: str

    def __str__(self) -> str:
        return f"{self.where} {self.text[:60]}"


def pages() -> list[str]:
    """Return the path of every page, from the root."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [str(path.relative_to(ROOT)) for path in found]


@cache
def text(page: str) -> str:
    """Return the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(language: str) -> list[Block]:
    """Return all blocks of a language, page after page."""
    return [
        Block(page, text(page).count("\n", 0, found.start()) + 2, found[1], dedent(found[2]))
        for page in pages()
        for found in FENCE.finditer(text(page))
        if found[1] == language
    ]


def programs() -> dict[str, str]:
    """Return the programs that pages contain whole, and the examples, by file name."""
    shown = {block.file: block.text for block in blocks("python") if block.file}
    return shown | {path.name: path.read_text(encoding="utf-8") for path in EXAMPLES.glob("*.py")}


def consoles(page: str) -> list[Command]:
    """Return the commands of the console blocks of a page, each after a `$`."""
    found = [block for block in blocks("console") if block.page == page]
    return [command for block in found for command in _commands(block)]


def commands() -> list[Command]:
    """Return the lines of all `sh` blocks, without comments."""
    return [
        Command(str(block), line, "")
        for block in blocks("sh")
        for line in re.sub(r"\s+#.*|^#.*", "", block.text, flags=re.MULTILINE).splitlines()
        if line.strip()
    ]


def _commands(block: Block) -> list[Command]:
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if parts[0].strip() or len(parts) == 1:
        raise ValueError(f"{block}: a console block begins with `$ command`")
    pairs = [part.partition("\n") for part in parts[1:]]
    return [Command(str(block), typed.strip(), output.rstrip("\n")) for typed, _, output in pairs]
