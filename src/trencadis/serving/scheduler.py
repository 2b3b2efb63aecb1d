"""The scheduler: a thread that drives one model's engine for all requests.

Candidates of different requests share a batch, and enter it between two passes. Clients take turns. What has left or is
late is dropped between two passes, and one question that is asked of the model is answered there. A second thread
decodes and ranks what is drawn, so that the others go on meanwhile.

A pass for many takes longer than one for few. So that a client who watches sees something soon, the request that has
waited longest for its first partial picture leads: every second pass is for it alone, until that picture is sent.
"""

import dataclasses
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from jaxtyping import Int
from torch import Tensor

from trencadis.pipeline import DALLE
from trencadis.sampling import Drawing, Engine, Partial
from trencadis.serving.faults import ApiError, of_failure, too_late
from trencadis.serving.jobs import Failed, Finished, Job, PartialPicture, Progress, Queued
from trencadis.serving.metrics import Metrics
from trencadis.serving.questions import Question
from trencadis.serving.settings import ServingConfig
from trencadis.serving.turns import Turns

TURN = 4  # candidates of a request that enter the batch in one turn
_LOG = logging.getLogger("trencadis.serving")


class Scheduler:
    """Draws jobs with one model.

    Args:
        name: The model's, in metrics.
        model: Only this thread draws with it; others may read prompts with it and decode its pictures.
    """

    def __init__(self, name: str, model: DALLE, config: ServingConfig, metrics: Metrics) -> None:
        self._name, self._model, self._config, self._metrics = name, model, config, metrics
        self._changed = threading.Condition()
        self._turns = Turns[Job]()
        self._questions = Turns[Question]()
        self._jobs: list[Job] = []  # drawn or waiting
        self._finishing: list[Job] = []  # decoded and ranked
        self._left: list[Job] = []
        self._is_draining = self._is_stopped = False
        self._engine = self._new_engine()
        self._seconds_a_job = 1.0  # how often one is finished lately
        self._last_finished = time.monotonic()
        self._is_ahead = False  # the last pass was for the lead alone
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix=f"finishes {name}")
        self._thread = threading.Thread(target=self._run, name=f"draws {name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def open_jobs(self) -> int:
        """How many jobs wait, are drawn or are finished now, questions included."""
        with self._changed:
            return self._count

    @property
    def _count(self) -> int:
        return len(self._jobs) + len(self._finishing) + len(self._questions)

    def submit(self, job: Job) -> None:
        """Take a job in.

        Raises:
            ApiError: The queue is full, or the server is about to stop.
        """
        with self._changed:
            self._check_room()
            self._jobs.append(job)
            self._turns.add(job)
            self._changed.notify()

    def ask(self, question: Question) -> None:
        """Take a question in; raises what `submit` does."""
        with self._changed:
            self._check_room()
            self._questions.add(question)
            self._changed.notify()

    def _check_room(self) -> None:
        if self._is_draining:
            raise ApiError(503, "The server is about to stop; try again soon.", "shutting_down", retry_after_s=5.0)
        count = self._count
        if count >= self._config.max_waiting:
            message = f"{count} requests are waiting already; try again later."
            raise ApiError(429, message, "queue_full", retry_after_s=min(count * self._seconds_a_job, 60.0))

    def leave(self, job: Job) -> None:
        """Drop a job whose client has gone; what it draws stops before the next pass."""
        with self._changed:
            self._left.append(job)
            self._changed.notify()

    def drain(self) -> None:
        """Take nothing in any more, and go on with what is there."""
        with self._changed:
            self._is_draining = True

    def stop(self) -> None:
        """End the threads; what is not drawn fails."""
        with self._changed:
            self._is_draining = self._is_stopped = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self._finisher.shutdown()

    def _run(self) -> None:
        while self._wait_for_work():
            try:
                self._drop_left_and_late()
                self._answer_next()
                self._admit_in_turn()
                if self._engine.drawings:
                    with self._metrics.a_pass(self._name):
                        self._step()
                self._publish()
                self._metrics.drawings(self._name, len(self._engine.drawings))
            except Exception as error:  # such as a full memory: nobody is left waiting, and the next ones are drawn
                _LOG.exception("drawing failed")
                self._fail_all(of_failure(error))
                self._engine = self._new_engine()
        stopped = ApiError(503, "The server has stopped; try again soon.", "shutting_down", retry_after_s=5.0)
        self._fail_all(stopped)
        for question in self._questions.in_order():
            question.refuse(stopped)

    def _wait_for_work(self) -> bool:
        """Return False once the scheduler is stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._left or len(self._questions) or self._is_stopped)
            return not self._is_stopped

    def _new_engine(self) -> Engine:
        return self._model.engine(2 * self._config.batch_size, self._config.weights)

    def _drop_left_and_late(self) -> None:
        with self._changed:
            left, self._left = self._left, []
            jobs = list(self._jobs)
        for job in left:
            if self._end(job):
                self._metrics.cancelled(self._name)
        now = time.monotonic()
        for job in jobs:
            if now > job.deadline:
                self._end(job, Failed(too_late(self._config.deadline_s)))

    def _answer_next(self) -> None:
        """Answer one question: what is being drawn waits for no more than that before its next pass."""
        with self._changed:
            question = self._questions.next()
            if question is None:
                return
            question.admitted = 1
            self._questions.took(question)
        question.settle()

    def _admit_in_turn(self) -> None:
        """Let candidates into the batch while it has room; while one leads, those of one turn a pass."""
        is_more = True
        while is_more:
            with self._changed:
                job = self._turns.next()
            if job is None or self._engine.free_slots < job.slots_each:
                break
            count = min(TURN, self._engine.free_slots // job.slots_each, job.candidates - job.admitted)
            self._admit(job, count)
            is_more = not self._leads()
        with self._changed:
            waiting = [job for job in self._turns.in_order() if not job.admitted]
        self._metrics.waiting(self._name, len(waiting))
        for position, job in enumerate(waiting):
            if job.position != position:
                job.position = position
                job.publish(Queued(position))

    def _admit(self, job: Job, count: int) -> None:
        if not job.admitted:
            self._metrics.began(self._name, time.monotonic() - job.since)
        seeds = job.prepared.request.seeds[job.admitted : job.admitted + count]
        request = dataclasses.replace(job.prepared.request, seeds=seeds)
        job.drawings.append((job.admitted, self._engine.admit(request)))
        with self._changed:
            job.admitted += count
            self._turns.took(job)

    def _leads(self) -> list[Drawing]:
        """Return what the lead draws, if there is a lead. Compiled passes take the same time for few as for many."""
        if self._engine.decoder.is_compiled:
            return []
        with self._changed:
            return next((leads for job in self._jobs if (leads := job.unseen)), [])

    def _step(self) -> None:
        """Make a pass: for the lead alone, if there is one and the last pass was for all."""
        leads = [] if self._is_ahead else self._leads()
        self._is_ahead = 0 < len(leads) < len(self._engine.drawings)
        self._engine.step(leads if self._is_ahead else None)

    def _publish(self) -> None:
        """Tell of partial pictures, and pass on what is drawn."""
        with self._changed:
            jobs = [job for job in self._jobs if job.drawings]
        for job in jobs:
            if job.partials:
                self._tell_progress(job)
                self._show(job)
            if job.is_drawn:
                self._metrics.drew(self._name, job.candidates)
                with self._changed:
                    self._jobs.remove(job)
                    self._finishing.append(job)
                self._finisher.submit(self._finish, job, job.image_tokens)

    def _finish(self, job: Job, image_tokens: Int[Tensor, "candidates rows columns"]) -> None:
        """Decode and rank the pictures of a job; in the second thread."""
        if job.is_over:  # its client has left
            return
        try:
            event: Finished | Failed = Finished(self._model.finish(image_tokens, job.prepared))
        except Exception as error:
            _LOG.exception("finishing failed")
            event = Failed(of_failure(error))
        now = time.monotonic()
        self._seconds_a_job += 0.1 * (min(now - self._last_finished, 10.0) - self._seconds_a_job)
        self._last_finished = now
        self._forget(job, event)

    def _tell_progress(self, job: Job) -> None:
        """Publish how much is drawn, once for every row of tokens."""
        rows, columns = self._model.transformer.stream.grid_size
        drawn = sum(drawing.drawn * len(drawing.seeds) for _, drawing in job.drawings)
        rows_drawn = drawn // (columns * job.candidates)
        if rows_drawn > job.rows_drawn:
            job.rows_drawn = rows_drawn
            job.publish(Progress(drawn, rows * columns * job.candidates))

    def _show(self, job: Job) -> None:
        """Publish the partial pictures that are due: at even distances, none of them complete."""
        for first, drawing in job.drawings:
            image_len = drawing.raster.shape[1]
            due = min(drawing.drawn * (job.partials + 1) // image_len, job.partials)
            for row in range(len(drawing.seeds)):
                picture = first + row
                if picture < job.shown and due > job.sent.get(picture, 0):
                    partial = Partial(drawing.image_tokens[row : row + 1].clone(), drawing.drawn)
                    job.publish(PartialPicture(picture, job.sent.get(picture, 0), partial))
                    job.sent[picture] = job.sent.get(picture, 0) + 1

    def _end(self, job: Job, event: Failed | None = None) -> bool:
        """Free the slots of a job, forget it, and tell its client; return whether it was open."""
        for _, drawing in job.drawings:
            self._engine.cancel(drawing)
        return self._forget(job, event)

    def _forget(self, job: Job, event: Finished | Failed | None) -> bool:
        """Forget a job whose slots are free, and tell its client; return whether it was open."""
        with self._changed:
            if job.is_over:
                return False
            job.is_over = True
            self._turns.remove(job)
            for jobs in (self._jobs, self._finishing):
                if job in jobs:
                    jobs.remove(job)
        if event is not None:
            job.publish(event)
        return True

    def _fail_all(self, error: ApiError) -> None:
        with self._changed:
            jobs = list(self._jobs)
        for job in jobs:
            self._end(job, Failed(error))
