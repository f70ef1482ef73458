"""Data-parallel forward passes whose synchronized layers see one joined batch.

MXNet records the gradient of a copy from one context to another, but its replicas are
plain calls, one after the other: a layer that needs the others must be able to wait.
"""

import collections
import concurrent.futures
import contextlib
import functools
import operator
import threading
from collections.abc import Callable, Iterable
from typing import Any

from mxnet import autograd
from mxnet.numpy import ndarray
from mxnet.util import is_np_array, is_np_shape, np_array, np_shape

HERE = threading.local()  # .place: relay and rank, in a thread of `run_replicas`
# Threads are kept: each new one that calls MXNet costs 5 MB that never come back.
# There must be one for every shard, or those that run wait for ever.
THREADS = concurrent.futures.ThreadPoolExecutor(max_workers=1 << 16)


def run_replicas(net: Callable, *shards: Iterable[ndarray]) -> list[Any]:
    """[net(X) for X in shards], where synchronized layers see one joined batch.

    The shards may have different sizes and contexts; as in `map`, more lists of them
    are more arguments (masks).  Call it under `autograd.record()`, then
    `autograd.backward(losses)` once, with all of the losses.
    """
    replicas = list(zip(*shards, strict=True))
    if autograd.is_recording() and not all(X.size for X, *_ in replicas):
        # MXNet leaves the gradients of parameters that meet no values undefined.
        raise ValueError("a replica needs at least one example; got an empty shard")
    if len(replicas) == 1:
        return [net(*replicas[0])]
    relay, settings = Relay(len(replicas)), thread_settings()

    def run(rank: int, replica: tuple[ndarray, ...]) -> Any:
        try:
            relay.wait(rank)
            HERE.place = relay, rank
            with settings(), replica[0].ctx:
                Y = net(*replica)
            relay.hand_on(ended=True)
            return Y
        except Stopped:
            return None
        except BaseException as error:
            relay.fail(error)
        finally:
            HERE.place = None, 0

    outputs = list(THREADS.map(run, range(len(replicas)), replicas))
    if relay.failure:
        raise relay.failure
    return outputs


def thread_settings() -> Callable:
    """A context manager that gives another thread what MXNet keeps for each thread."""
    arrays, shapes = is_np_array(), is_np_shape()
    record = autograd.record if autograd.is_recording() else autograd.pause
    training = autograd.is_training()

    @contextlib.contextmanager
    def enter() -> Any:
        # shapes before arrays: MXNet refuses np arrays that outlive np shapes
        with np_shape(shapes), np_array(arrays), record(training):
            yield

    return enter


def place() -> "tuple[Relay | None, int]":
    """Relay and rank of this thread: None, 0 outside of `run_replicas`."""
    return getattr(HERE, "place", (None, 0))


class Relay:
    """Forward passes in threads that take turns, each up to its next all-reduce.

    A forward pass can pause only in a thread of its own, but Gluon is not made for
    several at once (a hybridized block traces itself on its first call): only the
    thread at the head of `queue` runs.
    """

    turn: threading.Condition
    failure: BaseException | None
    queue: collections.deque[int]
    given: list[list[ndarray]]  # [rank][round]: what it brought

    def __init__(self, count: int) -> None:
        self.turn, self.failure = threading.Condition(), None
        self.queue = collections.deque(range(count))
        self.given = [[] for _ in range(count)]

    def wait(self, rank: int) -> None:
        """Until it is this rank's turn; Stopped if another replica has failed."""
        with self.turn:
            self.turn.wait_for(lambda: self.failure or self.queue[0] == rank)
        if self.failure:
            raise Stopped

    def hand_on(self, *, ended: bool) -> None:
        """Let the next rank run; this one comes again unless it has ended."""
        with self.turn:
            rank = self.queue.popleft()
            if not ended:
                self.queue.append(rank)
            self.turn.notify_all()

    def fail(self, error: BaseException) -> None:
        """End all the others: this replica cannot go on."""
        with self.turn:
            self.failure = error
            self.turn.notify_all()

    def all_reduce(self, rank: int, v: ndarray) -> ndarray:
        """The sum of what all replicas bring, on the context of this one's.

        The copies are recorded like any op: backward returns through them.  Added in
        the same order everywhere, the sums are equal to the last bit.
        """
        this_round = len(self.given[rank])
        self.given[rank].append(v)
        self.hand_on(ended=False)
        self.wait(rank)  # until the others have come as far, or ended
        if any(len(given) <= this_round for given in self.given):
            raise RuntimeError("not every replica came to this synchronized layer")
        everyone = (given[this_round].as_in_ctx(v.ctx) for given in self.given)
        return functools.reduce(operator.add, everyone)


class Stopped(Exception):
    """Another replica failed: there is nobody left to wait for."""
