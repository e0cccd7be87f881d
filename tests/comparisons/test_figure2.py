import pytest

from avalanche_mas.plugins.registry import METHODS
from benchmarks.experiments import figure2
from benchmarks.experiments.figure2 import FAST, PAPER, Question, run_cell
from benchmarks.figure2.properties import PROPERTIES, Finding
from benchmarks.figure2.trials import Trial

# What must come out, with the reason's first words; the strengths suit these methods.
EXPECTED = {
    ("MAS", "constant memory"): (True, "keeps 30 KB with 2 and 30 KB with 3 tasks"),
    ("AvalancheEWC", "constant memory"): (False, "keeps 60 KB with 2 and 90 KB with 3 tasks"),
    ("MAS", "problem agnostic"): (True, "task A's squared error"),
    ("LwF", "problem agnostic"): (False, "TypeError: "),
    ("AvalancheSI", "problem agnostic"): (False, "task A's squared error"),
    ("MAS", "on pretrained"): (True, "points of accuracy"),
    ("SI", "on pretrained"): (False, "points of accuracy"),
    ("MAS", "unlabelled data"): (True, "points of accuracy"),
    ("LwF", "unlabelled data"): (None, "learns nothing"),
    ("AvalancheMAS", "unlabelled data"): (False, "ValueError: "),
    ("MAS", "adaptive"): (True, "outputs change"),
    ("SI", "adaptive"): (False, "outputs change 1.0 times less"),
}


@pytest.mark.parametrize(("method", "wanted"), EXPECTED)
def test_properties_are_found_and_missed(method, wanted):
    finding = run_cell(Question(method, wanted, 0, FAST.trial))
    holds, reason = EXPECTED[method, wanted]
    assert finding.holds is holds
    assert finding.reason.startswith(reason)


def test_a_method_without_effect_is_called_so():
    finding = run_cell(Question("AvalancheSI", "problem agnostic", 0, FAST.trial))
    assert finding.reason.endswith("the same at every strength")


def answers(holds):
    """The same answers to every question."""
    return lambda title, questions: {q: Finding(holds(q), "because.") for q in questions}


def test_table_shows_what_was_measured_beside_the_paper():
    outcome = figure2.run(FAST, answers(lambda question: question.method != "SI"))
    table = outcome.table().set_index("method")
    assert list(table.index) == [name for name, method in METHODS.items() if method.plugin]
    assert list(table.columns) == list(PROPERTIES)
    assert list(table.loc["MAS"]) == ["yes (yes)"] * 5
    assert list(table.loc["SI"]) == ["no (yes)", "no (yes)", "no (no)", "no (no)", "no (no)"]
    assert table.loc["meanIMM", "on pretrained"] == "yes (yes)"
    assert table.loc["LocalMAS", "adaptive"] == "yes (-)"
    assert table.loc["LwF", "on pretrained"] == "yes (yes)"
    reasons = outcome.reasons()
    assert "SI, constant memory: no (the paper: yes): because." in reasons
    assert "EWC, adaptive: yes (better than the paper says): because." in reasons
    assert not [reason for reason in reasons if reason.startswith(("MAS,", "LocalMAS,"))]


def test_seeds_that_disagree_are_counted():
    settings = figure2.Figure2Settings(FAST.trial, seeds=(0, 1, 2))
    outcome = figure2.run(settings, answers(lambda question: question.seed < 2))
    assert outcome.table().set_index("method").loc["MAS", "adaptive"] == "2 of 3 (yes)"


def test_every_row_of_the_paper_has_every_column():
    assert {len(row) for row in PAPER.values()} == {len(PROPERTIES)}


def test_unlike_questions_have_unlike_names():
    question = Question("MAS", "adaptive", 0, Trial())
    others = [
        Question("SI", "adaptive", 0, Trial()),
        Question("MAS", "constant memory", 0, Trial()),
        Question("MAS", "adaptive", 1, Trial()),
        Question("MAS", "adaptive", 0, Trial(epochs=3)),
    ]
    assert len({q.name for q in (question, *others)}) == 5
