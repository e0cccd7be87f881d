"""Importance: arithmetic, files, summary, and names that survive wrapping."""

import json
import os

import pytest
import safetensors.torch
import torch
from judge import worst_error
from networks import build
from torch import nn
from torch.nn.parallel import DataParallel

from avalanche_mas import Importance, estimate_importance, estimate_local_importance


def some(samples=3, dtype=torch.float32, **shapes):
    shapes = shapes or {"a.weight": (2, 3), "a.bias": (2,), "scale": ()}
    return Importance({n: torch.rand(shape, dtype=dtype) for n, shape in shapes.items()}, samples)


def equal(a, b):
    return list(a) == list(b) and all(
        a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a
    )


# --- merge and add --------------------------------------------------------------------------------


@pytest.mark.parametrize("estimate", [estimate_importance, estimate_local_importance])
def test_merge_is_the_estimate_over_the_union(estimate):
    model, data = build("batchnorm2d")
    merged = estimate(model, data[:2]).merge(estimate(model, data[2:]))
    assert merged.samples == len(data)
    assert worst_error(merged, estimate(model, data)) < 1e-12


def test_merge_is_associative_and_commutative():
    a, b, c = (some(n, torch.float64) for n in (1, 4, 7))
    left, right = a.merge(b).merge(c), a.merge(b.merge(c))
    assert left.samples == right.samples == c.merge(a).merge(b).samples == 12
    for name in a:
        torch.testing.assert_close(left[name], right[name])
        torch.testing.assert_close(left[name], c.merge(a).merge(b)[name])
        torch.testing.assert_close(left[name], (a[name] + 4 * b[name] + 7 * c[name]) / 12)


def test_merge_with_nothing_is_the_same():
    a, none = some(5), some(0)
    assert equal(a.merge(none), a)
    with pytest.raises(ValueError, match="no mean"):
        none.merge(none)


def test_merge_refuses_other_networks():
    with pytest.raises(ValueError, match=r"different parameters.*b.*add"):
        some(a=(2,)).merge(some(b=(2,)))
    with pytest.raises(ValueError, match=r"'a' has shape \(2,\).*\(3,\)"):
        some(a=(2,)).merge(some(a=(3,)))


def test_add_is_a_sum():
    a, b = some(2), some(5)
    total = a.add(b)
    assert total.samples == 7
    assert all(torch.equal(total[n], a[n] + b[n]) for n in a)


@pytest.mark.parametrize("decay", [0.0, 0.3, 1.0])
def test_add_with_decay(decay):
    a, b = some(2), some(5)
    total = a.add(b, decay=decay)
    for n in a:
        torch.testing.assert_close(total[n], decay * a[n] + (1 - decay) * b[n])


def test_decay_keeps_what_the_new_task_does_not_use():
    """Another task's head is not forgotten because this task has no use for it."""
    old = Importance({"head": torch.ones(3), "body": torch.ones(3)}, 4)
    new = Importance({"head": torch.zeros(3), "body": torch.tensor([0.0, 3.0, 1.0])}, 4)
    total = old.add(new, decay=0.5)
    assert total["head"].tolist() == [1, 1, 1]
    assert total["body"].tolist() == [0.5, 2, 1]


def test_new_and_vanished_parameters_keep_their_values():
    a, b = some(a=(2,), both=(2,)), some(both=(2,), b=(3,))
    for decay in (None, 0.5):
        total = a.add(b, decay=decay)
        assert set(total) == {"a", "both", "b"}
        assert torch.equal(total["a"], a["a"])
        assert torch.equal(total["b"], b["b"])


def test_growing_parameters_keep_their_old_part():
    a, b = some(w=(2, 3), b=(2,)), some(w=(5, 4), b=(5,))
    total = a.add(b)
    expected = b["w"].clone()
    expected[:2, :3] += a["w"]
    assert torch.equal(total["w"], expected)
    assert torch.equal(total["b"], b["b"] + torch.cat([a["b"], torch.zeros(3)]))
    unused = a.add(Importance({"w": torch.zeros(5, 4), "b": torch.zeros(5)}, 1), decay=0.1)
    assert torch.equal(unused["w"][:2, :3], a["w"])
    assert float(unused["w"].sum()) == pytest.approx(float(a["w"].sum()))


@pytest.mark.parametrize("shape", [(2,), (1, 3), (2, 2), (2, 3, 1)])
def test_shrinking_parameters_are_another_model(shape):
    with pytest.raises(ValueError, match=r"'w' went from shape \(2, 3\) to.*another model"):
        some(w=(2, 3)).add(some(w=shape))


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=rf"\[0, 1\], got {decay}"):
        some().add(some(), decay=decay)


def test_arithmetic_writes_to_neither():
    a, b = some(2), some(5)
    copies = [{n: t.clone() for n, t in i.items()} for i in (a, b)]
    for result in (a.add(b), a.add(b, decay=0.5), a.merge(b), a.add(some(new=(2,)))):
        for omega in result.values():
            omega.add_(1)
    assert equal(a, copies[0])
    assert equal(b, copies[1])


def test_negative_samples():
    with pytest.raises(ValueError, match="got -1"):
        some(samples=-1)


def test_is_a_read_only_mapping():
    a = some()
    assert len(a) == 3
    assert list(a) == ["a.weight", "a.bias", "scale"]
    assert "scale" in a
    with pytest.raises(TypeError):
        a["scale"] = torch.ones(())
    assert repr(some(1234, w=(40, 50))) == "Importance(1 tensors, 2,000 parameters, 1,234 samples)"


def test_holds_no_graph():
    assert not Importance({"w": torch.ones(2, requires_grad=True) * 2}, 1)["w"].requires_grad


