"""A real JupyterLab of its own, with nothing of the user's, and a Chromium that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .notebook import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "a-token-of-the-tests"
START_SECONDS = 60

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "docmanager-extension/plugin": {"autosave": False},
}


class Lab:
    """A JupyterLab that was started in a folder of its own, with nothing of the user's."""

    def __init__(self, root: Path, private: Path) -> None:
        self.root = root
        for name, settings in SETTINGS.items():
            path = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings), encoding="utf-8")
        (private / "runtime").mkdir()
        self.log = (private / "lab.log").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"),
                *(f"--IdentityProvider.token={TOKEN}", f"--notebook-dir={root}", "--expose-app-in-browser"),
                *(
                    f"--LabApp.user_settings_dir={private / 'settings'}",
                    f"--LabApp.workspaces_dir={private / 'spaces'}",
                ),
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            ],
            env=_environment(private),
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.url = self._wait(private / "runtime")

    def _wait(self, runtime: Path) -> str:
        """Where it listens, once it does."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            for path in runtime.glob("jpserver-*.json"):
                try:
                    return json.loads(path.read_text(encoding="utf-8"))["url"]
                except ValueError:  # half written
                    pass
            time.sleep(0.05)
        raise RuntimeError(f"JupyterLab did not start: {Path(self.log.name).read_text(encoding='utf-8')[-2000:]}")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def _environment(private: Path) -> dict[str, str]:
    """This one without the user's settings and store."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MESH_", "PYTEST"))}
    folders = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
    return {
        **kept,
        **{f"JUPYTER_{name}_DIR": str(private / folder) for name, folder in folders.items()},
        "IPYTHONDIR": str(private / "ipython"),
        "PYTHONPATH": str(REPOSITORY),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MPLBACKEND": "agg",
    }


@contextmanager
def running_lab(root: Path, private: Path) -> Iterator[Lab]:
    """JupyterLab on a copy of the course below ``root``; ``private`` is for what it keeps."""
    for part in ("notebooks", "data/samples"):
        shutil.copytree(REPOSITORY / part, root / part)
    lab = Lab(root, private)
    try:
        yield lab
    finally:
        lab.close()


@contextmanager
def open_page(lab: Lab, width: int = 1200, height: int = 900) -> Iterator[Any]:
    """Lab in Chromium.  ``page.dialogs`` has the text of every dialog a page opened by itself."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(PATIENCE)
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(f"{lab.url}lab?token={TOKEN}")
        page.wait_for_function("async () => window.jupyterapp && (await window.jupyterapp.restored, true)")
        yield page
        browser.close()
