"""Python interface for notebooks and scripts: prune and compare models, or run an experiment.

Methods and measures bring their own options and error messages. Nothing is written to disk unless
a folder is given.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from torch import nn

from . import tasks as task_types
from . import views
from .analysis.compared_models import ComparedModel
from .cli.run_commands import require_success, run_in_process
from .data import in_memory
from .data.examples import BINARY, DataSource, Examples
from .data.reading import ReadExamples
from .data.retrieval import RetrievalCollection
from .deployment.joint_search import SMALLEST
from .deployment.joint_search_run import JointSearch, JointSearchResult
from .deployment.policy import Policy
from .errors import Cancelled, PruneError
from .experiments import trimming
from .experiments.data_check import check_measures
from .experiments.deployed_files import parse_formats
from .experiments.experiment import Experiment, check_reads, order_measures, stages
from .experiments.run import StageRunner, prune_copy
from .experiments.run import run as run_stages
from .experiments.settings import RunSettings
from .experiments.trimming import Trimmed
from .measures import MEASURES
from .measures.adversarial_augmentation import check_augmentation
from .measures.base import Measure, Pair
from .methods import METHODS
from .models.checkpoints import loading, verification
from .models.checkpoints.tokenizers import prepare_tokenizer
from .models.compact import compact_model
from .models.devices import evaluation_mode, matrix_precision, seed_everything
from .models.families import FAMILIES
from .models.replay import sparsity_by_projection, task_type_of
from .models.user_model import UserModel, in_place_of
from .plugins import Report, Rows, build, no_report
from .pruning import pipeline
from .store.results import Results
from .store.store import Store
from .store.tables import concat_tables
from .tasks import candidates, task_data
from .tasks.embedding import Embedding
from .tasks.task_data import Task

__all__ = [
    "Cancelled",
    "Comparison",
    "EncoderResult",
    "Experiment",
    "PruneError",
    "JointSearchResult",
    "Trimmed",
    "compare",
    "load",
    "prune",
    "prune_encoder",
    "run",
    "shrink_to",
    "trim",
]

# a table, its file, a dict of columns, a datasets.Dataset, or tuples (text, label) or
# (text, text, label); a retrieval collection, its folder, or (corpus, queries, qrels)
Data: TypeAlias = (
    Examples | RetrievalCollection | pd.DataFrame | Mapping[str, Any] | Sequence[Any] | str | Path
)


def load(folder: str | Path, *, pooling: str = "") -> tuple[Any, Any]:
    """Load (model, tokenizer) of a checkpoint folder, compact or not, for deployment.

    The model is in fp32, in eval mode, on the CPU. `pooling` (mean, cls, …) makes an encoder
    without a head a sentence-embedding model.
    """
    return loading.load(str(folder), pooling=pooling)


def prune(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[Any] | Mapping[str, Any] | RetrievalCollection | str | Path,
    method: str = "akr",
    *,
    labels: Sequence[int] | None = None,
    seed: int = 0,
    batch_size: int = 32,
    max_length: int = 128,
    report: Report = no_report,
    **options: Any,
) -> nn.Module:
    """Return a pruned copy of a Hugging Face encoder with a head, on the device of the model.

    The model itself is not changed. `texts` are calibration texts, or pairs of them; the method of
    Kwon et al. also needs their `labels`. For an embedding model they may be a retrieval collection
    as in `compare`, of which documents and queries without judgements are drawn. `options` are
    options of the method, such as sparsity=0.7. Raise PruneError if a value is invalid or the
    model's family is not supported.
    """
    chosen = build(METHODS, method, options)
    model, tokenizer = _checked(model, tokenizer)
    if collection := _collection(texts, model):
        sample = collection.calibration_examples(RunSettings().calibration_size, seed)
    else:
        sample = _calibration_examples(texts, labels, model)
    check_augmentation(chosen, task_type_of(model).name)
    with evaluation_mode(model), matrix_precision(tf32=False):
        verification.check_outputs(
            "The model", model, tokenizer, examples=sample, max_length=max_length
        )
        seed_everything(seed)
        pruned, _ = prune_copy(
            chosen,
            model,
            tokenizer,
            sample=sample,
            seed=seed,
            batch_size=batch_size,
            max_length=max_length,
            report=report,
        )
        return pruned


@dataclass(frozen=True)
class EncoderResult:
    """Result of `prune_encoder`; the scores are None without a function `score`."""

    sparsity: pd.DataFrame  # block, projection, sparsity: one row per weight matrix
    dense_score: float | None = None
    pruned_score: float | None = None


def prune_encoder(
    encoder: nn.Module,
    run: Callable[[Any], Any],
    texts_or_batches: Iterable[Any],
    method: str = "akr",
    *,
    outputs: str = "values",
    score: Callable[[], float] | None = None,
    compact: bool = False,
    seed: int = 0,
    batch_size: int = 32,
    report: Report = no_report,
    **options: Any,
) -> tuple[nn.Module, EncoderResult]:
    """Return a pruned copy of an encoder inside a model of any kind, and its sparsity.

    `encoder` is the module of transformers in your model, such as model.bert, and `run` a function
    that runs your model, in eval mode, on one batch. `texts_or_batches` is the calibration data:
    texts, which `run` gets in lists of `batch_size`, or batches of any kind. Attention masks and
    token types are those that the encoder is called with. The model itself is not changed.

    Methods that measure outputs (AKR-plus, K-prune, K-prune-plus, ZipLM) call `run` repeatedly and
    read what it returns: a tensor or several, with gradients; "values" (squared error), "logits"
    of classes in the last dimension, "binary_logits" or "embeddings" (cosine), as `outputs` says.
    If `run` returns None, they use the encoder's last hidden states.

    `score` is called with the dense and then with the pruned encoder in your model. `compact`
    removes pruned heads and neurons physically. `options` are options of the method. Raise
    PruneError if a value is invalid, the encoder is not supported, or `run` does not call it.
    """
    from transformers import PretrainedConfig

    chosen = build(METHODS, method, options)
    if chosen.labelled:
        raise PruneError(f"{method} needs labels, which run does not read; choose kprune.")
    if chosen.distil:
        raise PruneError(f"distil is {chosen.distil:g}; prune_encoder does not distill, so set 0.")
    kind = type(encoder).__name__
    if not isinstance(getattr(encoder, "config", None), PretrainedConfig):
        raise PruneError(
            f"The encoder is a {kind}; pass the encoder of transformers inside your model, such as "
            f"model.bert, of one of these families: {', '.join(FAMILIES)}."
        )
    loading.check(encoder.config, f"The encoder, a {kind},")
    model = UserModel(encoder, run, outputs)
    with evaluation_mode(encoder), matrix_precision(tf32=False):
        batches = model.capture(_user_batches(texts_or_batches, batch_size))
        seed_everything(seed)
        copied, rows = pipeline.prune(chosen, model, batches, report=report, methods=METHODS)
        whole: Any = compact_model(copied) if compact else copied
        pruned = whole.encoder
        result = EncoderResult(rows["prune"][["block", "projection", "sparsity"]])
        if score is None:
            return pruned, result
        dense_score = float(score())
        with in_place_of(encoder, pruned):
            return pruned, replace(result, dense_score=dense_score, pruned_score=float(score()))


def _user_batches(texts_or_batches: Iterable[Any], batch_size: int) -> list[Any]:
    """Return batches as they are, and texts as lists of similar length."""
    batches = list(texts_or_batches)
    if not all(isinstance(each, str) for each in batches):
        return batches
    texts = sorted(batches, key=len)
    return [texts[start : start + batch_size] for start in range(0, len(texts), batch_size)]


@dataclass(frozen=True)
class Comparison:
    """Results of the measures for both models.

    `rows` holds tables by name, with job 0 for the dense model and job 1 for the pruned one.
    """

    rows: Rows
    models: tuple[ComparedModel, ComparedModel]
    notes: tuple[str, ...] = ()  # how the data was read: rows left out, meanings of labels

    def figure(self, name: str, dark: bool = False) -> Any:
        """Return the chart of a measure as a plotly figure, as shown in the dashboard."""
        if name not in self.rows:
            raise PruneError(
                f"There is no table {name!r} in this comparison; it has {', '.join(self.rows)}."
            )
        charts = {key: view.charts for key, view in views.VIEWS.items() if view.charts}
        if name not in charts:
            names = ", ".join(key for key in charts if key in self.rows)
            raise PruneError(f"There is no chart for the table {name!r}; choose one of {names}.")
        return next(charts[name](self.rows, self.models, dark)).figure

    @property
    def takeaway(self) -> str:
        """Summary of the results: one or two sentences per measure, with intervals."""
        return " ".join(views.takeaways(self.rows, self.models))


def compare(
    model: nn.Module,
    pruned: nn.Module,
    tokenizer: Any,
    data: Data,
    measures: Sequence[str] = ("accuracy",),
    *,
    seed: int = 0,
    batch_size: int = 32,
    max_length: int = 128,
    name: str = "Pruned",
    metric: str = "",
    report: Report = no_report,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> Comparison:
    """Measure both models on the same examples.

    `options` are options of the measures by name, such as {"attack": {"examples": 20}}.

    `data` is a table with the usual columns (text, label …), a dict of them, a datasets.Dataset, a
    table file, or a list of (text, label) tuples. For an embedding model also a retrieval
    collection, which the measure `retrieval` needs: what `--task` takes (a folder, a table of
    queries, a Hub id), or the dicts that BEIR's loaders return: (corpus, queries, qrels).

    `reading` specifies how to read the data, with the names of the command-line flags:
    {"label": "stars", "labels": {1: "bad", 5: "good"},
    "bad_rows": "skip", "split": "test"}. `.notes` of the result lists what was left out or assumed.
    """
    chosen = [build(MEASURES, each, (options or {}).get(each)) for each in measures]
    check_reads(chosen)
    pruned, _ = _checked(pruned, tokenizer)
    model, tokenizer = _checked(model, tokenizer)
    check_measures(chosen, task_type_of(model).name)
    task = _evaluation_task(data, model, metric, reading)
    models = (_model(0, "Dense", model, model=model), _model(1, name, model, model=pruned))
    measured = []
    with tempfile.TemporaryDirectory() as scratch, evaluation_mode(model, pruned):
        runner = StageRunner(Pair(model, model, tokenizer, task, seed, batch_size, max_length))
        for compared, candidate in zip(models, (model, pruned), strict=True):
            folder = Path(tempfile.mkdtemp(dir=scratch))
            runner.pair = replace(runner.pair, pruned=candidate, folder=folder, rows={})
            measured.append(_measure(compared.label, runner, chosen, report))
    return Comparison(_merge(models, measured), models, task.notes)


def run(
    experiment: Experiment, folder: str | Path | None = None, report: Report = no_report
) -> Rows:
    """Run an experiment in this process and return its tables.

    The pruned checkpoint and the tables are saved only if a folder is given: in `checkpoint` and
    in one folder per stage.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(folder) if folder else Path(scratch)
        output.mkdir(parents=True, exist_ok=True)
        experiment = replace(experiment, keep="full" if folder else "none")
        names = stages(experiment)
        results = Results(output, {name: name for name in names})
        for name in names:  # of an earlier run
            shutil.rmtree(results.folder(name), ignore_errors=True)
        return {
            name: rows
            for stage in run_stages(experiment, results, Path(scratch), report)
            for name, rows in stage.rows.items()
        }


