"""binhdan on a Ray cluster: `serve run binhdan.runtime.server.ray:app config=FILE`.

    client -> Ray Serve's proxy -> front (gateway, affinity) -> engine (one of many replicas) -> ledger

It needs the extra `ray`. examples/serving/ray.yaml is for `serve deploy`; docs/serving.md explains it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from binhdan.runtime.server.config import load

if TYPE_CHECKING:
    from ray.serve import Application


def app(arguments: dict[str, Any]) -> Application:
    """The application for `serve run` and `serve deploy`.

    `arguments`: `config`, a TOML file as for `binhdan serve`; single settings by their names; `revision`, any
    value: `serve deploy` reads the file again only if an argument has changed. The environment of the machine
    that runs the command counts as for `binhdan serve`. Raises InvalidArgumentError and FileReadError.
    """
    from binhdan.runtime.server.ray.deployments import build  # imports Ray; the rest of the package does not

    changes = {name: value for name, value in arguments.items() if name != "revision"}
    return build(load(changes.pop("config", None), os.environ, changes))
