"""The list of commands: the panels of `roomgrad --help`, and the help of each command.

A command is the function or group of its name in the module of its name, which is imported when the
command is called, so that `roomgrad --help` stays fast.
"""

from __future__ import annotations

RUN = "Run a system in the foreground until it is done, or until Ctrl+C."
UP = "Serve a system, or the programs of a swarm file, in the background until `down`."

PANELS = {
    "Commands": {
        "down": "Stop what `roomgrad up` or `run` serves; its data stays.",
        "runs": "List the runs of a server with their sizes; `runs delete` deletes some for good.",
        "health": "Succeed if a replica of this component on this host handles messages; for "
        "containers.",
        "forget": "Remove a component's groups, and its model, for good: no message waits for it.",
        "gateway": "Let clients of swergio take part in a run, until Ctrl+C.\n\n"
        "All other flags are passed on: python -m roomgrad_swergio.gateway --help lists them.",
        "dashboard": "Show the runs of a server on a page, until Ctrl+C. It only reads.\n\n"
        "All other flags are passed on: python -m roomgrad.web.dashboard --help lists them.",
        "dead": "Dead letters: what was given up, and why.",
    },
    "Inspect a run": {
        "ps": "Show the replicas: which are alive, since when, their pending messages and weights.",
        "rooms": "Show the rooms: members, messages per second, and what is waiting, pending and "
        "dead.",
        "info": "Show one room: what it carries, who sends and reads, and its newest messages.",
        "lag": "Show how far each component is behind: its waiting and pending messages.",
        "memory": "Show what a component remembers of the roots that are open.",
        "model": "Show a component's model, write its weights into a file, load others from one, "
        "or go back to a checkpoint.",
        "top": "Watch a run live: components, rooms, rates, and its progress.",
        "trace": "Follow one root: which component had each message, for how long, and where it is "
        "now.",
        "doctor": "Find what loses data or is stuck, and say what to do; exit code 1 if there is a "
        "problem.",
    },
    "Read and send messages": {
        "echo": "Show each message of a room as it comes; --json writes one object per line.",
        "hz": "Measure how many messages per second come into a room, and how regularly.",
        "bw": "Measure how many bytes per second come into a room, and the size of each.",
        "delay": "Measure how long messages of a room wait for their handler, and how long it "
        "takes.",
        "pub": "Put a message into a room; one that does not fit the contract is refused.",
        "request": "Send a forward message, and show the answer of the same ROOT_ID.",
        "replay": "Send recorded messages again, with new IDs and at their recorded pace.",
    },
    "Save and restore": {
        "keep": "Keep states of a component's model as checkpoints, and show those that are kept.",
        "backup": "Save a whole run to a file: labels, models, populations, and messages under "
        "way.",
        "restore": "Put the run of a file onto a server, where it continues as if nothing had "
        "happened.",
    },
    "Your own components": {
        "serve": "Serve a network, a function or a black box as a component, until Ctrl+C.\n\n"
        "All other flags are settings of the component, like --seed=1.",
        "new": "Make a small system of your own that runs and learns at once, or one more "
        "component.",
        "check": "Check a component by its rooms: gradients against finite differences, IDs, "
        "shapes, errors.\n\n"
        "It is started in a run of its own, which is deleted afterwards. To check a component in "
        "another language, start it yourself and name its run by --run; if it learns, the probes "
        "make it take a few steps.",
        "asyncapi": "Print the rooms of a run, and what sends and receives, as AsyncAPI 3.0 "
        "(YAML).",
        "acl": "Print an ACL for Redis: one user per component, with the rights that it declares.",
    },
}

MODULES = {"hz": "rates", "bw": "rates", "delay": "rates"}
"""The modules of commands that have none of their name."""

FLAGS_OF_PROGRAM = {"allow_extra_args": True, "ignore_unknown_options": True}
SETTINGS = dict.fromkeys(("gateway", "dashboard", "serve"), FLAGS_OF_PROGRAM)
"""How commands that start a program read their words."""