def shrink_to(
    experiment: Experiment,
    limits: Mapping[str, float],
    out: str | Path | None = None,
    *,
    objective: str = SMALLEST,
    formats: str = "all",
    trim: Data | bool = False,
    home: str | Path | None = None,
    report: Report = no_report,
) -> JointSearchResult:
    """Search the smallest, or "fastest", exported file within limits; copy it to the folder `out`.

    `experiment` has a method that removes heads and neurons. `limits` are those of a policy, such
    as {"accuracy_loss": 1, "size": 20}; losses are from the unpruned model in PyTorch fp32. `trim`:
    first trim the vocabulary to these texts, or to the calibration pool if True. With a folder
    `home`, a repeated search reuses its models. Raise PruneError if a value is invalid.
    """
    texts = trimming.requested_texts(trim)
    with tempfile.TemporaryDirectory() as scratch:
        store, policy = Store(Path(home or scratch)), Policy(dict(limits))

        def run(each: Experiment) -> Any:
            return require_success(store, run_in_process(store, each, report=report))

        names = parse_formats(formats)
        search = JointSearch(store, experiment, policy, names, run, report, objective, texts)
        return search.result(Path(out) if out else None)


def trim(
    checkpoint: str | Path,
    texts: Data,
    out: str | Path | None = None,
    *,
    vocabulary: int = 0,
    max_ratio: float = 1.01,
    scripts: Sequence[str] = (),
    positions: int = 0,
    seed: int = 0,
    report: Report = no_report,
) -> Trimmed:
    """Remove the tokens that the texts do not need from a checkpoint's vocabulary.

    `texts` are like those that the model will read: a list, a table, a file, a known task or a
    retrieval collection, as many as possible. One text in five is held out, to measure what
    vocabularies of several sizes cost (`.table`): tokens per text relative to the full vocabulary,
    texts that are tokenized as before, parameters and bytes. The trimmed vocabulary has
    `vocabulary` tokens, or the smallest number with which held-out texts have at most `max_ratio`
    times as many tokens as before, at 95% confidence. If the texts are too few for that, a larger
    one is chosen, and `.warning` says so.

    With `out`, the trimmed checkpoint is written to this new folder. It is an ordinary one, for
    `load`, transformers and every command. Texts of kept tokens have the same outputs as before.
    `scripts` are those whose single characters are kept, such as ["Latin"] (default: those of the
    texts). `positions` also cuts learned position embeddings to texts of that many tokens.
    """
    return trimming.trim(
        str(checkpoint),
        trimming.texts_in(texts),
        Path(out) if out else None,
        size=vocabulary,
        max_ratio=max_ratio,
        scripts=scripts,
        positions=positions,
        seed=seed,
        report=report,
    )


