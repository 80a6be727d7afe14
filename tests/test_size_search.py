"""Size search: bisection with known thresholds, and complete searches on the demo."""

import pytest
from test_targets import clock  # noqa: F401

from prune_core.analysis import evidence
from prune_core.cli.arguments import main
from prune_core.deployment import deployment_check, size_search
from prune_core.deployment.policy import Policy
from prune_core.deployment.size_search import MAX_SPARSITY, STEP, TRIALS, Trial
from prune_core.store.store import Store

POLICY = Policy({"accuracy_loss": 12.0})


def search(threshold: float) -> list[Trial]:
    """Return the trials if every sparsity up to the threshold meets the limits."""
    trials: list[Trial] = []
    while (sparsity := size_search.next_sparsity(trials)) is not None:
        decision = deployment_check.SHIP if sparsity <= threshold else deployment_check.STOP
        trials.append(
            Trial(
                sparsity,
                f"M {sparsity:.0%}",
                len(trials) + 1,
                decision=decision,
                detail="Do not ship: it lost.",
            )
        )
    return trials


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.02, 0.3, 0.5, 0.505, 0.77, 0.97, 0.98])
def test_the_search_ends_within_one_step_of_the_threshold(threshold: float) -> None:
    trials = search(threshold)
    best = max((trial.sparsity for trial in trials if trial.is_within_limits), default=0.0)
    assert best <= threshold < best + STEP + 1e-9 and len(trials) <= TRIALS + 1
    assert len({trial.sparsity for trial in trials}) == len(trials)
    assert all(0 < trial.sparsity <= MAX_SPARSITY for trial in trials)


def test_the_result_names_the_smallest_model_and_the_next_smaller_one() -> None:
    sentence = size_search.result_sentence(search(0.5), POLICY)
    assert sentence.startswith(
        "M 50% (job 1) is the smallest model that meets the limit at 95% confidence. M 5"
    )
    assert sentence.endswith("does not: do not ship: it lost.")
    assert size_search.result_sentence(search(0.0), POLICY).startswith(
        "No tested sparsity meets the limit"
    )


def test_trial_confidence_is_corrected_for_the_number_of_trials() -> None:
    assert (1 - size_search.trial_criteria(POLICY).confidence / 100) * TRIALS == pytest.approx(
        POLICY.alpha
    )


def test_search_is_a_study_and_reuses_finished_trials(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    options = ["--calibration-size", "8", "--evaluation-size", "200", "--keep", "none"]
    assert main(["shrink-to", "--method", "magnitude", "--loss", "12", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    store = Store()
    jobs = store.jobs("Smallest Magnitude of demo")
    # one line per trial and the result; the dense job has no line
    assert len(jobs) == len(lines) and not jobs[0].experiment["method"]
    best = next(
        job
        for job in jobs
        if f"(job {job.id}) is the smallest model that meets the limit" in lines[-1]
    )
    assert (
        deployment_check.decision(deployment_check.check(evidence.evidence(store, best), POLICY))
        == deployment_check.SHIP
    )
    sparsities = sorted(
        job.experiment["method"]["options"]["sparsity"] for job in jobs if job.experiment["method"]
    )
    sparsity = best.experiment["method"]["options"]["sparsity"]
    next_tested = next((value for value in sparsities if value > sparsity), None)
    assert next_tested is None or next_tested - sparsity <= STEP + 1e-9
    # the same search by the ID of a job: all trials are finished
    assert main(["shrink-to", "--job", str(best.id), "--loss", "12"]) == 0
    assert capsys.readouterr().out.splitlines() == lines and len(store.jobs()) == len(jobs)


def test_too_small_sample_is_rejected_before_pruning(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    assert main(["shrink-to", "--method", "akr", "--loss", "0.5", "--evaluation-size", "60"]) == 2
    message = capsys.readouterr().err
    assert "n = 60 is too small; about" in message and "evaluate on more examples" in message
    assert [job.label for job in Store().jobs()] == ["Dense"]
    assert main(["shrink-to"]) == 2 and "needs a method" in capsys.readouterr().err
    assert main(["shrink-to", "--method", "akr", "--fastest"]) == 2
    assert "leave --fastest out" in capsys.readouterr().err


def test_the_fastest_model_is_searched_by_measured_time(clock, capsys) -> None:  # noqa: F811
    options = ["--calibration-size", "8", "--evaluation-size", "200", "--keep", "none"]
    arguments = ["--method", "unit_magnitude", "--fastest", "--loss", "12", *options]
    assert main(["shrink-to", *arguments]) == 0
    *lines, result = capsys.readouterr().out.splitlines()
    _, *trials = Store().jobs("Fastest Unit magnitude of demo")
    speedups = [job.experiment["method"]["options"]["speedup"] for job in trials]
    best = next(
        job
        for job in trials
        if f"(job {job.id}) is the fastest model that meets the limit" in result
    )
    assert speedups[0] == 2 and len(set(speedups)) == len(speedups) >= 4
    assert result.startswith(f"{best.label} (")
    met = [speedup for speedup, line in zip(speedups, lines, strict=True) if ": Ship" in line]
    assert best.experiment["method"]["options"]["speedup"] == max(met) < max(speedups)
    assert all(f"- {job.label}: " in line for job, line in zip(trials, lines, strict=True))
