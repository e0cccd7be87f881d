"""The streams of fact learning, and methods that train on them."""

import shutil
from collections import Counter

import dill
import numpy as np
import pytest
import torch
from avalanche.benchmarks.utils import AvalancheDataset
from avalanche.evaluation.metrics import loss_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from fact_releases import edit, write_csv_release
from PIL import Image
from torch import nn

from avalanche_mas import LocalMASPlugin, MASPlugin, estimate_importance
from avalanche_mas.benchmarks.fact_benchmark import SPLITS, fact_learning
from avalanche_mas.benchmarks.facts import Fact, UnknownWordsError, embed_facts, sports_facts
from avalanche_mas.benchmarks.pictures import read_picture
from avalanche_mas.miniature.facts.words import concept_vectors

VECTORS = dict(zip(*concept_vectors(), strict=True))
RIDING = Fact("person", "riding", "horse")


def benchmark(root, split="random-2", seed=0, **options):
    options = {"size": 16} | options
    return fact_learning(root, VECTORS, split, seed, **options)


def distance(output, y):
    """A plain criterion: the masked distance of each unit."""
    target, masks = y[:, :-3], y[:, -3:]
    return (masks * (output - target).view(len(y), 3, -1).norm(dim=2)).sum(1).mean()


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4 * 4, 900)
    )


def strategy(*plugins):
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    return Naive(
        model=model,
        optimizer=optimizer,
        criterion=distance,
        train_mb_size=32,
        train_epochs=2,
        eval_mb_size=32,
        evaluator=EvaluationPlugin(loss_metrics(stream=True), strict_checks=True),
        plugins=list(plugins),
    )


@pytest.mark.parametrize("split", SPLITS)
def test_streams_cover_all_facts_and_pictures_once(miniature, split):
    streams = benchmark(miniature, split)
    release = streams.release
    for name in ("train", "test"):
        experiences = list(streams.streams[name])
        assert len(experiences) == int(split[-1])
        numbers = [n for experience in experiences for n in experience.fact_numbers]
        assert sorted(numbers) == list(range(len(release.facts)))
        shown = Counter(n for e in experiences for n in e.dataset.fact_numbers)
        assert shown == Counter(image.fact for image in release.images[name])
        for i, experience in enumerate(experiences):
            assert experience.current_experience == i
            assert set(experience.dataset.fact_numbers) == set(experience.fact_numbers)
            assert experience.facts == tuple(release.facts[n] for n in experience.fact_numbers)
    train, test = (streams.streams[name] for name in ("train", "test"))
    assert [e.fact_numbers for e in train] == [e.fact_numbers for e in test]


def test_seeds_and_published_splits(miniature):
    def tasks(split, seed):
        return benchmark(miniature, split, seed).tasks

    assert tasks("random-4", 3) == tasks("random-4", 3)
    assert tasks("random-4", 3) != tasks("random-4", 4)
    published = benchmark(miniature, "random-4", None).release.splits
    assert tasks("random-4", None) == published["random-4"]
    assert tasks("semantic-4", 3) == published["semantic-4"]
    assert tasks("random-2", None) == tasks("random-2", 0)
    assert tasks("clusters-4", None) == tasks("clusters-4", 0)


def test_published_split_from_its_tables(tmp_path):
    root = write_csv_release(tmp_path / "mid_scale", tasks=((1, 3), (5,), (2,), (4,)))
    assert fact_learning(root, split="random-4").tasks == ((0, 2), (4,), (1,), (3,))
    with pytest.raises(ValueError, match="'clusters-4'"):
        fact_learning(root, split="semantic-4")
    with pytest.raises(ValueError, match="random-3"):
        fact_learning(root, split="random-3")


def test_first(miniature):
    """The sports facts' task leads, wherever chance had put it."""
    facts = benchmark(miniature).facts
    sports = set(sports_facts(facts))
    assert len(sports) == 7
    for seed in range(3):
        streams = benchmark(miniature, "clusters-4", seed, first=sports)
        held = [len(sports & set(e.facts)) for e in streams.train_stream]
        assert held[0] == max(held) > 0
        assert sorted(map(sorted, streams.tasks)) == sorted(
            map(sorted, benchmark(miniature, "clusters-4", seed).tasks)
        )
    with pytest.raises(ValueError, match="no fact <person, playing, chess>"):
        benchmark(miniature, first=[Fact("person", "playing", "chess")])


