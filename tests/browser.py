"""A headless Chromium to look at pages with, driven through the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ over a pipe: nothing but the browser is needed.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
SECONDS = 60.0  # for one answer
PHONE, DESKTOP = 390, 1280
SIZES = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"


def find_browser() -> str | None:
    """The path of a Chromium or Chrome, or None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a headless browser.

    Args:
        executable: What `find_browser` found.
        profile: An empty folder for the browser's files.
    """

    def __init__(self, executable: str, profile: Path):
        self.errors: list[str] = []
        self._reached: set[tuple[str, str]] = set()  # by which page, which stage of its life
        self._number, self._session, self._received = 0, None, b""
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        # The browser reads commands from its descriptor 3 and answers on 4.
        line = f'exec "$0" "$@" 3<&{commands} 4>&{answers}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, executable, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(commands, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        attached = self.command("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.command("Page.setLifecycleEventsEnabled", enabled=True)

    def open(self, url: str, width: int = DESKTOP, height: int = 800, dark: bool = False) -> None:
        """Loads a page; what it complains of on the console is then in `errors`."""
        self.errors.clear()
        self._reached.clear()
        self._width = width
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.command("Emulation.setDeviceMetricsOverride", mobile=width < 600, **size)
        self.prefer(dark)
        page = self.command("Page.navigate", url=url)
        if "errorText" in page:
            raise RuntimeError(f"{url} does not load: {page['errorText']}")
        deadline = time.monotonic() + SECONDS
        while (page["loaderId"], "load") not in self._reached:
            self._receive(deadline)

    def prefer(self, dark: bool) -> None:
        """Makes the device prefer dark or light pages, this one and those that are opened next."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; of a promise, what it resolves to."""
        answer = self.command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression} failed: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        content, window = self.evaluate(SIZES)
        return content - min(window, self._width)  # a phone makes its window wider than itself

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes a PNG of the window, or of the whole page."""
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        os.close(self._commands)  # at which the browser ends itself
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._answers)

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends one command of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method} failed: {answer['error']}")
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._received:
            left = max(deadline - time.monotonic(), 0.0)
            if not select.select([self._answers], [], [], left)[0]:
                raise TimeoutError(f"The browser did not answer in {SECONDS:.0f} s")
            read = os.read(self._answers, 1 << 20)
            if not read:
                raise RuntimeError("The browser has ended")
            self._received += read
        line, _, self._received = self._received.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Page.lifecycleEvent":
            self._reached.add((params["loaderId"], params["name"]))
        elif event == "Runtime.exceptionThrown":
            thrown = params["exceptionDetails"]
            self.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            said = (str(part.get("value", part.get("description"))) for part in params["args"])
            self.errors.append(" ".join(said))
        elif event == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
