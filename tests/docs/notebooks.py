"""The notebooks of the docs: execute them, and store what they show.

python -m tests.docs.notebooks [NOTEBOOK OUTPUT]    # without arguments, all of them in place
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.docs.pages import NOTEBOOKS

CELL_S = 240


def execute(path: Path, output: Path) -> None:
    """Execute a notebook in a state folder of its own, without a server, and write it."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        environ = {**os.environ, "ROOMGRAD_STATE": folder, "REDIS_URL": ""}
        client = NotebookClient(
            notebook, timeout=CELL_S, kernel_name="python3", coalesce_streams=True
        )
        client.execute(env=environ, cwd=folder)
    for cell in notebook.cells:  # when it ran, and on which Python, is nothing for a reader
        cell.metadata = {}
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    nbformat.write(notebook, output)


if __name__ == "__main__":
    if sys.argv[1:]:
        execute(*map(Path, sys.argv[1:]))
    else:
        for each in NOTEBOOKS:
            execute(each, each)
