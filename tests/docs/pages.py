"""The pages that a user reads, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/*.md",
    "services/*/README.md",
    "shared/README.md",
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
        """The name in a first line like `# cannon.py`, or nothing."""
        found = re.match(r"# (\w+\.py)\n", self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Shown:
    """A command in a console block, and what the page says that it prints."""

    where: str
    command: str
    output: str

    def __str__(self) -> str:
        return f"{self.where} {self.command[:60]}"


def pages() -> list[str]:
    """Every page, by its path from the root."""
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    return [str(path.relative_to(ROOT)) for path in found]


@cache
def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(language: str) -> list[Block]:
    """All blocks of a language, page after page."""
    return [
        Block(page, text(page).count("\n", 0, found.start()) + 2, found[1], dedent(found[2]))
        for page in pages()
        for found in FENCE.finditer(text(page))
        if found[1] == language
    ]


def files() -> list[Block]:
    """The programs that pages show whole."""
    return [block for block in blocks("python") if block.file]


def consoles(page: str) -> list[Shown]:
    """The commands of the console blocks of a page, each after a `$`."""
    found = [block for block in blocks("console") if block.page == page]
    return [shown for block in found for shown in _shown(block)]


def commands() -> list[Shown]:
    """The lines of all `sh` blocks, without comments."""
    return [
        Shown(str(block), line, "")
        for block in blocks("sh")
        for line in re.sub(r"\s+#.*|^#.*", "", block.text, flags=re.MULTILINE).splitlines()
        if line.strip()
    ]


def _shown(block: Block) -> list[Shown]:
    parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
    if parts[0].strip() or len(parts) == 1:
        raise ValueError(f"{block}: a console block begins with `$ command`")
    pairs = [part.partition("\n") for part in parts[1:]]
    return [Shown(str(block), command.strip(), output.rstrip("\n")) for command, _, output in pairs]
