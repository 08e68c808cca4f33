"""The commands of Ray that are about a cluster, or about Ray itself: what to do instead.

Room: cli. Set-up scripts call some of them; `stop` succeeds, since what it asks for is so.
"""

from __future__ import annotations

import click

__all__ = ["COMMANDS", "command_of"]

_RUN = "Run the program itself: aioray run SCRIPT"
_LOOK = "To see what a program does: aioray status, aioray list, aioray top"

# What each does, and what to do instead.
COMMANDS = {
    "attach": ("opens a shell on a cluster", _RUN),
    "check-open-ports": ("looks whether a cluster can be reached from outside", _RUN),
    "cpp": ("is for C++ programs", "Use Ray itself for those."),
    "create-or-update": ("starts a cluster", _RUN),
    "dashboard": ("opens the dashboard of a cluster", _LOOK),
    "debug": ("attaches the remote debugger", "To see where tasks are: aioray stack"),
    "disable-usage-stats": ("turns off Ray's usage statistics", "aioray collects none."),
    "down": ("ends a cluster", "A session ends with its program."),
    "drain-node": ("takes a node out of a cluster", "There is one machine only."),
    "enable-usage-stats": ("turns on Ray's usage statistics", "aioray collects none."),
    "exec": ("runs a command on a cluster", _RUN),
    "get-head-ip": ("tells the address of a cluster", "It would be 127.0.0.1."),
    "get-worker-ips": ("tells the addresses of a cluster", "There is one machine only."),
    "global-gc": ("collects garbage on a cluster", "Values go with the last ref to them."),
    "health-check": ("asks whether a cluster runs", _LOOK),
    "install-nightly": ("installs another version of Ray", "Use pip for that."),
    "job": ("submits programs to a cluster", _RUN),
    "kill-random-node": ("tests how a cluster takes losses", "There is one machine only."),
    "kuberay": ("manages clusters in Kubernetes", _RUN),
    "local-dump": ("gathers the logs of a cluster", "To see what tasks print: aioray logs"),
    "metrics": ("sets up Prometheus for a cluster", "See Metrics in the guide."),
    "microbenchmark": ("measures Ray", "Use Ray itself for that."),
    "monitor": ("follows the autoscaler of a cluster", "There is one machine only."),
    "rsync-down": ("copies files from a cluster", "There is one machine only."),
    "rsync-up": ("copies files to a cluster", "There is one machine only."),
    "serve": ("is for Ray Serve", "Use Ray itself for that."),
    "start": (
        "starts the processes of a cluster",
        f"Nothing has to be started: a session begins in the program, with init(). {_RUN}",
    ),
    "submit": ("runs a program on a cluster", _RUN),
    "symmetric-run": ("runs a program on all nodes of a cluster", _RUN),
    "teardown": ("ends a cluster", "A session ends with its program."),
    "up": ("starts a cluster", _RUN),
}


_NO_CLUSTER = frozenset(
    {
        "cpp",
        "debug",
        "disable-usage-stats",
        "enable-usage-stats",
        "install-nightly",
        "microbenchmark",
        "serve",
    }
)


def command_of(name: str) -> click.Command | None:
    """Return the command of this name, which takes any arguments; None: it is none of Ray's."""
    if name == "stop":
        return _Explaining(name, "", 0)
    if name not in COMMANDS:
        return None
    does, instead = COMMANDS[name]
    reason = (
        "comes with Ray itself; aioray does not have it"
        if name in _NO_CLUSTER
        else "needs a Ray cluster; aioray runs on one machine and does not have it"
    )
    return _Explaining(name, f"({does}) {reason}. {instead}", 1)


class _Explaining(click.Command):
    """Says why there is no such command, whatever its arguments are."""

    def __init__(self, name: str, text: str, status: int) -> None:
        super().__init__(
            name,
            hidden=True,
            add_help_option=False,
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        self.text = text
        self.status = status

    def invoke(self, ctx: click.Context) -> int:
        """Say why aioray lacks the command, or has nothing to stop; return the exit status."""
        path = ctx.command_path
        if self.status:
            click.echo(f"Error: `{path}` {self.text}", err=True)
        else:
            click.echo(
                f"`{path}` has nothing to stop: sessions of aioray end with their programs, and "
                f"leave nothing behind. `aioray sessions` lists those that run.",
                err=True,
            )
        return self.status
