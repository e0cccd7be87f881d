"""Runs that are killed with SIGKILL and started again end as if nothing had happened, bit by bit.

Which moments are hit is drawn with a fixed seed, see ``kills.py``; a test of its own says that all
phases are hit. One run is killed from outside, by another process, while its checkpoint is half on
the disk.
"""

import json
import os
import signal
import time
from collections import Counter

import commands
import pytest
from interrupted import CHECKPOINT, EXPERIENCES, METHODS_OF_OURS

from avalanche_mas.training import checkpoint

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL"),
    pytest.mark.timeout(900),  # where the machine is busy: alone, it takes about a minute
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What the process that forks and kills has seen."""
    folder = tmp_path_factory.mktemp("kills")
    process = commands.run("-c", f"import kills; kills.main({str(folder)!r})", quiet=True)
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", METHODS_OF_OURS)
def test_a_killed_run_ends_as_if_nothing_had_happened(name, report):
    """Weights, Ω, anchors and all else a plugin keeps, optimizer, metrics, random states."""
    method = report["methods"][name]
    assert [kill["signal"] for kill in method["kills"]] == [signal.SIGKILL] * EXPERIENCES
    whole, broken = method["results"]
    for part in ("/model", "/evaluated", "/plugin", "/optimizer", "/metrics", "/matrix", "/random"):
        assert any(leaf.startswith(part) for leaf in whole), part
    assert [leaf for leaf in whole if broken.get(leaf) != whole[leaf]] == []
    assert broken.keys() == whole.keys()


def test_the_kills_have_hit_every_phase(report):
    """Not only the many calls of one of them, and not at their beginnings."""
    kills = [
        (kill["moment"], {(e, phase): n for e, phase, n in method["counts"]})
        for method in report["methods"].values()
        for kill in method["kills"]
    ]
    assert len(kills) >= 30
    hit = Counter(phase for (_, phase, _), _ in kills)
    assert all(
        hit[phase] == len(METHODS_OF_OURS) for phase in ("training", "importance", "writing")
    )
    assert all(hit[phase] for phase in ("preparing", "evaluating", "publishing"))
    assert len({(experience, phase) for (experience, phase, _), _ in kills}) > 12
    depths = [n / counts[experience, phase] for (experience, phase, n), counts in kills]
    assert min(depths) < 0.15
    assert max(depths) > 0.85


def test_a_whole_checkpoint_is_there_whenever_saving_is_killed(report):
    """The one before or the new one, never less; at some moment under the previous name alone."""
    found = set()
    for kill in report["saving"]:
        assert kill["signal"] == signal.SIGKILL, kill
        published = "save.checkpoint.draft" not in kill["files"]
        assert kill["said"] == (2 if published else 1), kill
        found.add((kill["moment"][0], "save.checkpoint" in kill["files"], kill["said"]))
    assert found == {
        ("writing", True, 1),
        ("publishing", True, 1),
        ("publishing", False, 1),
        ("publishing", True, 2),
    }


@pytest.mark.filterwarnings("ignore:.*going on from")
def test_a_new_process_goes_on_where_one_was_killed_while_it_wrote(report, tmp_path):
    """The file is padded to 64 MB, so that the other process sees half of it."""
    path, draft = tmp_path / CHECKPOINT, tmp_path / f"{CHECKPOINT}.draft"
    code = f"import interrupted; interrupted.run('MAS', {str(tmp_path)!r}, ballast={1 << 24})"
    command = commands.Command("-c", code, quiet=True)
    while command.poll() is None:
        # The first checkpoint must be there, and the next one must be half written.
        if path.exists() and draft.exists() and draft.stat().st_size > 1 << 20:
            command.kill()
            break
        time.sleep(0.001)
    process = command.wait()
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert checkpoint._damage(draft) is not None
    assert checkpoint._damage(path) is None

    process = commands.run("-c", code, quiet=True)
    assert process.returncode == 0, process.stderr
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    whole = report["methods"]["MAS"]["results"][0]
    different = [leaf for leaf in whole if result.get(leaf) != whole[leaf]]
    assert set(different) == {"/model/ballast", "/evaluated/ballast"}