def test_to_device():
    moved = some(4).to("meta")
    assert moved["scale"].device.type == "meta"
    assert moved.samples == 4


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_round_trip_keeps_every_bit(tmp_path, dtype):
    a = some(10**12, dtype, w=(3, 4), scalar=(), empty=(0, 2), name_with_ü=(1,))
    a.save(tmp_path / "omega.safetensors")
    b = Importance.load(str(tmp_path / "omega.safetensors"))
    assert sorted(a) == sorted(b)
    assert all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)
    assert b.samples == 10**12


def test_round_trip_of_estimates_with_strides(tmp_path):
    model, data = build("channels_last")
    a = estimate_importance(model, data)
    assert not a["0.weight"].is_contiguous()
    a.save(tmp_path / "omega")
    b = Importance.load(tmp_path / "omega")
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_missing_file(tmp_path):
    for path in (tmp_path / "no.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no importance file at {path}"):
            Importance.load(path)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, kept):
    path = tmp_path / "omega.safetensors"
    some(w=(50, 20)).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match=f"{path} is truncated or not a safetensors file"):
        Importance.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"PK\3\4" + b"x" * 1000])
def test_wrong_file(tmp_path, content):
    path = tmp_path / "omega.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        Importance.load(path)


BROKEN = {
    "version": [None, "", "two", "0", "-1", "1"],  # version 1 has other fields
    "samples": [None, "", "null", "-1", "1.5", "true", '"3"', "[3]", "NaN"],
    "standard_errors": [None, "null", "[1]", "1.5", '{"a": "b"}', "[" * 100_000],
    "fallbacks": [None, "null", '"a"', '{"a": 1}', "{"],
    "names": [None, "{}", '"w"', '["v"]', "[]", '["w", "w"]', '["w", "v"]', "[1]", "1"],
}


@pytest.mark.parametrize(("key", "value"), [(key, v) for key in BROKEN for v in BROKEN[key]])
def test_broken_metadata(tmp_path, key, value):
    path = tmp_path / "omega"
    omega = Importance({"w": torch.ones(2)}, samples=3, standard_errors={"w": 0.1})
    omega.save(path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata() | {key: value}
    if value is None:
        del metadata[key]
    safetensors.torch.save_file({"w": torch.ones(2)}, path, metadata)
    with pytest.raises(ValueError, match=r"omega has metadata that Importance\.save does not"):
        Importance.load(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"version": "1"}])
def test_other_safetensors_file(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file({"w": torch.ones(2)}, path, metadata)
    with pytest.raises(ValueError, match=r"not an importance.*Importance\.save"):
        Importance.load(path)


def test_file_of_a_later_version(tmp_path):
    path = tmp_path / "omega.safetensors"
    metadata = {"format": "avalanche_mas.Importance", "version": "3", "samples": json.dumps(1)}
    safetensors.torch.save_file({"w": torch.ones(2)}, path, metadata)
    with pytest.raises(ValueError, match=r"version 3.*up to 2.*Upgrade"):
        Importance.load(path)


@pytest.mark.parametrize("name", ["save_file", "replace"])
def test_failing_write_leaves_the_old_file(tmp_path, monkeypatch, name):
    import avalanche_mas.importance.importance as where

    path = tmp_path / "omega.safetensors"
    old = some(1)
    old.save(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(where if name == "save_file" else os, name, fail)
    with pytest.raises(OSError, match="disk full"):
        some(2).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name], "no temporary file is left"


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no folder {tmp_path / 'new'}"):
        some().save(tmp_path / "new" / "omega.safetensors")


def test_saving_again_replaces(tmp_path):
    path = tmp_path / "omega.safetensors"
    some(1).save(path)
    held = Importance.load(path)  # its tensors may still be mapped to the old file
    copy = {n: t.clone() for n, t in held.items()}
    new = some(2, other=(100, 100))
    new.save(path)
    assert equal(Importance.load(path), new)
    assert equal(held, copy)


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_file_has_the_usual_permissions(tmp_path):
    """Colleagues can read it: not the private mode of a temporary file."""
    (tmp_path / "plain").write_text("")
    some().save(tmp_path / "omega")
    modes = {name: (tmp_path / name).stat().st_mode for name in ("plain", "omega")}
    assert modes["omega"] == modes["plain"]


# --- names ----------------------------------------------------------------------------------------


class Named(nn.Module):
    """A network whose own submodules are called what wrappers call theirs."""

    def __init__(self):
        super().__init__()
        self.module = nn.Linear(5, 4)
        self.inner = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))

    def forward(self, x):
        return self.inner(torch.tanh(self.module(x)))


WRAPPERS = {
    "data parallel": DataParallel,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled data parallel": lambda m: torch.compile(DataParallel(m), backend="eager"),
    "data parallel compiled": lambda m: DataParallel(torch.compile(m, backend="eager")),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_networks_have_the_names_of_the_network(name):
    model, x = Named(), torch.randn(6, 5)
    expected = estimate_importance(model, x)
    assert "module.weight" in expected, "the user's own submodule keeps its name"
    ours = estimate_importance(WRAPPERS[name](model), x)
    assert equal(ours, expected)
    assert equal(estimate_local_importance(WRAPPERS[name](model), x),
                 estimate_local_importance(model, x))  # fmt: skip


def test_wrapped_submodules_too():
    model, x = Named(), torch.randn(6, 5)
    expected = estimate_importance(model, x)
    model.inner = torch.compile(model.inner, backend="eager")
    model.module = DataParallel(model.module)
    assert list(estimate_importance(model, x)) == list(expected)


def test_shared_parameters_appear_once():
    model, data = build("layer_used_thrice")
    assert list(estimate_importance(model, data)) == [n for n, _ in model.named_parameters()]
