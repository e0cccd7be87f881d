"""Ω of several processes is Ω of one, and what is wrong in one of them is an error in all."""

import pytest
import torch
from omega import estimates, forms, network, of_plugins
from torch.utils._pytree import tree_leaves
from torch.utils.data import TensorDataset

from avalanche_mas import Importance, estimate_importance
from avalanche_mas.importance.batches import taken
from avalanche_mas.importance.sharing import Share
from avalanche_mas.importance.standard_error import StandardError

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6}


@pytest.fixture(scope="module")
def expected():
    """Ω as this process finds it, alone."""
    return {**estimates(), **{f"plugin: {name}": omega for name, omega in of_plugins().items()}}


def assert_same(ours, theirs):
    """Entry by entry in float64, and relative to each tensor's largest entry in float32."""
    assert list(ours) == list(theirs)
    for name, omega in theirs.items():
        tolerance = TOLERANCE[omega.dtype]
        error = (ours[name] - omega).abs()
        if omega.dtype == torch.float64:
            assert bool((error <= tolerance * omega).all()), (name, float((error / omega).max()))
        else:
            assert float(error.max()) <= tolerance * float(omega.max()), name


def test_what_is_measured_is_what_the_samples_say(expected):
    """The reference itself: every form of data holds the samples that it is said to hold."""
    for name, (_, samples, _) in forms().items():
        assert_same(expected[name], estimate_importance(network(), samples, batch_size=4))
        assert expected[name].samples == len(samples)


NAMES = [*forms(), "float32", "vmap", "loop", "vector", "squares", "local", "fisher expected"]
NAMES += ["fisher sampled", "fisher empirical", "own data", "buffers", "wrapped"]
PLUGINS = ["train stream", "two streams", "unlabelled", "some samples", "vector", "local"]
PLUGINS += ["fisher", "sampled fisher", "empirical fisher", "primed"]


@pytest.mark.parametrize("name", [*NAMES, *(f"plugin: {name}" for name in PLUGINS)])
def test_every_process_has_the_importance_of_all_samples(run, expected, name):
    """To round-off that of one process, with the same bits and the same N in each."""
    assert set(expected) == set(run.ranks[0]["omega"])
    first, samples, errors = run.ranks[0]["omega"][name]
    assert_same(first, expected[name])
    assert samples == expected[name].samples
    for rank in run.ranks[1:]:
        omega, own_samples, own_errors = rank["omega"][name]
        assert all(torch.equal(omega[key], first[key]) for key in first)
        assert (own_samples, own_errors) == (samples, errors)


def test_a_process_can_measure_alone(run):
    """Without the others, who measure something else."""
    for rank, results in enumerate(run.ranks):
        mine, alone = results["alone"]
        assert all(torch.equal(mine[name], alone[rank][name]) for name in mine)


def test_alone_the_option_makes_no_difference():
    """Where one process runs, not one bit."""
    pairs, _, _ = forms()["dataset"]
    usual = estimate_importance(network(), pairs, batch_size=4)
    for distributed in ("split", "own", "off"):
        same = estimate_importance(network(), pairs, batch_size=4, distributed=distributed)
        assert all(torch.equal(usual[name], same[name]) for name in usual)
        assert usual.standard_errors == same.standard_errors
    with pytest.raises(ValueError, match="distributed must be one of split, own, off; got 'both'"):
        estimate_importance(network(), pairs, distributed="both")


def test_standard_errors_are_of_all_batches():
    """Batches noted by several processes count as if one had noted them all."""
    batches = [(torch.rand(3, dtype=torch.float64) * size, size) for size in (4, 4, 2, 5, 1, 4)]

    def noted(chosen):
        total = {"a.weight": torch.zeros(2).double(), "b": torch.zeros(1).double()}
        error = StandardError(total)
        for omega, size in chosen:
            total["a.weight"] += omega[:2]
            total["b"] += omega[2:]
            error.note(size)
        return error

    parts = [noted(chosen) for chosen in (batches[:1], [], batches[1:4], batches[4:])]
    states = [part.state() for part in parts]
    for part in parts:
        part.join(states)
        assert part.of_layers() == pytest.approx(noted(batches).of_layers(), rel=1e-12)


def test_standard_errors_are_those_of_one_process(run, expected):
    """Where the batches are the same, which those of one sample are."""
    _, _, errors = run.ranks[0]["omega"]["one by one"]
    assert len(errors) == 3
    assert errors == pytest.approx(expected["one by one"].standard_errors, rel=1e-9)


# what goes wrong → (whether it goes wrong in some processes only, text)
QUARRELS = {
    "unreadable": (True, "OSError: cannot read image 5"),
    "wrong form": (True, "TypeError: found no tensor of samples"),
    "own part": (False, "different data"),
    "other samples": (False, "different data"),
    "shuffled": (False, "different data"),
    "longer": (False, "different data"),
    "other weights": (False, "parameter '2.weight' is not the same in all processes"),
    "other layers": (False, "parameter '2.weight' is not the same in all processes"),
    "other importances": (False, "each process's MASPlugin holds another importance"),
    "other strengths": (False, "process 0 has MASPlugin(lambda_reg=1.0,"),
    "other samples to measure": (False, "max_samples=6"),
    "a plugin on one": (False, "has less. Give all of them the same plugins"),
    "not finite": (None, "not finite"),
    "no samples": (False, "the data gave no samples"),
}


@pytest.mark.parametrize("name", QUARRELS)
def test_an_error_anywhere_is_an_error_everywhere(run, name):
    """Each process says what went wrong, and the next thing is done together again."""
    one_fails, text = QUARRELS[name]
    said = [rank["quarrels"][name] for rank in run.ranks]
    assert None not in said
    kinds = [kind for kind, _ in said]
    for kind, message in said:
        whole = message if kind == "ProcessFailedError" else f"{kind}: {message}"
        assert text in whole
    if one_fails is not None:
        others = kinds.count("ProcessFailedError")
        assert others == (0 if not one_fails else others)
        assert bool(others) == one_fails
    assert len(set(said)) == 1 or one_fails is not False


def test_merging_is_what_the_processes_do(expected):
    """Ω of two halves, merged, is Ω of both."""
    x = forms()["tensor"][1]
    parts = [estimate_importance(network(), x[rank::2]) for rank in range(2)]
    merged = Importance.merge(*parts)
    assert merged.samples == expected["tensor"].samples
    assert_same(merged, expected["tensor"])


class Read(TensorDataset):
    """Notes which samples are asked for."""

    def __init__(self, *tensors):
        super().__init__(*tensors)
        self.read = set()

    def __getitem__(self, k):
        self.read.add(k)
        return super().__getitem__(k)


def test_every_sample_belongs_to_one_process():
    """Sample k to process k mod P, whatever the form of the data and however they are batched."""
    for name, (_, samples, options) in forms().items():
        for rank in range(3):
            data = forms()[name][0]  # a generator can be read once
            batches = Share(rank, 3).batches(data, 4, 0, options.get("max_samples"))
            own = [x for batch in batches for x in tree_leaves(taken(batch))[0]]
            expected = list(samples[rank::3])
            assert len(own) == len(expected)
            assert all(torch.equal(*pair) for pair in zip(own, expected, strict=True)), name


def test_a_process_reads_its_own_samples_only():
    """And the first and the last, by which it is seen that all have the same data."""
    data = Read(forms()["tensor"][1])
    assert len(list(Share(1, 3).batches(data, 4))) == 1
    assert data.read == {1, 4, 7, 10, 0}
