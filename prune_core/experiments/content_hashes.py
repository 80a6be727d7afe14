"""SHA-256 hashes of checkpoints and data files: experiments are identified by file contents.

A process hashes a file once, and again only if the file system reports a change, so pages can call
this at every rerun. Hashing takes about 1 second per gigabyte.
"""

import hashlib
import os
import time
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..data import retrieval_files
from ..errors import PruneError
from ..models.candidates import files, kinds
from ..models.checkpoints import adapters, folders, loading
from ..models.module_folders import root_folder, subfolders
from ..paths import resolve_allowed, table_path
from ..tasks.task_data import DEMO, RETRIEVAL_DEMO, RETRIEVAL_FOLDER

# Files of a checkpoint folder that are not read when it is loaded. An unknown file counts: hashing
# it costs a little time, while ignoring one that matters would return results of other weights.
IGNORED = (
    *(".*", "*.md", "*.py", "*.log", "LICENSE*", "NOTICE*", "requirements.txt"),
    *("finetune.json", "soup.json", "trim.json", "trainer_state.json", "*_results.json"),
    "training_args.bin",
    *("optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "events.out.tfevents.*"),
    *("tf_model.h5", "flax_model.msgpack", "rust_model.ot", "*.onnx", "*.onnx_data"),
)
MARKERS = ("state.json", "dataset_dict.json")  # of a folder written by save_to_disk
SAVED = ("*.json", "*.arrow", "*/*.json", "*/*.arrow")  # its files, also of several splits
TICK = 2_000_000_000  # ns; coarsest timestamp of common file systems (FAT)

_hashes: dict[tuple[int, ...], str] = {}


def hash_checkpoint(checkpoint: str) -> list[list[str]]:
    """Return [name, hash] of the files of a local checkpoint folder; empty for a Hub model.

    The modules of an embedding model are included, also in subfolders. The files of an adapter are
    followed by those of its base model, if that is local too.
    """
    if checkpoint not in folders.BUNDLED and not Path(checkpoint).is_dir():
        return []
    used = [Path(root_folder(loading.resolve(checkpoint)))]
    patterns = {"*", *(f"{name}/*" for name in subfolders(used[0]) if name)}
    if (used[0] / adapters.CONFIG).is_file():
        used.append(Path(adapters.base_model(str(used[0]), checkpoint)))
    return [entry for folder in used for entry in _hash_files(folder, patterns, IGNORED)]


def hash_candidate(path: str, tokenizer: str) -> Any:
    """Return [name, hash] of a candidate's files and tokenizer, or the id of a Hub model."""
    if files.locate(path).kind == kinds.CHECKPOINT:
        return hash_checkpoint(path) or path
    used = [[file.name, _hash_file(file)] for file in files.content_files(path)]
    if files.locate(path).kind == kinds.TABLE:
        return used
    folder = files.tokenizer_folder(path, tokenizer)
    return used + _hash_files(folder, (*files.TOKENIZER, "*.json", "*.txt"))


def hash_data(name: str) -> list[list[str]]:
    """Return [name, hash] of a data file, or of the files of a folder.

    The folder is made by `save_to_disk` or holds a retrieval collection. Empty for data on the Hub.
    """
    if name == "demo":
        return [[DEMO.name, _hash_file(DEMO)]]
    if name == RETRIEVAL_DEMO:
        name = str(RETRIEVAL_FOLDER)
    if not os.path.exists(table_path(name)):
        return []
    path = resolve_allowed(name)
    if path.is_file():
        return [[path.name, _hash_file(path)]]
    is_data = any((path / marker).is_file() for marker in MARKERS)
    return _hash_files(path, SAVED if is_data else retrieval_files.FILES)


def _hash_files(
    folder: Path, patterns: Iterable[str], ignored: Iterable[str] = ()
) -> list[list[str]]:
    """Return [name relative to the folder, hash] of the files that match, sorted by name."""
    files = {
        path.relative_to(folder).as_posix(): path
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file() and not any(fnmatch(path.name, pattern) for pattern in ignored)
    }
    return [[name, _hash_file(files[name])] for name in sorted(files)]


def _hash_file(path: Path) -> str:
    """Return the hash of a file, from memory if the file has not changed.

    Size and modification time can be set back after a write; the change time (ctime) cannot. A file
    that changed a moment ago is not remembered: a second write within a tick would leave no trace.
    """
    try:
        stat = path.stat()
        key = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if key in _hashes:
            return _hashes[key]
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PruneError(
            f"{path} cannot be read ({error.strerror or error}); check that this user may read it."
        ) from None
    if time.time_ns() - stat.st_ctime_ns > TICK:
        _hashes[key] = digest
    return digest