def test_samples(miniature):
    """x is a normalised picture; y the embedding, zero where units miss, and the masks."""
    streams = benchmark(miniature, subtract_mean=False)
    seen = set()
    for experience in streams.test_stream:
        for (x, y), number in zip(experience.dataset, experience.dataset.fact_numbers, strict=True):
            if number in seen:
                continue
            seen.add(number)
            fact = streams.facts[number]
            assert x.shape == (3, 16, 16)
            assert y.shape == (903,)
            assert y.dtype == torch.float32
            assert tuple(y[900:].tolist()) == fact.masks
            for unit, block in zip(fact.units, y[:900].view(3, 300), strict=True):
                expected = np.zeros(300) if unit is None else embedded(unit)
                np.testing.assert_allclose(block, expected, rtol=1e-6)
    assert len(seen) == len(streams.facts)


def embedded(unit):
    return np.mean([VECTORS[word] for word in unit.split()], axis=0)


def test_own_embeddings_of_the_release(miniature):
    """The miniature's text files hold what its word vectors give."""
    own = fact_learning(miniature, split="random-2", size=16)
    given = benchmark(miniature)
    torch.testing.assert_close(own.targets, given.targets, rtol=0, atol=1e-6)
    assert own.embeddings.mean(0).abs().max() < 1e-6
    assert not torch.equal(given.targets, benchmark(miniature, subtract_mean=False).targets)


def test_vectors_of_any_length(miniature):
    short = {word: row[:5] for word, row in VECTORS.items()}
    streams = fact_learning(miniature, short, "random-2", 0, size=16)
    assert streams.targets.shape == (51, 18)
    expected = embed_facts(streams.facts, short)
    torch.testing.assert_close(streams.embeddings, torch.from_numpy(expected))


def test_synonyms(tmp_path):
    root = write_csv_release(tmp_path / "r")
    words = {word: VECTORS[word] for word in ("dog", "running", "person", "riding")}
    with pytest.raises(UnknownWordsError, match=r"2 words:\n  'cat'.*\n  'horse'"):
        fact_learning(root, words, "random-2")
    streams = fact_learning(root, words, "random-2", synonyms={"cat": "dog", "horse": "dog"})
    assert torch.equal(streams.embeddings[0], streams.embeddings[4])


def test_transforms_of_training_and_evaluation(miniature):
    dataset = benchmark(miniature).train_stream[0].dataset
    same = [torch.equal(dataset.eval()[0][0], dataset.eval()[0][0]) for _ in range(4)]
    varied = [torch.equal(dataset.train()[0][0], dataset.train()[0][0]) for _ in range(4)]
    assert all(same)
    assert not any(varied)
    own = benchmark(miniature, train_transform=len_of, eval_transform=mode_of)
    assert own.train_stream[0].dataset[0][0] == (32, 32)
    assert own.train_stream[0].dataset.eval()[0][0] == "RGB"
    assert own.test_stream[0].dataset[0][0] == "RGB"


def len_of(image):
    return image.size


def mode_of(image):
    return image.mode


def test_subset(miniature):
    streams = benchmark(miniature, "random-4")
    sports = sports_facts(streams.facts)
    numbers = streams.release.numbers(sports)
    for name in ("train", "test"):
        subset = streams.subset(sports, name)
        assert isinstance(subset, AvalancheDataset)
        assert set(subset.fact_numbers) == set(numbers)
        images = streams.release.images[name]
        assert len(subset) == sum(image.fact in numbers for image in images)
        assert torch.equal(subset[0][0], subset[0][0])
    with pytest.raises(ValueError, match="no fact <unicorn"):
        streams.subset([Fact("unicorn")])
    with pytest.raises(ValueError, match="stream is 'valid'"):
        streams.subset(sports, "valid")
    with pytest.raises(ValueError, match="no picture"):
        streams.subset([])


