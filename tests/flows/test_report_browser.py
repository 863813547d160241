"""The report page in headless Chromium: it sorts, it asks the network for nothing, its console is silent."""

import json
import shutil
import subprocess
import time
import urllib.request

import pytest
from report_cells import VARIANTS, invent

from compression.analysis.table import table
from flows.report import write

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")

_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--remote-debugging-port=0", "--remote-allow-origins=*",
]  # fmt: skip


class _Tab:
    """One tab, driven through Chromium's debugging protocol."""

    def __init__(self, socket):
        self.socket, self.events, self._count = socket, [], 0

    def call(self, method, **parameters):
        self._count += 1
        self.socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == self._count:
                return message.get("result", message)
            self.events.append(message)

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def open(self, address):
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=address)
        for _ in range(200):
            if self.value("document.readyState === 'complete' && !!document.querySelector('table.sortable')"):
                return
            time.sleep(0.05)
        raise AssertionError("the page did not load")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    cells = invent(folder, seeds=(0, 1))
    result = table(
        cells,
        variants=list(VARIANTS),
        tasks=["tweets", "rte"],
        baseline="finetuned-3l",
        teacher="teacher",
        bootstrap_samples=200,
    )
    write(
        result,
        folder,
        ["html"],
        title="</title><script>window.broken = 1</script>",
        study_text="<script>window.broken = 1</script>",
    )
    return folder / "report.html"


@pytest.fixture
def tab(page, tmp_path):
    from websockets.sync.client import connect

    with subprocess.Popen(
        [BROWSER, *_FLAGS, f"--user-data-dir={tmp_path}", "about:blank"],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            port_file = tmp_path / "DevToolsActivePort"
            for _ in range(600):
                if port_file.exists() and port_file.read_text().strip():
                    break
                time.sleep(0.05)
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                target = next(one for one in json.load(answer) if one["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
                tab = _Tab(socket)
                tab.open(page.as_uri())
                yield tab
        finally:
            process.terminate()
            process.wait(timeout=30)


_NAMES = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => row.cells[0].dataset.sort)"
_CLICK = "document.querySelector('th[data-column=\"{}\"] button').click()"
_KEYS = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => Number(row.cells[{}].dataset.sort))"


def test_page_sorts_and_stays_silent(tab, page):
    assert tab.value(_NAMES) == list(VARIANTS)

    tab.value(_CLICK.format(1))
    best_first = tab.value(_KEYS.format(1))
    assert best_first == sorted(best_first, reverse=True)
    assert tab.value("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == "descending"

    tab.value(_CLICK.format(1))
    worst_first = tab.value(_KEYS.format(1))
    assert worst_first == sorted(worst_first)

    tab.value(_CLICK.format(0))
    assert tab.value(_NAMES) == sorted(VARIANTS, reverse=True)
    assert tab.value("document.querySelectorAll('th[aria-sort]').length") == 1

    assert tab.value("typeof window.broken") == "undefined"
    assert tab.value("document.title").startswith("</title>")
    assert tab.value("document.querySelector('figure svg').getBoundingClientRect().width") > 300
    tab.value("new Promise(done => setTimeout(done, 200))")
    complaints = [
        event
        for event in tab.events
        if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ]
    assert complaints == []
    asked = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert all(address == page.as_uri() or address.startswith("data:") for address in asked)


def test_page_fits_a_narrow_window(tab):
    tab.call("Emulation.setDeviceMetricsOverride", width=420, height=900, deviceScaleFactor=1, mobile=False)
    # The table scrolls inside its own box; the page itself does not.
    assert tab.value("document.documentElement.scrollWidth") <= 420
