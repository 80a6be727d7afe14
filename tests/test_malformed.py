"""Malformed inputs are read correctly or give an error message, never a traceback.

Inputs are the corpus of the benchmark, generated inputs and invalid query parameters.
"""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from benchmarks import malformed
from prune_core import PruneError
from prune_core.data.examples import DataSource
from prune_core.deployment import policy
from prune_core.experiments import study
from prune_core.paths import ROOT
from prune_core.queue import jobs
from prune_core.store.store import Store
from prune_core.tasks import task_data
from prune_core.views import CRITERIA

SETTINGS = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def test_corpus_has_no_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    counts = malformed.run(tmp_path)
    assert sum(counts.values()) >= 350
    assert not sum(count for (_, outcome), count in counts.items() if outcome == "traceback"), (
        capsys.readouterr().out
    )
    assert all(counts[kind, "sentence"] for kind in dict.fromkeys(kind for kind, _ in counts))


def assert_no_traceback(attempt):
    """Pass if `attempt` returns or raises a PruneError with a message."""
    try:
        attempt()
    except PruneError as error:
        assert str(error).strip() and "Traceback" not in str(error)


@SETTINGS
@given(
    content=st.binary(max_size=300),
    suffix=st.sampled_from(
        [
            ".csv",
            ".tsv",
            ".txt",
            ".json",
            ".jsonl",
            ".conll",
            ".parquet",
            ".xlsx",
            ".zip",
            ".gz",
            "",
        ]
    ),
)
def test_random_bytes_as_data_file(content, suffix, tmp_path):
    file = tmp_path / f"rows{suffix}"
    file.write_bytes(content)
    assert_no_traceback(lambda: task_data.load(DataSource(str(file)), malformed.LABELS))


CELLS = st.one_of(
    st.text(max_size=20),
    st.none(),
    st.floats(),
    st.integers(),
    st.booleans(),
    st.lists(st.text(max_size=3), max_size=3),
)


@SETTINGS
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["text", "label", "sentence1", "sentence2", "x"]), CELLS, max_size=4
        ),
        max_size=8,
    )
)
def test_rows_of_random_cells(rows, tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    assert_no_traceback(lambda: task_data.load(DataSource(str(file)), malformed.LABELS))


STUDY_KEYS = st.sampled_from(
    [
        "study",
        "checkpoint",
        "task",
        "methods",
        "sparsities",
        "seeds",
        "measures",
        "sweeps",
        "starts",
        "keep",
        "evaluation_size",
    ]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=8), st.booleans()),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@SETTINGS
@given(plan=st.dictionaries(STUDY_KEYS, VALUES, max_size=4))
def test_studies_of_random_structure(plan, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps(plan))
    assert_no_traceback(lambda: study.load(file))


@SETTINGS
@given(
    limits=st.dictionaries(
        st.sampled_from([*CRITERIA, "slices", "confidence", "x"]), VALUES, max_size=4
    )
)
def test_policies_of_random_structure(limits):
    assert_no_traceback(lambda: policy.parse(json.dumps(limits), "policy.yaml"))


QUERIES = [
    {"study": "none such"},
    {"study": "<script>alert(1)</script>"},
    {"models": "x,y,-1,999999999999999999999"},
    {"models": ","},
    {"sparsity": "NaN"},
    {"examples": "1,2,x,-5,99999999999999999999"},
    {"seeds": "none"},
    {"measure": "../../etc/passwd"},
    {"open": "x" * 5000},
]


@pytest.mark.parametrize(
    "page", ["overview", "compare", "layers", "drift", "attack", "deploy", "inspect", "studies"]
)
def test_page_opens_with_invalid_query_parameters(page, tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda *a, **k: None)
    before = Store(tmp_path).jobs()
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.run()
    at.switch_page(f"pages/{page}.py")
    for query in QUERIES:
        for name in list(at.query_params):
            del at.query_params[name]
        for name, value in query.items():
            at.query_params[name] = value
        at.run()
        assert not at.exception, (query, at.exception)
    assert Store(tmp_path).jobs() == before and Path(tmp_path).is_dir()
