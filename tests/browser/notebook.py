"""One notebook in JupyterLab, as somebody with a mouse and a keyboard sees it."""

from __future__ import annotations

from pathlib import Path

PATIENCE = 120_000
"""Milliseconds until something that must happen counts as not happening."""

SEEN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
"""The notebook in front."""

_OPEN = "async path => { await window.jupyterapp.commands.execute('docmanager:open', {path}); }"
_ALL_RUN = (
    """() => {
  const prompts = [...document.querySelectorAll('%s .jp-CodeCell .jp-InputPrompt')].map(one => one.textContent.trim());
  return prompts.length > 0 && prompts.every(text => /^\\[\\d+\\]:$/.test(text));
}"""
    % SEEN
)
_IDLE = """async path => {
  const widget = window.jupyterapp.shell.currentWidget;
  if (widget?.context?.path !== path) return false;
  await widget.sessionContext.ready;
  const kernel = widget.sessionContext.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
_SETTLED = """() => {
  const value = Number(document.querySelector('%s .noUi-handle').getAttribute('aria-valuenow')).toLocaleString('en-US');
  return document.querySelector('%s .meshlab-place').innerText.includes(`behind event ${value} of`);
}""" % (SEEN, SEEN)
_CLOSE = """async () => {
  const widget = window.jupyterapp.shell.currentWidget;
  await widget.sessionContext.shutdown();
  widget.context.model.dirty = false;
  widget.close();
}"""


class Notebook:
    """A notebook that is open in a page of Lab, in front, with an idle kernel."""

    def __init__(self, page, name: str) -> None:
        self.page, self.path = page, f"notebooks/{name}"
        page.evaluate(_OPEN, self.path)
        page.wait_for_selector(f"{SEEN} .jp-CodeCell")
        self.wait_until_idle()

    def wait_until_idle(self) -> None:
        """Wait until the kernel is connected and has nothing to do."""
        self.page.wait_for_function(_IDLE, arg=self.path)

    def run_all(self) -> None:
        """Run -> Run All Cells, and wait until every cell has its number and the kernel is idle."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
        self.page.click("#jp-MainMenu >> text=Run")
        self.page.click(".lm-Menu-item[data-command='runmenu:run-all']")
        self.page.wait_for_function(_ALL_RUN)
        self.wait_until_idle()

    def find(self, selector: str):
        """Elements of the notebook."""
        return self.page.locator(f"{SEEN} {selector}")

    def part(self, name: str):
        """A part of a widget of ours."""
        return self.find(f".meshlab-{name}")

    def errors(self) -> list[str]:
        """What cells failed with."""
        return self.find(".jp-OutputArea-output[data-mime-type*='error']").all_inner_texts()

    def wait_for(self, name: str, text: str) -> None:
        """Wait until a part of a widget shows a text."""
        self.part(name).filter(has_text=text).wait_for()

    def wait_until_settled(self) -> str:
        """Wait until the explorer shows the stop its slider is at; returns the line about it."""
        self.page.wait_for_function(_SETTLED)
        return self.part("place").inner_text()

    def widths(self) -> list[int]:
        """Widths of the pictures in outputs, once all are loaded."""
        every = f"[...document.querySelectorAll('{SEEN} .jp-OutputArea-output img')]"
        self.page.wait_for_function(f"() => {every}.every(one => one.complete)")
        return self.page.evaluate(f"() => {every}.map(one => one.naturalWidth)")

    def screenshot(self, path: Path, top) -> None:
        """The page as PNG, scrolled so that an element stands near the top."""
        path.parent.mkdir(parents=True, exist_ok=True)
        top.evaluate("one => one.scrollIntoView({block: 'start'})")
        self.page.screenshot(path=path)

    def close(self) -> None:
        """Stop the kernel and close the notebook without saving it."""
        self.page.evaluate(_CLOSE)
