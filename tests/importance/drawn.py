"""Random networks for hypothesis: which blocks, in which order, with which options, all drawn.

Every block is a function of ``pick``, which draws one of its arguments and writes it down. What was
picked is the network's structure; weights and data follow from a seed.
"""

import zlib
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from networks import free, live_in, module
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Pick = Callable[..., Any]
SAMPLES = 4
WIDTH = 4
LENGTH = 3
WORDS = 6


class Drawn:
    """A drawn network.

    :param structure: the choices that made it.
    :param model: in float64 and eval mode.
    :param data: its input, SAMPLES samples.
    """

    def __init__(self, structure: str, model: nn.Module, data: Tensor) -> None:
        self.structure, self.model, self.data = structure, model, data

    def __repr__(self) -> str:  # what hypothesis prints of a network that fails
        return f"{self.structure}\n{self.model}"

    def batches(self) -> tuple[Tensor, ...]:
        """The data in another order, in one to three batches."""
        sizes = ([4], [3, 1], [1, 3], [2, 2], [1, 1, 2], [1, 2, 1])
        return self.data[torch.randperm(SAMPLES)].split(sizes[len(self.structure) % len(sizes)])


@st.composite
def networks(draw: Any) -> Drawn:
    """A network of at most six blocks, as if trained for a while."""
    picked: list[Any] = []

    def pick(*options: Any) -> Any:
        picked.append(draw(st.sampled_from(options)))
        return picked[-1]

    torch.manual_seed(0)
    start = pick(*STARTS)
    blocks, data = STARTS[start](pick)
    model = nn.Sequential(*blocks, *many(VECTORS, pick, 0, 2), HEADS[pick(*HEADS)](pick))
    # for one sample in channels_last, torch 2.15 computes wrong gradients of these norms on a CPU
    plain = start != "images" or has(nn.InstanceNorm2d, model)
    if not plain and pick("contiguous", "channels last") == "channels last":
        model = model.to(memory_format=torch.channels_last)
        data = data.contiguous(memory_format=torch.channels_last)
    freeze(model, pick)
    structure = " ".join(map(str, picked))
    torch.manual_seed(zlib.crc32(structure.encode()))  # two draws differ in structure, not in luck
    model = model.double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.6)
    live_in(model)
    return Drawn(structure, model, data.double().normal_() if data.is_floating_point() else data)


def has(kinds: Any, *parts: nn.Module) -> bool:
    return any(isinstance(m, kinds) for part in parts for m in part.modules())


def freeze(model: nn.Module, pick: Pick) -> None:
    """Nothing, every third parameter, or all but the last two."""
    kind = pick("all trainable", "some frozen", "body frozen")
    parameters = list(model.parameters())
    for i, parameter in enumerate(parameters):
        last = i >= len(parameters) - 2
        if not last and (kind == "body frozen" or (kind == "some frozen" and i % 3 == 0)):
            parameter.requires_grad_(False)


def many(kinds: dict[str, Callable[[Pick], nn.Module]], pick: Pick, low: int, high: int) -> list:
    """Blocks of these kinds: different ones, residual ones, or one twice with the same weights."""
    blocks: list[nn.Module] = []
    for _ in range(pick(*range(low, high + 1))):
        block = kinds[pick(*kinds)](pick)
        how = pick("once", "residual", "twice")
        if how == "residual":
            block = module(residual, inner=block)
        blocks += [block, block] if how == "twice" else [block]
    return blocks


def residual(self: Any, x: Tensor) -> Tensor:
    y = self.inner(x)
    return y + (x if x.shape == y.shape else F.adaptive_avg_pool2d(x, y.shape[2:]))


def activation(pick: Pick) -> nn.Module:
    kinds = nn.ReLU(), nn.Tanh(), nn.ReLU(inplace=True), nn.GELU(), nn.SiLU(), nn.Hardswish()
    return pick(*kinds, nn.LeakyReLU(0.2), nn.ELU(inplace=True), nn.Identity())


# --- starts: what the data are, and how they become vectors ---------------------------------------


