"""The same cannon as a Tesseract, for `tesseract-runtime serve`."""

import numpy as np
from pydantic import BaseModel
from tesseract_core.runtime import Array, Differentiable, Float32, ShapeDType


class InputSchema(BaseModel):
    controls: Differentiable[Array[(None, 3), Float32]]


class OutputSchema(BaseModel):
    distance: Differentiable[Array[(None,), Float32]]


def apply(inputs: InputSchema) -> OutputSchema:
    wind, _, logit = inputs.controls.T
    return OutputSchema(distance=(25 + 5 * logit) ** 2 / 9.81 + wind)


def vector_jacobian_product(
    inputs: InputSchema,
    vjp_inputs: set[str],
    vjp_outputs: set[str],
    cotangent_vector: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    up, logit = cotangent_vector["distance"], inputs.controls[:, 2]
    slope = 10 * (25 + 5 * logit) / 9.81
    return {"controls": np.stack([up, 0 * up, slope * up], axis=1).astype(np.float32)}


def abstract_eval(abstract_inputs: InputSchema) -> dict[str, ShapeDType]:
    rows = abstract_inputs.controls.shape[0]
    return {"distance": ShapeDType(shape=(rows,), dtype="float32")}
