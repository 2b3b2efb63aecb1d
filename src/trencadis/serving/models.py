"""The models that a server draws with."""

import time
from collections.abc import Iterator, Mapping

import torch

from trencadis.pipeline import DALLE
from trencadis.serving.faults import ApiError
from trencadis.serving.metrics import Metrics
from trencadis.serving.scheduler import Scheduler
from trencadis.serving.settings import ServingConfig


class ServedModel:
    """A model and the scheduler that draws with it.

    Attributes:
        drawn_size: Width and height of its pictures, which may be more than those that it reads.
        created: When it was loaded, in seconds since 1970.
    """

    def __init__(self, name: str, dalle: DALLE, config: ServingConfig, metrics: Metrics) -> None:
        self.name, self.dalle, self.created = name, dalle, int(time.time())
        stream = dalle.transformer.stream
        self.image_len, self.text_len = stream.image_len, stream.text_len
        device = dalle.transformer.image_head.weight.device
        empty = dalle.image_tokenizer.decode(torch.zeros(1, *stream.grid_size, dtype=torch.long, device=device))
        self.drawn_size: tuple[int, int] = (empty.shape[-1], empty.shape[-2])
        dalle.digest()  # now, and in one thread
        self.scheduler = Scheduler(name, dalle, config, metrics)


class ServedModels:
    """Models by the names that requests give; the first is drawn with where a request names none."""

    def __init__(self, models: Mapping[str, DALLE], config: ServingConfig, metrics: Metrics) -> None:
        self._by_name = {name: ServedModel(name, dalle, config, metrics) for name, dalle in models.items()}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._by_name.values())

    def find(self, name: str | None) -> ServedModel:
        """Return a model.

        Raises:
            ApiError: There is none of that name.
        """
        if name is None:
            return next(iter(self._by_name.values()))
        if name not in self._by_name:
            known = ", ".join(self._by_name)
            message = f"The model {name!r} is not here; expected one of {known}."
            raise ApiError(404, message, "model_not_found", param="model")
        return self._by_name[name]

    @property
    def are_ready(self) -> bool:
        return all(model.scheduler.is_alive for model in self)

    @property
    def open_jobs(self) -> int:
        return sum(model.scheduler.open_jobs for model in self)

    def start(self) -> None:
        for model in self:
            model.scheduler.start()

    def drain(self) -> None:
        for model in self:
            model.scheduler.drain()

    def stop(self) -> None:
        for model in self:
            model.scheduler.stop()
