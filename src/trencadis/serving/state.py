"""What all requests of a server share."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request

from trencadis.pipeline import DALLE
from trencadis.serving.keys import Keys
from trencadis.serving.links import Links
from trencadis.serving.metrics import Metrics
from trencadis.serving.models import ServedModels
from trencadis.serving.rates import Rates
from trencadis.serving.settings import ServingConfig


class State:
    """Of one application.

    Attributes:
        workers: Threads that read prompts and pictures and write files, apart from those that draw.
        is_draining: Nothing new is taken in.
    """

    def __init__(self, models: Mapping[str, DALLE], config: ServingConfig, keys: Keys) -> None:
        self.config, self.keys, self.metrics = config, keys, Metrics()
        self.models = ServedModels(models, config, self.metrics)
        self.rates = Rates(config.rate_limit)
        self.links = Links(config.link_minutes * 60, config.link_bytes)
        self.workers = ThreadPoolExecutor(2, thread_name_prefix="reads and writes")
        self.is_draining = False

    @classmethod
    def of(cls, request: Request) -> "State":
        state: State = request.app.state.trencadis
        return state

    def client(self, request: Request) -> str:
        """Return who asks; raises an `ApiError` where the key is absent or unknown."""
        address = "" if request.client is None else request.client.host
        return self.keys.client(request.headers.get("authorization"), address)

    def drain(self) -> None:
        """Refuse new requests; those that were taken in go on."""
        self.is_draining = True
        self.models.drain()

    def stop(self) -> None:
        self.models.stop()
        self.workers.shutdown()
