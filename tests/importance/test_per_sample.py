"""Every factored form adds what its written-out gradients say, in absolute value and squared."""

import pytest
import torch

from avalanche_mas.importance.rules.conv import Convolution
from avalanche_mas.importance.rules.embedding import Rows
from avalanche_mas.importance.rules.per_sample import Dense, Outer

B = 5


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


FORMS = {
    "dense": (Dense(random(B, 4, 3)), (4, 3)),
    "outer": (Outer(random(B, 1, 4), random(B, 1, 3)), (4, 3)),
    "outer_positions": (Outer(random(B, 7, 4), random(B, 7, 3)), (4, 3)),
    "rows": (Rows(random(B, 6, 3), torch.arange(B * 6).view(B, 6) % 4, 4), (4, 3)),
    "convolution": (
        Convolution(
            random(B, 1, 2, 9),
            random(B, 1, 4, 7),
            random(4, 2, 3),
            ([1], [0], [1], False, [0], 1),
        ),
        (4, 2, 3),
    ),
    "patches": (  # a map of few positions and many channels, two images in each sample
        Convolution(
            random(B, 2, 3, 7, 6),
            random(B, 2, 60, 3, 2),
            random(60, 3, 2, 3),
            ([2, 1], [1, 0], [3, 2], False, [0, 0], 1),
        ),
        (60, 3, 2, 3),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("magnitude", [torch.abs, torch.square])
def test_adds_the_magnitude_of_what_is_written_out(form, magnitude):
    gradients, shape = FORMS[form]
    total = torch.ones(shape, dtype=torch.float64)
    gradients.add(total, magnitude)
    expected = 1 + magnitude(gradients.dense(0, B)).sum(0)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
    parts = torch.cat([gradients.dense(0, 2), gradients.dense(2, B)])
    torch.testing.assert_close(parts, gradients.dense(0, B))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_memory_of_samples_before_may_be_written_to(form, dtype):
    """Also where it is that of more samples, or of another precision."""
    gradients, shape = FORMS[form]
    spare = random(3, *shape).to(dtype)
    written = gradients.written(1, 3, spare)
    torch.testing.assert_close(written, gradients.dense(1, 3))
    assert written.dtype == torch.float64
