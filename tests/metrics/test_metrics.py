import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from alpharefine.errors import UserError
from alpharefine.metrics import AverageOverlap, BoxIoU, MaskIoU, NormalizedPrecision, Precision, SuccessAUC, SuccessRate
from alpharefine.metrics.functional import PROTOCOLS, one_pass_curves


def curve_function(name):
    return lambda *sequence: getattr(one_pass_curves(*sequence), name)


KINDS = [
    pytest.param(SuccessAUC, curve_function("success"), id="success"),
    pytest.param(Precision, curve_function("precision"), id="precision"),
    pytest.param(NormalizedPrecision, curve_function("norm_precision"), id="norm_precision"),
]


def sequences(count=5):
    rng = np.random.default_rng(7)
    made = []
    for i in range(count):
        n = 10 + 17 * i  # unequal lengths, equal weights
        target = np.concatenate([rng.uniform(5, 200, (n, 2)), rng.uniform(5, 80, (n, 2))], axis=1)
        pred = target + rng.normal(0, 3 + 3 * i, (n, 4))
        pred[:, 2:] = pred[:, 2:].clip(min=1)
        made.append((pred, target, rng.random(n) < 0.1))
    return made


def published_number(kind, protocol, curve):
    if kind is SuccessAUC or (kind is NormalizedPrecision and protocol == "got10k"):
        return curve.mean()
    return curve[20]


