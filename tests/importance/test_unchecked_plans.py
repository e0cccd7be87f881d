"""A plan counts as checked only when several samples were compared with each of them alone."""

import pytest
import torch
from judge import naive_importance, worst_error
from networks import module
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from avalanche_mas import estimate_importance, estimate_local_importance


def positions_first():
    """A hand-written (T·B) flatten, in which no dimension counts the samples."""

    def forward(self, x):
        h = torch.tanh(self.layer(x.transpose(0, 1).reshape(-1, 5)))
        return self.head(h.view(x.shape[1], x.shape[0], 6).mean(0))

    return module(forward, layer=nn.Linear(5, 6), head=nn.Linear(6, 3)).double()


@pytest.mark.parametrize("sizes", [[1, 8], [1, 1, 7], [1, 2, 6], [4, 5]], ids=str)
def test_a_first_batch_of_one_sample_proves_nothing(sizes):
    model, x = positions_first(), torch.randn(9, 4, 5).double()
    ours = estimate_importance(model, list(x.split(sizes)), engine="exact")
    assert worst_error(ours, naive_importance(model, x)) < 1e-10


@pytest.mark.parametrize("sizes", [[1, 8], [1, 2, 6]], ids=str)
def test_nor_for_local_importance(sizes):
    model, x = positions_first(), torch.randn(9, 4, 5).double()
    ours = estimate_local_importance(model, list(x.split(sizes)))
    assert worst_error(ours, estimate_local_importance(model, x, batch_size=1)) < 1e-10


def test_a_check_that_did_not_go_as_planned_proves_nothing():
    """The first three lengths of a packed sequence are not as planned; all five fit by chance."""

    def forward(self, batch):
        packed = pack_padded_sequence(batch["x"], batch["length"], True, enforce_sorted=False)
        packed = packed._replace(data=torch.tanh(self.embed(packed.data)))
        return self.head(pad_packed_sequence(packed, True, total_length=5)[0]).sum(1)

    model = module(forward, embed=nn.Linear(3, 3), head=nn.Linear(3, 2)).double()
    data = {"x": torch.randn(5, 5, 3).double(), "length": torch.tensor([3, 4, 4, 2, 2])}

    def call(model, batch):
        return model(batch)

    ours = estimate_importance(model, [data], forward=call, engine="exact")
    assert worst_error(ours, naive_importance(model, data, call)) < 1e-10


def test_a_parameter_expanded_to_the_batch_is_no_derived_parameter():
    def forward(self, x):
        return torch.tanh(self.layer(x) + self.recurrent(self.h0.expand(len(x), -1)))

    parts = {"layer": nn.Linear(5, 6), "recurrent": nn.Linear(6, 6)}
    model = module(forward, h0=nn.Parameter(torch.randn(1, 6)), **parts).double()
    x = torch.randn(9, 5).double()
    ours = estimate_importance(model, x, engine="exact", batch_size=4)
    assert worst_error(ours, naive_importance(model, x)) < 1e-10
