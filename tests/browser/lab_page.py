"""JupyterLab in a browser as a learner uses it. Each step waits for a state that Lab is in, never for a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page

PATIENCE = 60_000
"""How many milliseconds a state may be waited for: far more than it takes, on a machine that does much else."""

LESSON = 600_000
"""How many milliseconds all cells of a lesson may take."""

READY = """(path) => {
    const open = window.jupyterapp?.shell.currentWidget;
    const kernel = open?.sessionContext?.session?.kernel;
    return open?.context?.path === path && open.context.isReady && !document.querySelector("#jupyterlab-splash")
        && open.content.widgets.length > 0 && open.content.widgets.every((cell) => cell.isAttached)
        && kernel?.connectionStatus === "connected" && kernel.status === "idle";
}"""

ALL_RAN = """() => {
    const open = window.jupyterapp.shell.currentWidget;
    const code = open.content.widgets.filter((cell) => cell.model.type === "code" && cell.model.sharedModel.source);
    return code.every((cell) => cell.model.executionCount) && open.sessionContext.session.kernel.status === "idle";
}"""

RAN_AGAIN = """([index, before]) => {
    const open = window.jupyterapp.shell.currentWidget;
    const count = open.content.widgets[index].model.executionCount;
    return count && count !== before && open.sessionContext.session.kernel.status === "idle";
}"""

IN_VIEW = """(index) => {
    const content = window.jupyterapp.shell.currentWidget.content;
    const within = content.widgets[index].node.firstElementChild;
    if (within?.checkVisibility({contentVisibilityAuto: true})) return true;
    content.scrollToItem(index, "start");  // the cells above have got their real height since, and moved it away
}"""

CELL = "window.jupyterapp.shell.currentWidget.content.widgets[index].model"


@contextmanager
def browsing(browser: Browser, own: str, **options) -> Iterator[tuple[Page, list[str]]]:
    """A page that reaches nothing but addresses that begin with `own`, and what its console complains of."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, **options) as context:
        context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(own) else route.abort())
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        complaints = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        yield page, complaints


class LabPage:
    """One page on a Lab server."""

    def __init__(self, page: Page, url: str, token: str):
        self.page = page
        self._url = url
        self._token = token

    def open(self, notebook: str) -> None:
        """Open a notebook by its path below the server's folder, and wait until it can be worked in."""
        self.page.goto(f"{self._url}lab/tree/{notebook}?token={self._token}")
        self.page.wait_for_function(READY, arg=notebook)

    def run_all(self) -> None:
        """Take `Run All Cells` from the menu, and wait for the last."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(ALL_RAN, timeout=LESSON)

    def cell(self, index: int) -> Locator:
        """A cell, brought into view. Out of it Lab leaves the drawing to the browser, and then it has no text."""
        self.page.evaluate(
            "(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index, 'start')", index
        )
        self.page.wait_for_function(IN_VIEW, arg=index)
        return self.page.locator(f'.jp-Notebook:visible .jp-Cell[data-windowed-list-index="{index}"]')

    def write(self, index: int, source: str) -> None:
        """Put this source into a cell, in place of its own."""
        self.cell(index).locator(".jp-InputArea .cm-content").click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.press("Delete")
        self.page.keyboard.insert_text(source)
        self.page.wait_for_function(f"([index, source]) => {CELL}.sharedModel.source === source", arg=[index, source])

    def run(self, index: int) -> None:
        """Run a cell from the keyboard, and wait for it."""
        before = self.page.evaluate(f"(index) => {CELL}.executionCount", index)
        self.cell(index).locator(".jp-InputArea .cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self.page.wait_for_function(RAN_AGAIN, arg=[index, before])

    def card(self, index: int) -> Locator:
        """The card under a check cell."""
        return self.cell(index).locator(".jp-OutputArea-output .mathjax_ignore")

    def save(self) -> None:
        """Save from the keyboard, and wait until that is done."""
        self.page.keyboard.press("ControlOrMeta+S")
        self.page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")

    def trusts(self, index: int) -> bool:
        """Whether Lab shows the outputs of a cell as they came, or only what its sanitizer lets pass."""
        return self.page.evaluate(f"(index) => {CELL}.trusted", index)

    def use_theme(self, name: str) -> None:
        """Change the colours: "JupyterLab Light" or "JupyterLab Dark"."""
        self.page.evaluate("(theme) => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", name)
        self.page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached")

    def shut_down(self) -> None:
        """End all kernels of the server, and with them the servers that the lesson has started."""
        self.page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")


def untrusted(notebook: Path) -> Path:
    """A copy beside a notebook, as it comes from somebody else: its signature is not known here."""
    copy = notebook.with_name(f"from_somebody_else_{notebook.name}")
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["metadata"]["from"] = "somebody else"
    copy.write_text(json.dumps(content), encoding="utf-8")
    return copy
