"""Experiments that differ in seeds alone, and the table of their means, spreads and pairs."""

from pathlib import Path

import pytest

from diffprobe.__main__ import main
from diffprobe.config.load import load
from diffprobe.plan import job_arguments
from diffprobe.plan.arguments import SummaryArgument
from diffprobe.plan.graph import stages
from diffprobe.plan.inputs import Inputs
from diffprobe.plan.repeats import repeats as groups_of
from diffprobe.reporting.repeats import loss_row, repeats
from diffprobe.runtime.files import canonical

CONFIG = Path(__file__).parents[1] / "config"
ARMS = [f"{position}{norm}" for position in ("abs", "rope", "gta") for norm in ("", "_qk_norm")]


def test_experiments_are_grouped_by_what_they_differ_in() -> None:
    config = load(CONFIG / "positions.yaml")
    groups = groups_of(config)
    assert groups == {arm: {f"{arm}_{seed}": (seed, seed) for seed in range(3)} for arm in ARMS}
    argument, inputs = job_arguments.summary(config), Inputs(config).summary
    assert len(inputs["history"]) == len(argument["histories"]) == 18
    for row, path in zip(argument["histories"], inputs["history"], strict=True):
        assert f"/{row['experiment']}/checkpoints/{row['kimg']}/" in path and row["split"] == "train+select"
    assert [stage.outputs[-1] for stage in stages(config) if stage.rule == "summary"] == [
        "results/positions/repeats.csv"
    ]


def test_groups_are_compared_with_the_first_of_the_config() -> None:
    """Which need not be the first by alphabet; a job's argument is JSON with sorted keys."""
    config = load(CONFIG / "soda_forms.yaml")
    argument = SummaryArgument.model_validate_json(canonical(job_arguments.summary(config)))
    assert [name for name, _ in argument.repeats] == list(groups_of(config))
    assert argument.repeats[0] == ("default", {f"default_{seed}": (seed, seed) for seed in range(3)})


def test_a_config_without_repeats_has_no_table_of_them() -> None:
    config = load(CONFIG / "config.yaml")
    assert not groups_of(config) and "history" not in Inputs(config).summary
    assert set(job_arguments.summary(config)) == {"experiments", "probed"}
    assert not any("repeats" in file for stage in stages(config) for file in stage.outputs)


def test_means_spreads_and_pairs() -> None:
    """Pairs are of equal seeds, whatever the order; a seed that one group lacks has no pair."""
    values = {"a_0": 1.0, "a_1": 2.0, "a_2": 6.0, "b_2": 7.0, "b_0": 4.0, "b_3": 1.0}
    about = {"dataset": "d", "kimg": 8, "split": "train+select", "sampler": "heun", "evaluator": "fd2k_c"}
    rows = [about | {"experiment": name, "value": value} for name, value in values.items()]
    probed = {"dataset": "d", "split": "test", "evaluator": "linear"}
    rows += [
        probed | {"experiment": "b_0", "value": 0.5, "kimg": 8},
        probed | {"experiment": "b_3", "value": 0.7, "kimg": 4},
    ]
    groups = {g: {name: [int(name[-1])] * 2 for name in values if name[0] == g} for g in "ab"}
    frame = repeats(rows, groups).set_index(["experiment", "evaluator"])
    assert frame.loc[("a", "fd2k_c"), ["seeds", "value", "spread"]].tolist() == pytest.approx([3, 3, 7**0.5], rel=1e-4)
    row = frame.loc[("b", "fd2k_c")]
    assert [row.kimg, row.seeds, row.value, row.spread] == ["8", 3, 4.0, 3.0]
    assert [row.compared, row.pairs, row.difference] == ["a", 2, 2.0]
    assert row["difference spread"] == pytest.approx(2**0.5, rel=1e-4)
    assert frame.loc[("b", "linear"), ["seeds", "value"]].tolist() == pytest.approx([2, 0.6])  # of two checkpoints


def test_decodings_are_compared_at_each_checkpoint() -> None:
    """They are of `test` images, but of no chosen checkpoint."""
    about = {"dataset": "d", "split": "test", "sampler": "ddim", "evaluator": "psnr"}
    rows = [
        about | {"experiment": f"{group}_{seed}", "kimg": kimg, "value": value + seed + kimg}
        for group, value in (("a", 10.0), ("b", 13.0))
        for seed in (0, 1)
        for kimg in (1, 2)
    ]
    frame = repeats(rows, {g: {f"{g}_{seed}": (seed, seed) for seed in (0, 1)} for g in "ab"})
    assert frame["kimg"].tolist() == ["1", "2"] * 2
    assert frame["value"].tolist() == [11.5, 12.5, 14.5, 15.5] and frame["difference"].tolist()[2:] == [3.0, 3.0]


def test_the_loss_is_that_of_the_last_tenth() -> None:
    """Weighted by images; a checkpoint's part of the history begins where the one before ended."""
    history = [{"images": images, "loss": loss} for images, loss in [(800, 9.0), (904, 8.0), (960, 2.0), (1000, 4.0)]]
    row = loss_row({"experiment": "a_0", "dataset": "d", "kimg": 1}, history)
    assert row["value"] == pytest.approx((104 * 8 + 56 * 2 + 40 * 4) / 200) and row["evaluator"] == "training_loss"


def test_results_are_shown_where_only_some_experiments_were_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Groups of the whole config have no table then."""
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(f"results: {tmp_path}")
    (tmp_path / "results.csv").write_text("experiment,tap\nabs_0,block_3\n")
    main(["results", "--configfile", str(CONFIG / "positions.yaml"), str(elsewhere)])
    assert "block_3" in capsys.readouterr().out
