"""Chromium without a window, driven over two pipes by the Chrome DevTools Protocol: as much as a test needs."""

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 60  # for an answer; the machine may be busy


def installed() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A page of a browser of its own. `problems` are what its console calls errors, `requested` all addresses."""

    def __init__(self, folder: Path, width: int = 1280, height: int = 800) -> None:
        self.problems: list[str] = []
        self.requested: list[str] = []
        self.numbers, self.buffer, self.events = itertools.count(1), b"", []
        reads, self.to = os.pipe()
        self.back, writes = os.pipe()
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (reads, writes)]  # away from 3 and 4
        command = [str(installed()), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += ["--hide-scrollbars", "--force-device-scale-factor=1", f"--user-data-dir={folder}"]
        # The protocol reads from descriptor 3 and writes to descriptor 4.
        line = f'exec 3<&{theirs[0]} 4>&{theirs[1]}; exec "$@"'
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", line, "bash", *command], pass_fds=theirs, stdout=log, stderr=log
            )
        for end in (reads, writes, *theirs):
            os.close(end)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    session: str | None = None

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        try:
            self.session = None
            self.call("Browser.close")
        except (OSError, TimeoutError):
            self.process.kill()
        self.process.wait(SECONDS)
        os.close(self.to)
        os.close(self.back)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            answer = self.read(until)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def read(self, until: float) -> dict[str, Any]:
        """The next message; what it says of the page is noted."""
        while b"\0" not in self.buffer:
            if not select.select([self.back], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError("chromium does not answer")
            if not (more := os.read(self.back, 1 << 20)):
                raise OSError("chromium has ended")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(line)
        event, told = message.get("method"), message.get("params", {})
        if event == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.problems.append(str([argument.get("value", argument) for argument in told["args"]]))
        elif event == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')[:200]}")
        elif event == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"][:200])
        return message

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str, **where: int) -> Any:
        """The value of a JavaScript expression, waited for where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, **where)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def value_in_frame(self, expression: str) -> Any:
        """The same in the first frame of the page."""
        frame = self.call("Page.getFrameTree")["frameTree"]["childFrames"][0]["frame"]["id"]
        world = self.call("Page.createIsolatedWorld", frameId=frame)["executionContextId"]
        return self.value(expression, contextId=world)

    def wait(self, condition: str) -> None:
        until = time.monotonic() + SECONDS
        while not self.value(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"never: {condition}")
            time.sleep(0.05)

    def picture(self, path: Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
