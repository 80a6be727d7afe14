"""A Hub that stops responding: before the first byte, within the weights, or with an error.

Each case ends with an error message within seconds.
"""

import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny

from prune_core.models.checkpoints import loading
from prune_core.paths import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CASES = ("config.json-hang", "tokenizer.json-cut", "model.safetensors-cut")
SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import file_download
from prune_core import PruneError
# without a cached file it retries five times and waits for a minute each time
file_download._ETAG_RETRY_TIMEOUT = 1
from prune_core.models.checkpoints import loading
def load(case):
    try:
        loading.load(f"lab/{case}")
        return "READ"
    except PruneError as error:
        return str(error).replace(chr(10), " ")
print(load(sys.argv[1]))
with ThreadPoolExecutor() as executor:  # each waits for its Hub most of the time
    print(*executor.map(load, sys.argv[2:]), sep=chr(10))
"""


@pytest.fixture
def hub(tmp_path):
    """Port of a server that serves a tiny checkpoint as the Hub does.

    The name of a repository selects its failure: in lab/config.json-hang, config.json hangs.
    """
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self, body):
            name = Path(self.path.split("?")[0]).name
            case = next(part for part in self.path.split("/") if "-" in part)
            failing, _, failure = case.rpartition("-")
            if failing != name:
                failure = "none"
            file = tmp_path / "model" / name
            # huggingface_hub resumes a download if the last request has added bytes
            if failure == "hang" or (failure == "cut" and "Range" in self.headers):
                stop.wait(30)
                return
            if failure == "error" or "/resolve/" not in self.path or not file.is_file():
                self.send_response(503 if failure == "error" else 404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = file.read_bytes()
            self.send_response(200)
            for header, value in (
                ("ETag", f'"{name}"'),
                ("X-Repo-Commit", COMMIT),
                ("Content-Length", str(len(content))),
            ):
                self.send_header(header, value)
            self.end_headers()
            if body:
                self.wfile.write(content[: len(content) // 2] if failure == "cut" else content)
            if body and failure == "cut":
                self.wfile.flush()
                stop.wait(30)
                self.close_connection = True

        def do_GET(self):
            self.respond(True)

        def do_HEAD(self):
            self.respond(False)

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    stop.set()
    server.shutdown()


def test_responding_hub_loads_and_stalled_hub_gives_an_error_message(hub, tmp_path):
    environment = {
        name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")
    }
    environment |= {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub}",
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "1",
        "HF_HUB_ETAG_TIMEOUT": "1",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", SCRIPT, "all-whole", *CASES]
    process = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    first, *messages = process.stdout.splitlines()
    assert process.returncode == 0 and first == "READ" and len(messages) == len(CASES), (
        process.stdout,
        process.stderr,
    )
    for case, message in zip(CASES, messages, strict=True):
        advice = (
            "the Hub cannot be reached"
            if case.startswith("config")
            else "the Hub stopped responding"
        )
        assert message.startswith(f"lab/{case}: ") and advice in message, message
