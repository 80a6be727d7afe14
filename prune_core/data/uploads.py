"""Store uploaded files under the home folder by content hash.

The same content always has the same path, and so the same DataSource.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path


def save(home: Path, name: str, content: bytes) -> Path:
    """Write an upload to home/uploads and return its path.

    If the same content exists, its path is returned, whatever the new name is.
    """
    folder = home / "uploads" / hashlib.sha256(content).hexdigest()[:16]
    suffix = Path(name).suffix.lower()
    if existing := sorted(folder.glob(f"[!.]*{suffix}")):
        return existing[0]
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._") or "upload"
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as partial:
        partial.write(content)
    file = folder / f"{stem}{suffix}"
    os.replace(partial.name, file)  # atomic: a worker never sees a partial file
    return file