def images(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    data = torch.randn(SAMPLES, WIDTH, 5, 6)
    blocks = many(IMAGES, pick, 1, 2)
    transposable = not has((nn.InstanceNorm2d, nn.BatchNorm2d), *blocks)  # see networks()
    if transposable and pick("pool", "sequence") == "sequence":
        as_sequence = module(lambda self, x: x.flatten(2).transpose(1, 2))
        return [*blocks, as_sequence, *many(SEQUENCES, pick, 0, 1), to_vectors(pick)], data
    return [*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()], data


def vectors(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    return many(VECTORS, pick, 1, 3), torch.randn(SAMPLES, WIDTH)


def sequences(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    data = torch.randn(SAMPLES, pick(LENGTH, SAMPLES), WIDTH)
    return [*many(SEQUENCES, pick, 1, 2), to_vectors(pick)], data


def tokens(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    embedding = nn.Embedding(WORDS, WIDTH, padding_idx=pick(None, 0))
    data = torch.randint(0, WORDS, (SAMPLES, LENGTH))
    blocks = many(SEQUENCES, pick, 0, 2)
    if pick("tied", "untied") == "untied":
        return [embedding, *blocks, to_vectors(pick)], data

    def tied(self: Any, x: Tensor) -> Tensor:
        logits = F.linear(self.blocks(self.embedding(x)), self.embedding.weight)
        return self.head(logits.mean(1))

    parts = {"embedding": embedding, "blocks": nn.Sequential(*blocks)}
    return [module(tied, head=nn.Linear(WORDS, WIDTH), **parts)], data


def bags(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    bag = nn.EmbeddingBag(WORDS, WIDTH, mode=pick("mean", "sum"))
    return [bag, activation(pick)], torch.randint(0, WORDS, (SAMPLES, LENGTH))


def to_vectors(pick: Pick) -> nn.Module:
    how = pick("mean", "last", "maximum")
    return module(
        {
            "mean": lambda self, x: x.mean(1),
            "last": lambda self, x: x[:, -1],
            "maximum": lambda self, x: x.amax(1),
        }[how]
    )


STARTS = {
    "vectors": vectors, "images": images, "sequences": sequences, "tokens": tokens, "bags": bags
}  # fmt: skip

# --- images ---------------------------------------------------------------------------------------


def convolution(pick: Pick) -> nn.Module:
    kernel = (pick(1, 2, 3, 4), pick(1, 2, 3))
    dilation, bias = pick(1, 2), pick(True, False)
    groups = pick(1, 2, WIDTH)
    wide = tuple(dilation * (k - 1) for k in kernel)  # an image never shrinks to nothing
    padding = pick("same", wide)
    stride = 1 if padding == "same" else pick(1, 2)
    mode = pick("zeros", "circular") if padding == "same" else "zeros"
    conv = nn.Conv2d(
        WIDTH, WIDTH, kernel, stride, padding, dilation, groups, bias, padding_mode=mode
    )
    return nn.Sequential(conv, image_norm(pick), activation(pick))


def transposed_convolution(pick: Pick) -> nn.Module:
    stride = pick(1, 2)
    conv = nn.ConvTranspose2d(
        WIDTH, WIDTH, pick(1, 2, 3), stride, 0, stride - 1, pick(1, 2), pick(True, False)
    )
    return nn.Sequential(conv, image_norm(pick), activation(pick))


def separable_convolution(pick: Pick) -> nn.Module:
    depthwise = nn.Conv2d(WIDTH, 2 * WIDTH, 3, padding=1, groups=WIDTH, bias=False)
    inner = nn.Sequential(nn.BatchNorm2d(2 * WIDTH), activation(pick))
    return nn.Sequential(depthwise, *inner, nn.Conv2d(2 * WIDTH, WIDTH, 1), image_norm(pick))


def squeeze_and_excite(pick: Pick) -> nn.Module:
    def squeeze(self: Any, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))

    return module(squeeze, down=nn.Conv2d(WIDTH, 2, 1), up=nn.Conv2d(2, WIDTH, 1))


def pooling(pick: Pick) -> nn.Module:
    pools = nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True), nn.Dropout2d(0.5)
    return nn.Sequential(pick(*pools), nn.Conv2d(WIDTH, WIDTH, 1), nn.Upsample(size=(5, 6)))


def image_norm(pick: Pick) -> nn.Module:
    kind = pick("no norm", "batch norm", "group norm", "instance norm", "scale")
    return {
        "no norm": nn.Identity(),
        "batch norm": nn.BatchNorm2d(WIDTH),
        "group norm": nn.GroupNorm(2, WIDTH),
        "instance norm": nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True),
        "scale": scale((WIDTH, 1, 1)),
    }[kind]


def scale(shape: tuple[int, ...]) -> nn.Module:
    return module(lambda self, x: x * self.scale + 0.1, scale=free(*shape))


IMAGES = {
    "convolution": convolution,
    "transposed": transposed_convolution,
    "separable": separable_convolution,
    "squeeze and excite": squeeze_and_excite,
    "pooling": pooling,
}

# --- sequences: (B, T, WIDTH) ---------------------------------------------------------------------


def positionwise(pick: Pick) -> nn.Module:
    norm = pick(nn.Identity(), nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH))
    return nn.Sequential(norm, nn.Linear(WIDTH, WIDTH, bias=pick(True, False)), activation(pick))


def attention(pick: Pick) -> nn.Module:
    batch_first, keys = pick(True, False), pick("self", "cross")

    def attend(self: Any, x: Tensor) -> Tensor:
        x = x if batch_first else x.transpose(0, 1)
        other = x if keys == "self" else torch.tanh(x)
        x, _ = self.attention(x, other, other, need_weights=self.needs_weights)
        return x if batch_first else x.transpose(0, 1)

    bias, bias_kv, zero = pick(True, False), pick(False, True), pick(False, True)
    layer = nn.MultiheadAttention(
        WIDTH, 2, bias=bias, add_bias_kv=bias_kv, add_zero_attn=zero, batch_first=batch_first
    )
    made = module(attend, attention=layer)
    made.needs_weights = pick(True, False)
    return made


def transformer(pick: Pick) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 6, activation=pick("relu", "gelu"), batch_first=True, norm_first=pick(False, True)
    )
    return nn.TransformerEncoder(layer, pick(1, 2), enable_nested_tensor=False)


