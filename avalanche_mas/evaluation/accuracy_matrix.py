"""The accuracy matrix R of a run, and the numbers that are read from it.

R[i, j] is the accuracy on experience j, in [0, 1], after training on experience i. Entries that
were not measured are NaN. Each experience counts once, however many samples it has, unlike in
Avalanche's ``Top1_Acc_Stream``, which averages over samples. Where targets are no classes, there is
a matrix of errors instead.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metrics import Accuracy, Mean
from avalanche.training.templates import SupervisedTemplate
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F


class Matrix(PluginMetric):  # type: ignore[misc]
    """Fills a row after each experience; give it to an ``EvaluationPlugin``.

    Each call of ``strategy.eval`` after an experience was trained writes into the row of that
    experience. Evaluations before any training, or amid an experience (``eval_every``), are of
    models that have no row and are left out. Joint training trains once, so it has one row.

    :param stream: the name of the stream that is measured; evaluations of others are left out.
    :param measured: of the experience that is being evaluated.
    """

    def __init__(self, stream: str, measured: Any) -> None:
        super().__init__()
        self.stream = stream
        self._measured = measured
        self.reset()

    @abstractmethod
    def update(self, output: Any, target: Tensor) -> None:
        """Measures one mini-batch."""

    def reset(self) -> None:
        """Forget all rows."""
        self._rows: list[dict[int, float]] = []
        self._training = False

    def result(self) -> NDArray[np.float64]:
        """R so far.

        :return: shape (trained experiences, evaluated experiences), NaN where not measured.
        """
        width = max((j + 1 for row in self._rows for j in row), default=0)
        matrix = np.full((len(self._rows), width), np.nan)
        for i, row in enumerate(self._rows):
            for j, accuracy in row.items():
                matrix[i, j] = accuracy
        return matrix

    def before_training_exp(self, strategy: SupervisedTemplate) -> None:
        """From here to the end of the experience the model has no row."""
        self._training = True

    def after_training_exp(self, strategy: SupervisedTemplate) -> None:
        """Start the row of the experience that was just trained."""
        self._training = False
        self._rows.append({})

    def before_eval_exp(self, strategy: SupervisedTemplate) -> None:
        """Start counting."""
        self._measured.reset()

    def after_eval_iteration(self, strategy: SupervisedTemplate) -> None:
        """Measure one mini-batch."""
        self.update(strategy.mb_output, strategy.mb_y)

    def after_eval_exp(self, strategy: SupervisedTemplate) -> None:
        """Write the accuracy into the current row."""
        experience = strategy.experience
        if self._rows and not self._training and experience.origin_stream.name == self.stream:
            self._rows[-1][experience.current_experience] = self._measured.result()

    def __str__(self) -> str:
        return f"{type(self).__name__.replace('Matrix', '_Matrix')}_{self.stream}"


class AccuracyMatrix(Matrix):
    """R of a classification, see :class:`Matrix`. ::

        matrix = AccuracyMatrix()
        strategy = Naive(..., evaluator=EvaluationPlugin(matrix, loggers=[InteractiveLogger()]))
        for experience in benchmark.train_stream:
            strategy.train(experience)
            strategy.eval(benchmark.test_stream)
        print(final_accuracy(matrix), forgetting(matrix))

    :param stream: the name of the stream that is measured; evaluations of others are left out.
    """

    def __init__(self, stream: str = "test") -> None:
        super().__init__(stream, Accuracy())

    def update(self, output: Any, target: Tensor) -> None:
        """Counts the right answers of one mini-batch.

        :param output: scores, of shape (samples, classes).
        :param target: the classes.
        :raises TypeError: for targets that are no classes.
        """
        if target.is_floating_point() or target.dim() != 1:
            raise TypeError(
                f"an accuracy needs a class for each sample, and the targets are {target.dtype} of "
                f"shape {tuple(target.shape)}: use ErrorMatrix"
            )
        self._measured.update(output, target)


class ErrorMatrix(Matrix):
    """E of a regression, see :class:`Matrix`: E[i, j] is the mean error on experience j.

    :param error: ``error(output, target)``: the mean over the samples of a mini-batch; by default
        that of the squared differences.
    :param stream: the name of the stream that is measured; evaluations of others are left out.
    """

    def __init__(
        self, error: Callable[[Any, Tensor], Tensor] = F.mse_loss, stream: str = "test"
    ) -> None:
        super().__init__(stream, Mean())
        self._error = error

    def update(self, output: Any, target: Tensor) -> None:
        """Adds up the errors of one mini-batch.

        :param output: of the network.
        :param target: what it should be.
        :raises ValueError: if one is broadcast to the other, which makes nonsense of the error.
        """
        if self._error is F.mse_loss and output.shape != target.shape:
            raise ValueError(
                f"the output has shape {tuple(output.shape)}, the targets have "
                f"{tuple(target.shape)}: give both the same"
            )
        self._measured.update(float(self._error(output, target)), len(target))


def final_accuracy(R: ArrayLike | Matrix) -> float:
    """Mean accuracy over all T experiences when training is over: (1/T) Σ_j R[T−1, j].

    :param R: accuracy matrix, (rows, T); only its last row is read.
    :return: a number in [0, 1].
    :raises ValueError: if R is not a matrix, or an entry of its last row is NaN.
    """
    return _measured_mean(as_matrix(R)[-1], "the last row")


def average_accuracy(R: ArrayLike | Matrix) -> NDArray[np.float64]:
    """Mean accuracy over the experiences seen so far: A_i = 1/(i+1) Σ_{j≤i} R[i, j].

    :param R: accuracy matrix, (T, T); entries above the diagonal are not read.
    :return: A, shape (T,).
    :raises ValueError: if R is not square, or an entry on or below its diagonal is NaN.
    """
    matrix = _as_square(R)
    return np.array([_measured_mean(row[: i + 1], f"row {i}") for i, row in enumerate(matrix)])


def forgetting(R: ArrayLike | Matrix) -> float:
    """Mean drop since an experience was learned: 1/(T−1) Σ_{j<T−1} (R[j, j] − R[T−1, j]).

    Of an :class:`ErrorMatrix`, how much the error has risen.

    The drop that the MAS paper reports (Aljundi et al., ECCV 2018). The last
    experience cannot have been forgotten yet and does not count. Negative if later experiences
    helped earlier ones.

    :param R: accuracy matrix, (T, T) with T ≥ 2; only its diagonal and its last row are read.
    :return: a number in [−1, 1].
    :raises ValueError: if R is not square (joint training leaves one row: its forgetting is not
        defined), has fewer than two rows, or lacks an entry that is needed.
    """
    matrix = _as_square(R)
    if len(matrix) < 2:
        raise ValueError("forgetting needs at least two experiences, this matrix has 1")
    drop = _measured_mean((np.diag(matrix) - matrix[-1])[:-1], "the diagonal or the last row")
    return -drop if isinstance(R, ErrorMatrix) else drop


def new_task_accuracy(R: ArrayLike | Matrix) -> float:
    """Mean accuracy on an experience when it has just been learnt: 1/(T−1) Σ_{j≥1} R[j, j].

    The plasticity that is left: how well experiences are learnt while earlier ones are protected.
    The first has nothing to protect and does not count.

    :param R: accuracy matrix, (T, T) with T ≥ 2; only its diagonal is read.
    :return: a number in [0, 1].
    :raises ValueError: if R is not square, has fewer than two rows, or lacks an entry of its
        diagonal.
    """
    matrix = _as_square(R)
    if len(matrix) < 2:
        raise ValueError("new-task accuracy needs at least two experiences, this matrix has 1")
    return _measured_mean(np.diag(matrix)[1:], "the diagonal")


def as_matrix(R: ArrayLike | Matrix) -> NDArray[np.float64]:
    """R as an array.

    :param R: a matrix, or the metric that has measured it.
    :return: shape (rows, experiences).
    :raises ValueError: if R is not a matrix, or empty.
    """
    matrix = R.result() if isinstance(R, Matrix) else np.asarray(R, dtype=np.float64)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"an accuracy matrix has two dimensions, this has shape {matrix.shape}")
    return matrix


def _as_square(R: ArrayLike | Matrix) -> NDArray[np.float64]:
    matrix = as_matrix(R)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"this accuracy matrix has shape {matrix.shape}: a row for each of its "
            f"{matrix.shape[1]} experiences is needed"
        )
    return matrix


def _measured_mean(values: NDArray[np.float64], where: str) -> float:
    if np.isnan(values).any():
        raise ValueError(f"{where} of the accuracy matrix has entries that were not measured (NaN)")
    return float(values.mean())
