"""MATLAB files that are the same, byte for byte, whenever they are written."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# The header of a version 5 file is free text; scipy writes the date into it.
_HEADER = b"MATLAB 5.0 MAT-file, a drawn miniature".ljust(116)


def save_mat(path: Path, variables: Mapping[str, NDArray[Any]]) -> None:
    """Write ``variables`` as a compressed MATLAB file of version 5.

    :param path: the file; its folder is made if need be.
    :param variables: arrays by name, of two dimensions at least, as MATLAB's are.
    """
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, dict(variables), do_compression=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_HEADER + buffer.getvalue()[len(_HEADER) :])


def struct_array(rows: Sequence[Mapping[str, object]]) -> NDArray[Any]:
    """Lay out records as MATLAB's 1 × n struct array; numbers become 1 × 1 arrays."""
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for column, row in enumerate(rows):
        for name, value in row.items():
            table[0, column][name] = value
    return table


def cell_array(texts: Sequence[str]) -> NDArray[Any]:
    """Lay out strings as MATLAB's 1 × n cell array."""
    cells = np.empty((1, len(texts)), dtype=object)
    cells[0, :] = texts
    return cells
