"""A Hub that stops answering: before the first byte, in the middle of the weights, or with an error; each ends in a sentence, soon."""

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
SAY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import file_download
from prune_core import PruneError
file_download._ETAG_RETRY_TIMEOUT = 1  # without a cached file it retries five times and waits a minute each time
from prune_core.models import loading
def say(case):
    try:
        loading.load(f"lab/{case}")
        return "READ"
    except PruneError as error:
        return str(error).replace(chr(10), " ")
print(say(sys.argv[1]))
with ThreadPoolExecutor() as at_once:  # each waits for its Hub, most of the time
    print(*at_once.map(say, sys.argv[2:]), sep=chr(10))
"""


@pytest.fixture
def hub(tmp_path):
    """The port at which a tiny checkpoint is served as the Hub does; lab/config.json-hang is the one whose config.json hangs."""
    loading.save(tiny.model(), tiny.tokenizer(), tmp_path / "model")
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body):
            name = Path(self.path.split("?")[0]).name
            stops, _, how = next(part for part in self.path.split("/") if "-" in part).rpartition(
                "-"
            )
            file, how = tmp_path / "model" / name, how if stops == name else "whole"
            # huggingface_hub resumes a download where it ended, as long as each request adds bytes
            if how == "hang" or (how == "cut" and "Range" in self.headers):
                over.wait(30)
                return
            if how == "error" or "/resolve/" not in self.path or not file.is_file():
                self.send_response(503 if how == "error" else 404)
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
                self.wfile.write(content[: len(content) // 2] if how == "cut" else content)
            if body and how == "cut":
                self.wfile.flush()
                over.wait(30)
                self.close_connection = True

        def do_GET(self):
            self.answer(True)

        def do_HEAD(self):
            self.answer(False)

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    over.set()
    server.shutdown()


def test_one_that_answers_is_read_and_one_that_stops_is_a_sentence(hub, tmp_path):
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
    command = [sys.executable, "-c", SAY, "all-whole", *CASES]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    first, *said = done.stdout.splitlines()
    assert done.returncode == 0 and first == "READ" and len(said) == len(CASES), (
        done.stdout,
        done.stderr,
    )
    for case, words in zip(CASES, said, strict=True):
        advice = (
            "the Hub cannot be reached"
            if case.startswith("config")
            else "the Hub stopped answering"
        )
        assert words.startswith(f"lab/{case}: ") and advice in words, words
