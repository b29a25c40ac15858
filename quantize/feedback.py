"""The factor of a Hessian for encoders with feedback of errors (csrc/encode/feedback.h)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def feedback_factor(hessian: npt.NDArray[Any], damping: float = 0.01) -> npt.NDArray[np.float32]:
    """The upper triangular R with H = R R^T, for ``_native.encode_feedback``.

    ``hessian`` (cols, cols) is the mean of a a^T over the activations a of a matrix. ``damping`` times the
    mean of its diagonal is added to the diagonal; so columns without activations have a small importance.
    Raises ValueError if the Hessian has inf or NaN, or if it is not positive definite with the damping.
    """
    h = np.array(hessian, np.float64)
    mean = h.diagonal().mean()
    if not np.isfinite(h).all():
        raise ValueError("hessian: expected finite numbers, got inf or NaN")
    h[np.diag_indices_from(h)] += damping * mean if mean > 0 else 1.0
    try:
        lower = np.linalg.cholesky(h[::-1, ::-1])
    except np.linalg.LinAlgError:
        raise ValueError(
            f"hessian: expected a positive definite matrix with a damping of {damping}; use a larger damping"
        ) from None
    return np.ascontiguousarray(lower[::-1, ::-1], np.float32)