def _checked(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """Return the unwrapped model and a copy of the tokenizer prepared for the model's family.

    Raise PruneError if the model or the tokenizer is not supported.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    model = _unwrap(model)
    kind = type(model).__name__
    if not isinstance(model, PreTrainedModel):
        advice = (
            "Merge the adapter first: model.merge_and_unload()."
            if hasattr(model, "merge_and_unload")
            else "Load one: model, tokenizer = pc.load(FOLDER)."
        )
        raise PruneError(f"The model is a {kind}, not a model of transformers. {advice}")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise PruneError(
            f"The tokenizer is a {type(tokenizer).__name__}, not a tokenizer of transformers. "
            "Load both: model, tokenizer = pc.load(FOLDER)."
        )
    loading.check(model.config, f"A {kind}", kind)
    return model, prepare_tokenizer(tokenizer, model.config)


def _unwrap(model: Any) -> Any:
    """Return the model wrapped in DataParallel, DistributedDataParallel or torch.compile."""
    while not hasattr(type(model), "from_pretrained"):
        inner = getattr(model, "_orig_mod", getattr(model, "module", None))
        if inner is None:
            break
        model = inner
    return model


def _examples(data: Any, model: Any, options: Mapping[str, Any] | None = None) -> ReadExamples:
    """Return validated examples from any kind of table, with notes on how they were read."""
    if isinstance(data, Examples):
        return ReadExamples(data, [])
    table, source = in_memory.read_table(data, options)
    return task_data.examples_of(
        table, source, loading.label_names(model.config), kind=task_type_of(model).name
    )


def _calibration_examples(texts: Any, labels: Sequence[int] | None, model: Any) -> Examples:
    if isinstance(texts, (str, Path)):
        raise PruneError(
            f"{str(texts)[:80]!r} is not a retrieval collection of an embedding model; give a list "
            "of calibration texts."
        )
    if not len(texts):
        raise PruneError("There are no calibration texts; give at least one.")
    text_labels: Sequence[Any] = labels or [None] * len(texts)
    rows = [
        (*([text] if isinstance(text, str) else text), label)
        for text, label in zip(texts, text_labels, strict=True)
    ]
    return _examples(rows, model).examples


def _collection(
    data: Any, model: Any, options: Mapping[str, Any] | None = None
) -> RetrievalCollection | None:
    """Return the data as a retrieval collection; None if it is none.

    PruneError for a collection and a model that embeds no texts.
    """
    kind = task_type_of(model).name
    if isinstance(data, (str, Path)):
        source = in_memory.source_of(str(data), options)
        is_collection = kind == Embedding.name and task_data.is_collection(source, kind)
        return task_data.read_collection(source) if is_collection else None
    collection = in_memory.read_collection(data, options)
    if collection and kind != Embedding.name:
        raise PruneError(
            f"A retrieval collection is for embedding models, and this is a {type(model).__name__};"
            " give texts with labels."
        )
    return collection


def _evaluation_task(
    given: Any, model: Any, metric: str, options: Mapping[str, Any] | None = None
) -> Task:
    """Return the task of measuring models on the given data, read with these options."""
    if collection := _collection(given, model, options):
        source = DataSource("data", metric=metric)
        return task_data.of_collection(collection, source, loading.label_names(model.config))
    data = _examples(given, model, options)
    sample = candidates.as_grades(data.examples, metric)
    names = BINARY if sample.binary else loading.label_names(model.config)
    metric = task_types.metric_for(
        task_type_of(model).name,
        len(names),
        metric,
        labelled=sample.labels is not None,
        has_queries=bool(sample.queries),
        has_grades=sample.has_grades,
    )
    notes = [*data.notes, *candidates.ranking_notes(sample, metric)]
    return Task("data", names, sample, evaluation=sample, metric=metric, notes=tuple(notes))


def _measure(label: str, runner: StageRunner, measures: Sequence[Measure], report: Report) -> Rows:
    """Check the outputs of a runner's pruned model, and return the tables of the measures."""
    pair = runner.pair
    verification.check_outputs(
        f"The model {label!r}",
        pair.pruned,
        pair.tokenizer,
        examples=pair.task.evaluation,
        max_length=pair.max_length,
    )
    for measure in order_measures(measures):
        runner.measure(measure, report)
    return pair.rows


def _model(job: int, label: str, dense: nn.Module, model: nn.Module) -> ComparedModel:
    """Describe a model for charts; its sparsity is the realized one, not the requested one."""
    if model is dense:
        return ComparedModel(job, label)
    zeros = pd.DataFrame(sparsity_by_projection(model))["sparsity"].mean()
    return ComparedModel(job, label, label.lower(), sparsity=float(zeros))


def _merge(models: Sequence[ComparedModel], measured: Sequence[Rows]) -> Rows:
    """Concatenate the tables of several models by name."""
    columns = ("job", "label", "method", "sparsity", "seed")
    identities = [{name: getattr(model, name) for name in columns} for model in models]
    names = dict.fromkeys(name for tables in measured for name in tables)
    return {
        name: concat_tables(
            (identity, tables[name])
            for identity, tables in zip(identities, measured, strict=True)
            if name in tables
        )
        for name in names
    }
