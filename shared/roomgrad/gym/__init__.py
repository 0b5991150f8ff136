"""Environments of gymnasium in rooms: `serve` makes a component of one, `Env` makes one of a room.

roomgrad.gym.serve("CartPole-v1", envs=8)  # a process of its own
env = roomgrad.gym.Env("served")  # in another program; a gymnasium.Env
"""

from roomgrad.gym.components import handlers, serve, streams
from roomgrad.gym.env import Env

__all__ = ["Env", "handlers", "serve", "streams"]
