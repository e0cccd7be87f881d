"""Random networks for hypothesis: which blocks, in which order, with which options, all drawn.

Every block is a function of ``pick``, which draws one of its arguments and writes it down. What was
picked is the network's structure; weights and data follow from a seed.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from judge import naive_importance
from networks import free, live_in, module
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence

Pick = Callable[..., Any]
Data = Tensor | dict[str, Tensor]
SAMPLES = 4
WIDTH = 4
LENGTH = 3
WORDS = 6


class Drawn:
    """A drawn network.

    :param structure: the choices that made it.
    :param model: in float64 and eval mode.
    :param data: its input, SAMPLES samples; a ``matrix`` in it is shared by all of them.
    :param all_ruled: whether every parameter should have a rule.
    """

    def __init__(self, structure: str, model: nn.Module, data: Data, all_ruled: bool) -> None:
        self.structure, self.model, self.data, self.all_ruled = structure, model, data, all_ruled

    def __repr__(self) -> str:  # what hypothesis prints of a network that fails
        return f"{self.structure}\n{self.model}"

    def batches(self) -> list[Data]:
        """The data in another order, in one to three batches."""
        sizes = ([4], [3, 1], [1, 3], [2, 2], [1, 1, 2], [1, 2, 1])
        rows = torch.randperm(SAMPLES).split(sizes[len(self.structure) % len(sizes)])
        return [self.take(part) for part in rows]

    def take(self, rows: Tensor) -> Data:
        """A copy of some samples; where they have a mask, they are padded to the longest."""
        if isinstance(self.data, Tensor):
            return self.data[rows]
        data = {name: t if name == "matrix" else t[rows] for name, t in self.data.items()}
        longest = int(data["mask"].sum(1).max()) if "mask" in data else None
        return {name: t if name == "matrix" else t[:, :longest] for name, t in data.items()}

    def truth(self) -> dict[str, Tensor]:
        """By the naive loop."""

        def call(model: nn.Module, row: Tensor) -> Any:
            batch = self.take(row)
            return model(**batch) if isinstance(batch, Mapping) else model(batch)

        return naive_importance(self.model, torch.arange(SAMPLES), call)


@st.composite
def networks(draw: Any) -> Drawn:
    """A network of at most six blocks, as if trained for a while."""
    return drawn_by(lambda options: draw(st.sampled_from(options)))


def drawn_by(choose: Callable[[tuple[Any, ...]], Any]) -> Drawn:
    """The same, where another one draws."""
    picked: list[Any] = []

    def pick(*options: Any) -> Any:
        picked.append(choose(options))
        return picked[-1]

    torch.manual_seed(0)
    start = pick(*STARTS)
    blocks, data = STARTS[start](pick)
    model = Network(*blocks, *many(VECTORS, pick, 0, 2), HEADS[pick(*HEADS)](pick))
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
    if isinstance(data, dict):
        data = {name: random_like(tensor) for name, tensor in data.items()}
    else:
        data = random_like(data)
    return Drawn(structure, model, data, all_ruled=IDIOMS.isdisjoint(picked))


class Network(nn.Sequential):
    """Blocks, of which the first gets everything that the network is given."""

    def forward(self, x: Tensor, **others: Tensor) -> Any:
        first, *rest = self
        x = first(x, **others)
        for block in rest:
            x = block(x)
        return x


def random_like(data: Tensor) -> Tensor:
    return data.double().normal_() if data.is_floating_point() else data


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


def overwritten(pick: Pick) -> tuple[list[nn.Module], Tensor]:
    """The network writes to its own input."""

    def set_items(self: Any, x: Tensor) -> Tensor:
        x[:, :1] = 0.5
        return x

    def write_rows(self: Any, x: Tensor) -> Tensor:
        for row in x:
            row.mul_(row.sum().cos())
        return x

    writes = {
        "mul_": lambda self, x: x.mul_(0.5),
        "clamp_": lambda self, x: x.clamp_(-1, 1),
        "items": set_items,
        "rows": write_rows,
        "out=": lambda self, x: torch.tanh(x, out=x),
        "inplace=True": lambda self, x: F.relu(x, inplace=True) + x,
    }
    return [module(writes[pick(*writes)]), *many(VECTORS, pick, 1, 2)], torch.randn(SAMPLES, WIDTH)


def ragged(pick: Pick) -> tuple[list[nn.Module], dict[str, Tensor]]:
    """Sequences of unequal length, padded, and a mask that says where they are."""

    def selected(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        whole = x.new_zeros(x.shape)
        whole[mask] = torch.tanh(self.layer(x[mask]))
        return whole.sum(1)

    def attend(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, key_padding_mask=~mask, need_weights=False)
        return (self.layer(y) * mask[..., None]).sum(1)

    def packed(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        given = pack_padded_sequence(x, mask.sum(1), batch_first=True, enforce_sorted=False)
        return self.recurrent(given)[1][-1]

    def last(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        y, _ = self.recurrent(x)
        return self.layer(y[torch.arange(len(x)), mask.sum(1) - 1])

    def mean(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        y = torch.tanh(self.layer(x)) * mask[..., None]
        return y.sum(1) / mask.sum(1, keepdim=True)

    def maximum(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.layer(x).masked_fill(~mask[..., None], -torch.inf).amax(1)

    how = {
        "selected": selected, "attention": attend, "packed": packed, "last": last, "mean": mean,
        "maximum": maximum
    }  # fmt: skip
    kind = pick(*how)
    parts: dict[str, nn.Module] = {}
    if kind != "packed":
        parts["layer"] = nn.Linear(WIDTH, WIDTH)
    if kind == "attention":
        parts["attention"] = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
    if kind in ("packed", "last"):
        parts["recurrent"] = pick(nn.GRU, nn.RNN)(WIDTH, WIDTH, batch_first=True)
    lengths = torch.tensor(pick((4, 1, 2, 3), (2, 2, 2, 2), (1, 3, 1, 1)))
    mask = torch.arange(4) < lengths[:, None]
    return [module(how[kind], **parts)], {"x": torch.randn(SAMPLES, 4, WIDTH), "mask": mask}


def graphs(pick: Pick) -> tuple[list[nn.Module], dict[str, Tensor]]:
    """Features of nodes, and a matrix that all samples share, perhaps of as many rows as they."""
    how = {
        "matmul": lambda self, x, matrix: torch.tanh(self.layer(matrix @ x)).mean(1),
        "einsum": lambda self, x, matrix: self.layer(torch.einsum("ij,bjf->bif", matrix, x)).sum(1),
        "embedded": lambda self, x, matrix: torch.tanh(x + self.embed(matrix)).mean(1),
        "keys": lambda self, x, matrix: (
            torch.softmax(self.layer(x) @ self.embed(matrix).T, -1) @ matrix @ self.embed(matrix)
        ).sum(1),
    }
    kind, nodes = pick(*how), pick(2, LENGTH, SAMPLES)
    parts: dict[str, nn.Module] = {}
    if kind != "embedded":
        parts["layer"] = nn.Linear(WIDTH, WIDTH)
    if kind in ("embedded", "keys"):
        parts["embed"] = nn.Linear(nodes, WIDTH)
    data = {"x": torch.randn(SAMPLES, nodes, WIDTH), "matrix": torch.randn(nodes, nodes)}
    return [module(how[kind], **parts)], data


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
    "vectors": vectors, "images": images, "sequences": sequences, "tokens": tokens, "bags": bags,
    "overwritten": overwritten, "ragged": ragged, "graphs": graphs
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


def time_major(pick: Pick) -> nn.Module:
    """Flattened with the positions first, so that no dimension counts the samples."""

    def forward(self: Any, x: Tensor) -> Tensor:
        flat = x.transpose(0, 1).reshape(-1, WIDTH)
        return torch.tanh(self.layer(flat)).view(x.shape[1], len(x), WIDTH).transpose(0, 1)

    return module(forward, layer=nn.Linear(WIDTH, WIDTH, bias=pick(True, False)))


SEQUENCES = {
    "positionwise": positionwise,
    "attention": attention,
    "transformer": transformer,
    "recurrent": recurrent,
    "convolution": convolution1d,
    "class token": class_token,
    "scale": channel_scale,
    "time-major": time_major,
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


def cache(pick: Pick) -> nn.Module:
    """What the forward pass keeps in containers, and finds there."""

    def overwrite(self: Any, x: Tensor) -> Tensor:
        self.kept["y"] = self.layer(x)
        return torch.tanh(x + self.kept["y"])

    def append(self: Any, x: Tensor) -> Tensor:
        self.list.clear()
        for _ in range(2):
            self.list.append(torch.tanh(self.layer(self.list[-1] if self.list else x)))
        return sum(self.list)

    def by_size(self: Any, x: Tensor) -> Tensor:
        ones = self.kept.setdefault(len(x), x.new_ones(len(x), 1))
        return torch.tanh(self.layer(x) + ones * self.bias)

    def of_weights(self: Any, x: Tensor) -> Tensor:
        if "weight" not in self.kept:
            self.kept["weight"] = torch.tanh(self.layer.weight)
        return F.linear(x, self.kept["weight"], self.layer.bias)

    how = {"overwrite": overwrite, "append": append, "size": by_size, "weights": of_weights}
    kind = pick(*how)
    parts = {"bias": free(WIDTH)} if kind == "size" else {}
    made = module(how[kind], layer=nn.Linear(WIDTH, WIDTH), **parts)
    made.kept, made.list = {}, []
    return made


def branch(pick: Pick) -> nn.Module:
    """What is computed depends on the values, of a sample or of the whole batch."""

    def whole(self: Any, x: Tensor) -> Tensor:
        return self.one(x) if x.sum() > 0 else torch.tanh(self.two(x))

    def rare(self: Any, x: Tensor) -> Tensor:
        return torch.tanh(self.two(self.one(x))) if x.max() > 1 else self.one(x)

    def each(self: Any, x: Tensor) -> Tensor:
        return torch.stack([self.one(r) if r.sum() > 0 else torch.tanh(self.two(r)) for r in x])

    def routed(self: Any, x: Tensor) -> Tensor:
        y, first = torch.zeros_like(x), x.sum(1) > 0
        y[first] = self.one(x[first])
        return y.index_put((~first,), torch.tanh(self.two(x[~first])))

    def chosen(self: Any, x: Tensor) -> Tensor:
        return torch.where(x.sum(1, keepdim=True) > 0, self.one(x), torch.tanh(self.two(x)))

    how = {"whole": whole, "rare": rare, "each": each, "routed": routed, "chosen": chosen}
    parts = {"one": nn.Linear(WIDTH, WIDTH), "two": nn.Linear(WIDTH, WIDTH)}
    return module(how[pick(*how)], **parts)


def constant(pick: Pick) -> nn.Module:
    """A layer of something that is the same for all samples, as often as there are samples."""
    rows = {
        "expand": lambda self, x: self.buffer.expand(len(x), -1),
        "repeat": lambda self, x: self.buffer.repeat(len(x), 1),
        "parameter": lambda self, x: self.parameter.expand(len(x), -1),
        "new": lambda self, x: x.new_ones(len(x), WIDTH),
        "index": lambda self, x: self.buffer[torch.zeros(len(x), dtype=torch.long)],
    }
    row = rows[pick(*rows)]

    def forward(self: Any, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x) + self.other(row(self, x)))

    parts = {"layer": nn.Linear(WIDTH, WIDTH), "other": nn.Linear(WIDTH, WIDTH)}
    made = module(forward, parameter=free(1, WIDTH), **parts)
    made.register_buffer("buffer", torch.randn(1, WIDTH))
    return made


VECTORS = {
    "dense": dense,
    "functional": functional,
    "reparametrised": reparametrised,
    "gated": gated,
    "bilinear": bilinear,
    "prelu": prelu,
    "in place": in_place,
    "cache": cache,
    "branch": branch,
    "constant": constant,
}
IDIOMS = {"overwritten", "ragged", "graphs", "time-major", "cache", "branch", "constant"}
"""What steers the network, or hides which entries are whose: rules need not measure all of it."""

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
