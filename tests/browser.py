"""A headless Chromium driven over its debugging port, for tests of pages; with its console and its errors."""

import base64
import json
import shutil
import subprocess
import time
from pathlib import Path

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
)


def chromium():
    """The browser's command, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One tab. `errors` gets a line for every error in the console, uncaught exception and refused request."""

    def __init__(self, folder, *, width=1200, height=900):
        import websocket

        log = (Path(folder) / "chromium.log").open("wb")
        command = [chromium(), *FLAGS.split(), f"--user-data-dir={folder}/profile", f"--window-size={width},{height}"]
        self.process = subprocess.Popen([*command, "about:blank"], stdout=log, stderr=log)
        log.close()
        address = self._address(Path(folder) / "profile" / "DevToolsActivePort")
        self.socket = websocket.create_connection(address, timeout=30, suppress_origin=True)
        self.count, self.errors = 0, []
        target = next(one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page")
        joined = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    session = None

    def _address(self, file):
        for _ in range(300):
            if file.exists() and len(lines := file.read_text().split()) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            assert self.process.poll() is None, "Chromium ended"
            time.sleep(0.1)
        raise AssertionError("Chromium did not start")

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)

    def send(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        self.socket.send(json.dumps(message))
        while True:
            found = json.loads(self.socket.recv())
            if found.get("id") == self.count:
                assert "error" not in found, found
                return found["result"]
            self._note(found)

    def _note(self, event):
        name, params = event.get("method"), event.get("params", {})
        if name == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(str(details.get("exception", details).get("description", details)))
        elif name == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        elif name == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif name == "Page.javascriptDialogOpening":
            self.errors.append("a dialog opened")

    def run(self, script):
        """The value of an expression in the page, promises awaited."""
        found = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script, seconds=25):
        """Wait until the expression is true in the page."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(f"Boolean({script})"):  # an element itself would come back as an empty dictionary
                return
            time.sleep(0.1)
        shown = self.run("document.body.innerText")[:2000]
        raise AssertionError(f"not in {seconds} s: {script}; errors {self.errors}; {shown}")

    def open(self, url):
        self.send("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def place(self, script):
        """The middle of an element in the window, scrolled to, once nothing moves it any more."""
        where = (
            f"(() => {{ const one = {script}; one.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const at = one.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; })()"
        )
        seen = []
        while len(seen) < 4 or any(one != seen[-1] for one in seen[-4:]):
            seen.append(self.run(where))
            time.sleep(0.05)
            assert len(seen) < 200, f"{script} does not come to rest"
        return seen[-1]

    def click(self, script, dx=0, dy=0):
        """A real click in the middle of an element, or beside it."""
        x, y = self.place(script)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = "none" if kind == "mouseMoved" else "left"
            self.send("Input.dispatchMouseEvent", type=kind, x=x + dx, y=y + dy, button=button, clickCount=1)

    def key(self, name, text=""):
        """A key, pressed and released."""
        code = {"Enter": 13, "Tab": 9}.get(name, 0)
        down = {"type": "keyDown", "key": name, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.send("Input.dispatchKeyEvent", **down)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    def screen(self, width, height, *, dark=False, phone=False):
        """The window's size, the scheme of its colours, and whether it is a phone's."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path, *, whole=True):
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(found["data"]))