def test_subset_has_all_facts_with_the_same_words(tmp_path):
    streams = fact_learning(write_csv_release(tmp_path / "r"), split="random-2", seed=0, size=8)
    assert Counter(streams.subset([RIDING]).fact_numbers) == {2: 2, 3: 2}


@pytest.mark.parametrize("plugin", [None, MASPlugin, LocalMASPlugin])
def test_training(miniature, plugin):
    """The loss falls on each experience, without task labels."""
    streams = benchmark(miniature)
    used = [plugin(lambda_reg=1.0)] if plugin else []
    trainer = strategy(*used)
    for experience in streams.train_stream:
        before = loss(trainer.model, experience)
        trainer.train(experience)
        assert loss(trainer.model, experience) < before
    results = trainer.eval(streams.test_stream)
    assert 0 < results["Loss_Stream/eval_phase/test_stream"] < float("inf")


def loss(model, experience):
    batches = torch.utils.data.DataLoader(experience.dataset.eval(), batch_size=64)
    with torch.no_grad():
        return sum(distance(model(x), y).item() for x, y in batches)


@pytest.mark.parametrize("which", ["train", "both", "subset"])
def test_importance_is_measured_on_the_right_pictures(miniature, which):
    streams = benchmark(miniature, "random-4")
    sports = sports_facts(streams.facts)
    first = [stream[0].dataset.eval() for stream in (streams.train_stream, streams.test_stream)]
    data, samples = {
        "train": ("train", [*first[0]]),
        "both": (["train", "test"], [*first[0], *first[1]]),
        "subset": (lambda experience: streams.subset(sports), [*streams.subset(sports)]),
    }[which]
    plugin = MASPlugin(streams=data)
    trainer = strategy(plugin)
    trainer.train(streams.train_stream[0])
    expected = estimate_importance(trainer.model, torch.stack([x for x, _ in samples]))
    for name, omega in expected.items():
        torch.testing.assert_close(plugin.importance[name], omega, rtol=1e-4, atol=1e-6)


def test_benchmark_can_be_stored(miniature):
    """With Avalanche's checkpoints: a plugin whose streams function refers to it holds it."""
    streams = benchmark(miniature)
    again = dill.loads(dill.dumps(streams))
    assert again.tasks == streams.tasks
    assert torch.equal(again.test_stream[1].dataset[0][0], streams.test_stream[1].dataset[0][0])
    assert again.test_stream[1].origin_stream.benchmark is again


def test_bad_pictures_and_folders(tmp_path):
    root = write_csv_release(tmp_path / "r")
    (root / "images" / "train" / "6DS_train_0000000010.jpg").write_text("no picture")
    streams = fact_learning(root, split="random-4")
    with pytest.raises(
        ValueError, match=r"6DS_train_0000000010.jpg cannot be read as an image.*copy it"
    ):
        streams.train_stream[0].dataset[0]
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        fact_learning(tmp_path / "none")


def test_a_picture_that_ends_too_early_is_read(tmp_path):
    """As by the authors' reader: what is there of it is the same, the rest is grey."""
    root = write_csv_release(tmp_path / "r")
    path = root / "images" / "train" / "6DS_train_0000000010.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, subsampling=0)
    dataset = fact_learning(root, split="random-4").train_stream[0].dataset._datasets[0]
    whole = np.asarray(dataset[0][0])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    part = np.asarray(dataset[0][0])
    np.testing.assert_array_equal(part[:15], whole[:15])
    assert part[-8:].std() == 0
    with pytest.raises(ValueError, match="truncated"):
        read_picture(path)


def test_experience_without_pictures(tmp_path):
    root = write_csv_release(tmp_path / "r")
    table = root / "splits" / "4tasks_random" / "B1_test.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="experience 0 of the stream test has no picture"):
        fact_learning(root, split="random-4")
    edit(table, "image_links", "links")
    with pytest.raises(ValueError, match="no column image_links"):
        fact_learning(root, split="random-4")
    shutil.rmtree(root / "splits")
    with pytest.raises(FileNotFoundError, match="mid_scale"):
        fact_learning(root)