@pytest.mark.parametrize(("kind", "curve_of"), KINDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_metric_is_the_mean_over_sequences_of_the_function(kind, curve_of, protocol):
    metric = kind(protocol)
    for sequence in sequences():
        metric.update(*sequence)
    expected = np.mean([curve_of(*sequence, protocol) for sequence in sequences()], axis=0)
    np.testing.assert_allclose(metric.curve().numpy(), expected, atol=1e-15)
    assert metric.compute().item() == pytest.approx(published_number(kind, protocol, expected), abs=1e-15)
    assert metric.compute().shape == ()
    assert metric.compute().dtype == torch.float64


@pytest.mark.parametrize(("kind", "curve_of"), KINDS)
def test_forward_gives_the_score_of_one_sequence_and_adds_it(kind, curve_of):
    metric = kind()
    values = [metric(*sequence).item() for sequence in sequences()]
    assert values == pytest.approx([published_number(kind, "lasot", curve_of(*s)) for s in sequences()], abs=1e-15)
    assert metric.compute().item() == pytest.approx(np.mean(values), abs=1e-15)


@pytest.mark.parametrize(("kind", "curve_of"), KINDS)
def test_tensors_and_arrays_and_left_out_flags(kind, curve_of):
    pred, target, absent = sequences()[0]
    of_arrays, of_tensors, of_none = kind(), kind(), kind()
    of_arrays.update(pred, target, np.zeros_like(absent))
    of_tensors.update(torch.from_numpy(pred), torch.from_numpy(target), torch.zeros(len(absent), dtype=torch.bool))
    of_none.update(pred, target)
    assert of_arrays.compute() == of_tensors.compute() == of_none.compute()


@pytest.mark.parametrize("kind", [SuccessAUC, Precision, NormalizedPrecision])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_curves_count_as_updates(kind, protocol):
    updated, shared = kind(protocol), kind(protocol)
    for sequence in sequences():
        updated.update(*sequence)
        shared.add_curves(one_pass_curves(*sequence, protocol))
        assert shared.compute() == updated.compute()  # the result of the sequence before is not kept
    assert shared.update_called
    assert shared.update_count == 5
    assert shared.num_sequences == 5
    many = torch.stack([torch.from_numpy(kind.select(one_pass_curves(*s, protocol))) for s in sequences()])
    assert shared.score(many).shape == (5,)
    assert shared.score(many).mean().item() == pytest.approx(shared.compute().item(), abs=1e-15)


@pytest.mark.parametrize(
    "kind", [SuccessAUC, Precision, NormalizedPrecision, AverageOverlap, SuccessRate, BoxIoU, MaskIoU]
)
def test_a_higher_score_is_better_and_a_batch_is_scored_on_its_own(kind):
    assert (kind.higher_is_better, kind.is_differentiable, kind.full_state_update) == (True, False, False)


def updates(metric):
    """Arguments of five updates of unequal length."""
    rng = torch.Generator().manual_seed(0)
    if isinstance(metric, BoxIoU):
        return [(torch.rand(n, 4, generator=rng), torch.rand(n, 4, generator=rng)) for n in range(1, 6)]
    if isinstance(metric, MaskIoU):
        return [(*torch.rand(2, n, 3, 3, generator=rng), torch.arange(n) > 0) for n in range(2, 7)]
    return sequences()


@pytest.mark.parametrize(
    "build",
    [SuccessAUC, Precision, NormalizedPrecision, AverageOverlap, lambda: SuccessRate(0.5), BoxIoU, MaskIoU],
)
def test_the_states_of_two_processes_are_added(build):
    whole, one, other = build(), build(), build()
    for index, arguments in enumerate(updates(whole)):
        for metric in (whole, one if index < 4 else other):
            metric.update(*arguments)
    one.merge_state(other)
    assert one.compute().item() == pytest.approx(whole.compute().item(), abs=1e-14)
    assert one.compute().shape == ()
    if hasattr(whole, "curve"):
        torch.testing.assert_close(one.curve(), whole.curve(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [SuccessAUC, Precision, NormalizedPrecision, AverageOverlap])
def test_the_curve_of_all_processes_leaves_the_state_of_this_one(kind):
    """The other process has one sequence, or frame, that is a success at every threshold."""

    def both(value, group):
        return [value, torch.ones_like(value)]

    settings = {"distributed_available_fn": lambda: True, "dist_sync_fn": both}
    synced, own, alone = kind(**settings), kind(sync_on_compute=False, **settings), kind()
    for metric in (synced, own, alone):
        for arguments in sequences():
            metric.update(*arguments)
    number = alone.num_frames if kind is AverageOverlap else alone.num_sequences
    expected = (alone.curve() * number + 1) / (number + 1)
    for _ in range(2):
        torch.testing.assert_close(synced.curve(), expected, rtol=0, atol=1e-14)
        assert torch.equal(own.curve(), alone.curve())


@pytest.mark.parametrize("kind", [SuccessAUC, Precision, NormalizedPrecision])
def test_no_sequence_gives_nan_with_a_warning(kind):
    metric = kind()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert math.isnan(metric.compute().item())


def test_failed_update_leaves_the_state():
    metric = SuccessAUC()
    metric.update(*sequences()[0])
    before = metric.curve()
    with pytest.raises(UserError, match="result has 1 boxes"):
        metric.update([[1, 1, 5, 5]], [[1, 1, 5, 5]] * 2)
    assert torch.equal(metric.curve(), before)


def test_unknown_protocol():
    with pytest.raises(UserError, match=r"`protocol` must be one of lasot, .*; got 'otb'"):
        Precision("otb")


def test_reset_and_pickle():
    metric = SuccessAUC()
    metric.update(*sequences()[4])
    metric.reset()
    metric.update(*sequences()[0])
    fresh = SuccessAUC()
    fresh.update(*sequences()[0])
    assert metric.compute() == fresh.compute() == pickle.loads(pickle.dumps(metric)).compute()


def test_state_survives_module_casts():
    metric = torch.nn.ModuleList([SuccessAUC()]).half().bfloat16()[0]
    assert metric.curve_sum.dtype == torch.float64


def score_a_shard(rank: int, rendezvous: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    shard = sequences()[:4] if rank == 0 else sequences()[4:]
    numbers = {}
    for kind in (SuccessAUC, Precision, NormalizedPrecision):
        metric = kind()
        for sequence in shard:
            metric.update(*sequence)
        before, score = metric.curve(), metric.compute()
        numbers[kind.__name__] = (score, before, metric.curve(), metric.num_sequences.item())
    torch.save(numbers, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.exhaustive  # evaluations under torchrun gather their metrics in every run
def test_two_processes_with_uneven_shards(tmp_path):
    torch.multiprocessing.spawn(score_a_shard, (str(tmp_path / "rendezvous"), str(tmp_path)), nprocs=2)
    for rank, own in ((0, 4), (1, 1)):
        numbers = torch.load(tmp_path / f"{rank}.pt")
        for kind in (SuccessAUC, Precision, NormalizedPrecision):
            whole = kind()
            for sequence in sequences():
                whole.update(*sequence)
            score, before, after, num_sequences = numbers[kind.__name__]
            assert score.item() == pytest.approx(whole.compute().item(), abs=1e-15)
            assert torch.allclose(before, whole.curve(), atol=1e-15)
            assert torch.allclose(after, whole.curve(), atol=1e-15)
            assert num_sequences == own  # the state of a process stays its own