def recurrent(pick: Pick) -> nn.Module:
    both = pick(False, True)
    cell = pick(nn.LSTM, nn.GRU, nn.RNN)
    layer = cell(
        WIDTH, WIDTH // (2 if both else 1), num_layers=pick(1, 2), batch_first=True,
        bidirectional=both,
    )  # fmt: skip
    return module(lambda self, x: self.layer(x)[0], layer=layer)


def convolution1d(pick: Pick) -> nn.Module:
    def convolve(self: Any, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)

    conv = nn.Conv1d(WIDTH, WIDTH, pick(1, 2, 3), padding="same", groups=pick(1, 2))
    return nn.Sequential(module(convolve, conv=conv), activation(pick))


def class_token(pick: Pick) -> nn.Module:
    how = pick("expand", "repeat")

    def prepend(self: Any, x: Tensor) -> Tensor:
        token = self.token.expand(len(x), -1, -1) if how == "expand" else self.token
        token = token if how == "expand" else token.repeat(len(x), 1, 1)
        return torch.cat([x, token], 1)[:, 1:]

    return module(prepend, token=free(1, 1, WIDTH))


def channel_scale(pick: Pick) -> nn.Module:
    return scale((WIDTH,))


SEQUENCES = {
    "positionwise": positionwise,
    "attention": attention,
    "transformer": transformer,
    "recurrent": recurrent,
    "convolution": convolution1d,
    "class token": class_token,
    "scale": channel_scale,
}

# --- vectors: (B, WIDTH) --------------------------------------------------------------------------


