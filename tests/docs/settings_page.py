"""Write `docs/settings.md` from the settings of the components.

python -m tests.docs.settings_page
"""

from __future__ import annotations

from collections import Counter

from roomgrad.flags import Setting, describe
from roomgrad.settings import RuntimeSettings, of_run
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
PAGES = ("labelling", "dashboard")

HEAD = """\
# Settings

<!-- Written by `python -m tests.docs.settings_page`; change the settings.py of the component. -->

Each setting is a flag and an environment variable:
`python -m roomgrad_trebuchet.trainer --train-steps 300`, or
`ROOMGRAD_TRAIN_STEPS=300 python -m roomgrad_trebuchet.trainer`. A flag overrides a variable, and a
variable the default; `--help` prints the same. A value that is not allowed ends the component with
one sentence and exit code 2.

Without the prefix, `RUN` and names of several words, like `REDIS_URL`, are read, too; others are
not, because conda, shells, Kubernetes and build tools export HOST, PORT, SYSTEM and the like.

Settings *of the run* are marked with a star. The first start stores them, and a run is continued
only with the same values; other values need another `--run` name, or `roomgrad run --fresh`.

`roomgrad run` and `up` have shorter flags for common ones: `--steps` is `--train-steps` of trainer
and controlmodel, and `--preset` also chooses the simulator's `--weight-head`.
"""


def page() -> str:
    """Return the whole page: what components share is listed once."""
    common = describe(RuntimeSettings)
    pages = _shared_by(PAGES, common)
    parts = [HEAD, "## Every component\n", _table(common, _of_run(RuntimeSettings)), ""]
    parts += [f"## Pages\n\nOf {' and '.join(PAGES)}.\n", _table(pages), ""]
    for name, cls in COMPONENTS.items():
        own = [each for each in describe(cls) if each not in [*common, *pages]]
        parts += [f"## {name}\n\n{(cls.__doc__ or '').strip()}\n"]
        parts += [_table(own, _of_run(cls)), ""] if own else []
    return "\n".join(parts)


def _shared_by(components: tuple[str, ...], common: list[Setting]) -> list[Setting]:
    """Return the settings that all of these components have, beside the common ones."""
    found = Counter(each for name in components for each in describe(COMPONENTS[name]))
    return [each for each, n in found.items() if n == len(components) and each not in common]


def _table(settings: list[Setting], of_the_run: frozenset[str] = frozenset()) -> str:
    rows = ["| setting | values | default | |", "|---|---|---|---|"]
    for each in settings:
        star = "\\*" if each.flag in of_the_run else ""
        default = f"`{each.default}`" if each.default else "empty"
        rows.append(f"| `{each.flag}`{star} | {each.values} | {default} | {each.sentence} |")
    return "\n".join(rows)


def _of_run(cls: type[object]) -> frozenset[str]:
    """Return the flags of the settings that belong to the run."""
    names = of_run(cls()) if cls is not InferenceSettings else {}
    return frozenset("--" + name.replace("_", "-") for name in names)


if __name__ == "__main__":
    (ROOT / "docs" / "settings.md").write_text(page(), encoding="utf-8")
