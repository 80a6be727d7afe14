"""Files that readers upload: kept under the home folder by their content, so that the same file is always the same Source.

Knows nothing of what stands in them; data.py reads them like any other file.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path


def save(home: Path, name: str, content: bytes) -> Path:
    """The file's place under home/uploads; bytes that are there already stay where they are, whatever their name is now."""
    folder = home / "uploads" / hashlib.sha256(content).hexdigest()[:16]
    suffix = Path(name).suffix.lower()
    if there := sorted(folder.glob(f"[!.]*{suffix}")):
        return there[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._") or "upload"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as half:
        half.write(content)
    file = folder / f"{stem}{suffix}"
    os.replace(half.name, file)  # a worker never sees half a file
    return file