def dense(pick: Pick) -> nn.Module:
    norm = pick("no norm", "layer norm", "batch norm", "scale")
    norms = {
        "no norm": nn.Identity(),
        "layer norm": nn.LayerNorm(WIDTH),
        "batch norm": nn.BatchNorm1d(WIDTH),
        "scale": scale((WIDTH,)),
    }
    linear = nn.Linear(WIDTH, WIDTH, bias=pick(True, False))
    return nn.Sequential(linear, norms[norm], activation(pick))


def reparametrised(pick: Pick) -> nn.Module:
    normed = pick(parametrizations.weight_norm, parametrizations.spectral_norm)
    return nn.Sequential(normed(nn.Linear(WIDTH, WIDTH)), activation(pick))


def functional(pick: Pick) -> nn.Module:
    """A matrix used without a module, whole, or as a view of something larger."""
    product = {
        "x @ W": lambda self, x: x @ self.weight,
        "addmm": lambda self, x: torch.addmm(self.bias, x, self.weight),
        "einsum": lambda self, x: torch.einsum("bi,ij->bj", x, self.weight),
        "rows": lambda self, x: F.linear(x, self.packed[1 : 1 + WIDTH], self.bias),
        "chunks": lambda self, x: F.linear(torch.tanh(F.linear(x, *self.two())), self.weight),
        "overlap": lambda self, x: F.linear(torch.tanh(x @ self.packed[1:5]), self.packed[3:7]),
        "flat": lambda self, x: x @ self.long.view(WIDTH, WIDTH),
        "transposed": lambda self, x: torch.tanh(x @ self.weight) @ self.weight.t(),
        "product": lambda self, x: F.linear(x, self.weight @ self.packed[:WIDTH]),
    }
    made = module(
        product[pick(*product)],
        weight=free(WIDTH, WIDTH),
        bias=free(WIDTH),
        packed=free(2 * WIDTH, WIDTH),
        long=free(WIDTH * WIDTH),
    )
    made.two = lambda: (made.packed.chunk(2)[0], made.bias)
    return made


def gated(pick: Pick) -> nn.Module:
    gate = pick(torch.sigmoid, F.silu, torch.tanh)
    parts = {"up": nn.Linear(WIDTH, 6), "gate": nn.Linear(WIDTH, 6), "down": nn.Linear(6, WIDTH)}
    return module(lambda self, x: self.down(self.up(x) * gate(self.gate(x))), **parts)


def bilinear(pick: Pick) -> nn.Module:
    return module(lambda self, x: self.b(x, torch.tanh(x)), b=nn.Bilinear(WIDTH, WIDTH, WIDTH))


def prelu(pick: Pick) -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.PReLU(pick(1, WIDTH)))


def in_place(pick: Pick) -> nn.Module:
    def add(self: Any, x: Tensor) -> Tensor:
        x = self.layer(x)
        x += self.bias
        return x.tanh_()

    return module(add, layer=nn.Linear(WIDTH, WIDTH), bias=free(WIDTH))


VECTORS = {
    "dense": dense,
    "functional": functional,
    "reparametrised": reparametrised,
    "gated": gated,
    "bilinear": bilinear,
    "prelu": prelu,
    "in place": in_place,
}

# --- heads: what the network returns --------------------------------------------------------------


def one_output(pick: Pick) -> nn.Module:
    return nn.Linear(WIDTH, pick(1, 3))


def two_outputs(pick: Pick) -> nn.Module:
    parts = {"one": nn.Linear(WIDTH, 2), "two": nn.Linear(WIDTH, 4)}
    return module(lambda self, x: (self.one(x), [self.two(x).view(-1, 2, 2), None]), **parts)


def named_outputs(pick: Pick) -> nn.Module:
    parts = {"one": nn.Linear(WIDTH, 2), "two": nn.Linear(2, 2)}
    return module(lambda self, x: {"y": self.one(x), "z": {"of y": self.two(self.one(x))}}, **parts)


HEADS = {"one": one_output, "several": two_outputs, "named": named_outputs}
