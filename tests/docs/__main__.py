"""Write all generated pages.

python -m tests.docs
"""

from __future__ import annotations

from tests.docs import api_page, commands_page, keys_page, settings_page
from tests.docs.pages import ROOT

PAGES = {
    "api": api_page.page,
    "commands": commands_page.page,
    "keys": keys_page.page,
    "settings": settings_page.page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (ROOT / "docs" / f"{name}.md").write_text(page(), encoding="utf-8")
