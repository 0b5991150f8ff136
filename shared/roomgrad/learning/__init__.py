"""A torch network as the model of a component. The only package of roomgrad that needs torch."""

from roomgrad.learning.model import TorchModel
from roomgrad.learning.tensors import fix_threads
from roomgrad.models import forward_seed

__all__ = ["TorchModel", "fix_threads", "forward_seed"]
