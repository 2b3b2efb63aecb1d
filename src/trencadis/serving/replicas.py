"""The application on Ray Serve: replicas behind Ray's balancer, on one machine or on the machines of a Ray cluster."""

import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from trencadis.console import tell
from trencadis.errors import ConfigError
from trencadis.serving.application import load_application
from trencadis.serving.keys import Keys
from trencadis.serving.settings import ServingConfig

NAME = "trencadis"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve_replicas(
    models: Mapping[str, str],
    config: ServingConfig,
    keys: Keys,
    *,
    replicas: int,
    threads: int,
    device: str,
    address: tuple[str, int],
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was taken in, for at most `grace_s` seconds.

    Ray starts on this machine, unless `RAY_ADDRESS` in the environment names a cluster.

    Args:
        models: Directories, hub ids or shipped models by the names that requests give; every replica loads all of them.
        replicas: Processes, each with an engine a model and a queue of its own.
        threads: Cores that each replica takes.
        device: `cuda` takes a GPU for each replica.
        address: Host and port to listen on.

    Raises:
        ConfigError: The port is 0, Ray does not start, or the cluster has too few cores or GPUs.
    """
    host, port = address
    if port == 0:
        raise ConfigError("--port 0 with --replicas", expected="the number of a port", remedy="choose one that is free")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would send them to Ray's authors
    import ray
    from ray import serve

    stopped = threading.Event()
    try:
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    except Exception as error:  # Ray's own are of many kinds
        remedy = "check RAY_ADDRESS and Ray's log"
        raise ConfigError(
            f"Ray does not start: {error}", expected="a cluster that it reaches", remedy=remedy
        ) from error
    try:
        for number in _SIGNALS:
            signal.signal(number, lambda *_: stopped.set())
        _check_room(ray.cluster_resources(), replicas, threads, device)
        serve.start(http_options={"host": host, "port": port})
        # The addresses of pictures are secret, so requests are not logged; each replica's own log leaves them out.
        serve.run(
            _deployment(models, config, keys, replicas, threads, device), logging_config={"enable_access_log": False}
        )
        tell(f"{replicas} replicas running on http://{host}:{port}")
        stopped.wait()
        serve.shutdown()
    finally:
        ray.shutdown()


def _deployment(
    models: Mapping[str, str], config: ServingConfig, keys: Keys, replicas: int, threads: int, device: str
) -> Any:
    """Return what Ray Serve runs."""
    from ray import serve

    def build() -> FastAPI:
        return load_application(models, config, keys, threads=threads, device=device)

    return serve.deployment(
        serve.ingress(build)(),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={"num_cpus": threads, "num_gpus": int(device == "cuda")},
        # The scheduler's own bound answers with 429; what only looks, such as /health, needs room beside it.
        max_ongoing_requests=4 * config.max_waiting * len(models),
        graceful_shutdown_timeout_s=config.grace_s,
    ).bind()


def _check_room(resources: Mapping[str, float], replicas: int, threads: int, device: str) -> None:
    """Refuse what Ray would wait for without an end."""
    needed = {"CPU": replicas * threads, "GPU": replicas if device == "cuda" else 0}
    for name, count in needed.items():
        if count > resources.get(name, 0):
            given = f"{replicas} replicas that take {count} {name}s"
            expected = f"at most the {resources.get(name, 0):g} of the cluster"
            raise ConfigError(given, expected=expected, remedy="lower --replicas or --threads, or add machines")
