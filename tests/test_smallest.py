"""As small as it gets: the bisection by known thresholds, and a whole search on the demo by a method that takes no time."""

import pytest
from test_targets import clock  # noqa: F401

from prune_core.analysis import deployment_check, evidence, size_search
from prune_core.analysis.policy import Policy
from prune_core.analysis.size_search import MOST, STEP, TRIES, Trial
from prune_core.cli.arguments import main
from prune_core.store.store import Store

POLICY = Policy({"accuracy_loss": 12.0})


def searched(holds: float) -> list[Trial]:
    """The tries where every share up to this holds."""
    tries: list[Trial] = []
    while (share := size_search.next_share(tries)) is not None:
        tries.append(
            Trial(
                share,
                f"M {share:.0%}",
                len(tries) + 1,
                answer=deployment_check.SHIP if share <= holds else deployment_check.STOP,
                detail="Do not ship: it lost.",
            )
        )
    return tries


@pytest.mark.parametrize("holds", [0.0, 0.01, 0.02, 0.3, 0.5, 0.505, 0.77, 0.97, 0.98])
def test_the_search_ends_within_a_step_of_the_threshold(holds: float) -> None:
    tries = searched(holds)
    best = max((each.share for each in tries if each.holds), default=0.0)
    assert best <= holds < best + STEP + 1e-9 and len(tries) <= TRIES + 1
    assert len({each.share for each in tries}) == len(tries) and all(
        0 < each.share <= MOST for each in tries
    )


def test_the_answer_names_the_smallest_and_what_is_beyond_it() -> None:
    told = size_search.result_sentence(searched(0.5), POLICY)
    assert told.startswith(
        "M 50% (job 1) is the smallest model that meets the limit at 95% confidence. M 5"
    )
    assert told.endswith("does not: do not ship: it lost.")
    assert size_search.result_sentence(searched(0.0), POLICY).startswith(
        "No tested sparsity meets the limit"
    )


def test_each_try_is_judged_so_that_the_answer_keeps_the_policys_confidence() -> None:
    assert (1 - size_search.trial_criteria(POLICY).confidence / 100) * TRIES == pytest.approx(
        POLICY.alpha
    )


def test_a_whole_search_leaves_a_study_and_reads_what_it_knows(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    some = ["--calibration-size", "8", "--evaluation-size", "200", "--keep", "none"]
    assert main(["shrink-to", "--method", "magnitude", "--loss", "12", *some]) == 0
    told = capsys.readouterr().out.splitlines()
    store = Store()
    jobs = store.jobs("Smallest Magnitude of demo")
    assert (
        len(jobs) == len(told) and not jobs[0].experiment["method"]
    )  # dense, a line a try less the last
    best = next(
        job
        for job in jobs
        if f"(job {job.id}) is the smallest model that meets the limit" in told[-1]
    )
    assert (
        deployment_check.decision(deployment_check.check(evidence.evidence(store, best), POLICY))
        == deployment_check.SHIP
    )
    shares = sorted(
        job.experiment["method"]["options"]["sparsity"] for job in jobs if job.experiment["method"]
    )
    share = best.experiment["method"]["options"]["sparsity"]
    beyond = next((each for each in shares if each > share), None)
    assert beyond is None or beyond - share <= STEP + 1e-9
    assert (
        main(["shrink-to", "--job", str(best.id), "--loss", "12"]) == 0
    )  # the same limits by the job's number: all is known
    assert capsys.readouterr().out.splitlines() == told and len(store.jobs()) == len(jobs)


def test_a_sample_that_cannot_tell_is_refused_before_anything_is_pruned(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("PRUNESCOPE_HOME", str(tmp_path))
    assert main(["shrink-to", "--method", "akr", "--loss", "0.5", "--evaluation-size", "60"]) == 2
    told = capsys.readouterr().err
    assert (
        "even the dense model compared with itself does not meet this limit with confidence (n = 60 is "
        "too small; about" in told
    )
    assert "evaluate on more examples" in told
    assert [job.label for job in Store().jobs()] == ["Dense"]
    assert main(["shrink-to"]) == 2 and "needs a method" in capsys.readouterr().err
    assert (
        main(["shrink-to", "--method", "akr", "--fastest"]) == 2
        and "leave --fastest away" in capsys.readouterr().err
    )


def test_the_fastest_is_searched_for_by_time(clock, capsys) -> None:  # noqa: F811
    some = ["--calibration-size", "8", "--evaluation-size", "200", "--keep", "none"]
    assert (
        main(["shrink-to", "--method", "unit_magnitude", "--fastest", "--loss", "12", *some]) == 0
    )
    told = capsys.readouterr().out.splitlines()
    store = Store()
    dense, *tries = store.jobs("Fastest Unit magnitude of demo")
    asked = [job.experiment["method"]["options"]["speedup"] for job in tries]
    best = next(
        job
        for job in tries
        if f"(job {job.id}) is the fastest model that meets the limit" in told[-1]
    )
    assert (
        asked[0] == 2
        and len(set(asked)) == len(asked) >= 4
        and told[-1].startswith(f"{best.label} (")
    )
    shipped = [speed for speed, line in zip(asked, told, strict=False) if ": Ship" in line]
    assert best.experiment["method"]["options"]["speedup"] == max(shipped) < max(asked)
    assert all(f"- {job.label}: " in told[place] for place, job in enumerate(tries))
