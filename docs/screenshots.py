"""Make the pictures in the README: ``python docs/screenshots.py``.

They are what a real Chromium shows of a real JupyterLab, on the sample data.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.browser.notebook import Notebook  # noqa: E402 (found by the line above)
from tests.browser.server import open_page, running_lab  # noqa: E402

IMAGES = REPOSITORY / "docs" / "images"
WIDTH, HEIGHT = 1000, 1400
SHOWN = {"explorer": ("02_time_travel.ipynb", "place"), "migration": ("03_migration_rehearsal.ipynb", "verdict")}
"""Of each picture the notebook, and a part of the widget that is shown."""


def main() -> None:
    """Run the notebooks and take the pictures."""
    IMAGES.mkdir(exist_ok=True)
    with (
        TemporaryDirectory() as root,
        TemporaryDirectory() as private,
        running_lab(Path(root), Path(private)) as lab,
        open_page(lab, WIDTH, HEIGHT) as page,
    ):
        page.evaluate("async () => { await window.jupyterapp.commands.execute('application:toggle-left-area'); }")
        for name, (notebook, part) in SHOWN.items():
            save(take(Notebook(page, notebook), part), IMAGES / f"{name}.png")


def take(notebook: Notebook, part: str) -> bytes:
    """A widget of a notebook that was run."""
    notebook.run_all()
    output = notebook.find(".jp-OutputArea-output").filter(has=notebook.page.locator(f".meshlab-{part}"))
    output.scroll_into_view_if_needed()
    picture: bytes = output.screenshot()
    notebook.close()
    return picture


def save(picture: bytes, path: Path) -> None:
    """Write a picture in as few colours as do, which is a third of the bytes."""
    Image.open(BytesIO(picture)).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
