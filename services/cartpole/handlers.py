"""The environments: gymnasium's CartPole-v1, in lockstep."""

from functools import partial

import gymnasium

from roomgrad import Component, RuntimeSettings, gym
from roomgrad_rlgym.contract import ACTIONS, CARTPOLE, ENVS, OBSERVATIONS, RLGYM

make = partial(gymnasium.make, "CartPole-v1", disable_env_checker=True)

component = Component(
    CARTPOLE, RLGYM, RuntimeSettings, handlers=gym.handlers(make, ACTIONS, OBSERVATIONS, ENVS)
)
