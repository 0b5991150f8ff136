"""Writes `docs/settings.md` from the settings of the components.

python -m tests.docs.settings_page
"""

from __future__ import annotations

from roomgrad.settings import RuntimeSettings, describe, markdown, of_run
from roomgrad.web.dashboard.settings import DashboardSettings
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.labelling.settings import LabellingSettings
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.rater.settings import RaterSettings
from roomgrad_swergio.gateway.settings import GatewaySettings
from roomgrad_trebuchet.controlmodel.settings import ControlModelSettings
from roomgrad_trebuchet.inference.settings import InferenceSettings
from roomgrad_trebuchet.simulator.settings import SimulatorSettings
from roomgrad_trebuchet.trainer.settings import TrainerSettings
from tests.docs.pages import ROOT

COMPONENTS = {
    "trainer": TrainerSettings,
    "controlmodel": ControlModelSettings,
    "simulator": SimulatorSettings,
    "inference": InferenceSettings,
    "evolution": EvolutionSettings,
    "evalnet": EvalnetSettings,
    "learner": LearnerSettings,
    "labelling": LabellingSettings,
    "dashboard": DashboardSettings,
    "rater": RaterSettings,
    "gateway": GatewaySettings,
}

HEAD = """\
# Settings

<!-- Written by `python -m tests.docs.settings_page`; change the settings.py of the component. -->

Each component is configured by flags and environment variables:
`python -m roomgrad_trebuchet.trainer --train-steps 300`, or
`TRAIN_STEPS=300 python -m roomgrad_trebuchet.trainer`. A flag beats a variable, a variable beats
the default. `--help` prints the same as this page. A value that is not allowed ends
the component with one sentence and exit code 2.

Settings *of the run* are written into Redis by whoever starts first. A run is continued only with
the same values; other values need another `--run` name, or `roomgrad run --fresh`.

`roomgrad run` and `roomgrad up` have shorter flags for the common ones: `--steps` is
`--train-steps` of trainer and controlmodel, and `--preset` also chooses the simulator's
`--weight-head`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, cls in COMPONENTS.items():
        parts.append(f"## {name}\n\n{(cls.__doc__ or '').strip()}\n")
        parts.append(markdown(cls, only_own=True) + "\n")
        if names := _of_run(cls):
            parts.append(f"Of the run: {names}.\n")
    parts.append(f"## Every component\n\n{markdown(RuntimeSettings)}\n")
    return "\n".join(parts)


def _of_run(cls: type[object]) -> str:
    names = set(of_run(cls())) if cls is not InferenceSettings else set()
    flags = [each.flag for each in describe(cls) if each.variable.lower() in names]
    return ", ".join(f"`{flag}`" for flag in flags)


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(page(), encoding="utf-8")
