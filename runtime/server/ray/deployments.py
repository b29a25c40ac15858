"""The deployments of the Ray Serve application."""

from __future__ import annotations

import logging

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.postgres import is_postgres
from binhdan.runtime.server.ray.engine import Engine
from binhdan.runtime.server.ray.front import front_builder
from binhdan.runtime.server.ray.metrics import MetricsBoard
from binhdan.runtime.server.ray.router import AffinityRouter


def build(
    config: ServerConfig,
    engines: int | None = None,
    cpus: float = 2,
    front_resources: dict[str, float] | None = None,
) -> Application:
    """The deployments `front`, `engine` and `metrics`. The YAML file of an operator may change their options.

    `engines`: how many replicas; None: as many as the requests need. `cpus`: of each.
    `front_resources`: resources of Ray that only the nodes for `front` and `metrics` have; None: any node.
    Raises InvalidArgumentError for a ledger in a file, which replicas cannot share.
    """
    if config.ledger is None:
        logging.getLogger("binhdan.server").warning(
            "without ledger = 'postgresql://…' each replica has limits and costs of its own"
        )
    elif not is_postgres(config.ledger):
        raise InvalidArgumentError("ledger: expected postgresql://… on a cluster, got a file")
    front_options = {"num_cpus": 0, "resources": front_resources or {}}
    quiet = LoggingConfig(enable_access_log=False)  # the gateway and the engines log requests
    metrics = serve.deployment(
        MetricsBoard, name="metrics", ray_actor_options=front_options, logging_config=quiet
    ).bind()
    autoscaling = AutoscalingConfig(
        min_replicas=1,
        max_replicas=64,
        target_ongoing_requests=config.max_sequences / 2,
        upscale_delay_s=10,
        downscale_delay_s=300,
    )
    scale = {"autoscaling_config": autoscaling} if engines is None else {"num_replicas": engines}
    engine = serve.deployment(
        Engine,
        name="engine",
        ray_actor_options={"num_cpus": cpus},
        # Twice what an engine computes together: it is never idle, and a new replica finds requests to take.
        max_ongoing_requests=2 * config.max_sequences,
        request_router_config=RequestRouterConfig(request_router_class=AffinityRouter),
        health_check_period_s=5,
        health_check_timeout_s=15,
        graceful_shutdown_timeout_s=config.drain_seconds,
        logging_config=quiet,
        **scale,
    ).bind(config, metrics)
    front = serve.ingress(front_builder(config))()
    return serve.deployment(
        front,
        name="front",
        ray_actor_options=front_options,
        max_ongoing_requests=config.max_connections,
        logging_config=quiet,
    ).bind(engine, metrics)
