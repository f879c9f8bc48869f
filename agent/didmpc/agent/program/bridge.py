"""Gives MPyC its runtime: parties, options and connections as agreed, none of its own choosing.

`mpyc.runtime` runs `setup()` at import: it reads `sys.argv` and the environment, may start processes, and
puts a runtime into its modules. Here it sees an empty command line, and its runtime is replaced by ours.
"""

import asyncio
import gc
import importlib
import logging
import os
import socket
import sys
import time
import traceback
from contextlib import suppress
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from didmpc.agent.program.config import Config
from didmpc.agent.program.delayed import Delayed
from didmpc.agent.program.mux import FAREWELL, Mux
from didmpc.agent.program.outcome import Failure, Stats
from didmpc.agent.program.traces import show
from didmpc.agent.program.wakers import Wakers
from didmpc.agent.program.watch import Watch
from didmpc.agent.program.wire import FrameType as Kind
from didmpc.agent.program.wire import encode, encode_json

if TYPE_CHECKING:  # it imports MPyC
    from didmpc.agent.program.exchanger import Exchanger

FIGURES_EVERY = 0.5
GRACE = 2.0
"""How long we wait, when a party has ended before its time, for the channel process to learn why."""


class Bridge:
    """One run: MPyC's runtime on one side, the socket pair to the channel process on the other."""

    def __init__(self, config: Config, channel: socket.socket, stats: Stats) -> None:
        """Import MPyC, and make ours the runtime that programs find as `mpyc.runtime.mpc`."""
        self._config = config
        self._stats = stats
        self._missed: set[int] = set()
        self._finished = False
        self._frozen = False
        mpyc = _import_mpyc(config)
        # Only now: these modules import MPyC too.
        from didmpc.agent.program import codec  # noqa: PLC0415
        from didmpc.agent.program.exchanger import Exchanger  # noqa: PLC0415

        self._exchanger = Exchanger
        self._codec_error = codec.CodecError
        mpyc.runtime.pickle = codec
        self._exchangers: list[Exchanger] = []
        self.runtime = self._make_runtime(mpyc)
        self._replace_runtime(mpyc)
        self._watch_tasks(mpyc.asyncoro)
        loop: asyncio.AbstractEventLoop = self.runtime._loop
        self._loop = loop
        loop.set_exception_handler(self._on_loop_exception)
        self._mux = Mux(
            channel,
            loop,
            peers=frozenset(range(config.m)) - {config.pid},
            coalesce=config.coalesce,
            limits=config.limits,
            fail=self.fail,
        )
        spins = [
            function.__code__ for function in (mpyc.runtime.Runtime.barrier, mpyc.runtime.Runtime.shutdown)
        ]
        wakers = Wakers(loop, spins)
        folder = os.getcwd() + os.sep
        Watch(
            self._mux,
            lambda: {each.link_pid: each.waiting for each in self._exchangers},
            wakers,
            lambda: wakers.places(folder, config.entry),
        )
        self._figures_told = 0
        self._later = wakers.later
        self._later(FIGURES_EVERY, self._tell_figures)

    def _tell_figures(self) -> None:
        """How far the program is, for whoever watches it."""
        if self._finished:
            return
        self._later(FIGURES_EVERY, self._tell_figures)
        if self._stats.messages != self._figures_told:
            self._figures_told = self._stats.messages
            self._mux.send_frame(encode_json(Kind.STATS, self._stats.to_json()))

    # -- the runtime ---------------------------------------------------------------------------------------

    def _make_runtime(self, mpyc: ModuleType) -> Any:
        bridge = self
        base: Any = mpyc.runtime.Runtime
        module = mpyc.runtime

        class AgreedRuntime(base):  # type: ignore[misc]  # MPyC has no types
            """MPyC's runtime, connected to the agreed parties."""

            closing = False

            @property
            def threshold(self) -> int:
                """As agreed."""
                return self._threshold  # type: ignore[no-any-return]

            @threshold.setter
            def threshold(self, t: int) -> None:
                bridge.check_threshold(t)
                base.threshold.fset(self, t)

            def run(self, f: Any) -> Any:
                """Run until f is done, and leave nothing unsent: the loop may stand still for long."""
                try:
                    return super().run(f)
                finally:
                    bridge.flush()

            async def start(self) -> None:
                """Connect to the agreed parties."""
                await bridge.start(self)

            async def shutdown(self) -> None:
                """Wait for all parties, and close the connections."""
                self.closing = True
                await super().shutdown()

        AgreedRuntime.__name__ = AgreedRuntime.__qualname__ = "Runtime"
        config, options = self._config, mpyc._get_arg_parser().parse_args([])
        vars(options).update(config.options)
        options.threshold = config.threshold
        options.mix32_64bit = True
        options.no_async = config.m == 1 and options.no_async  # as MPyC's setup() has it
        parties = [module.Party(pid) for pid in range(config.m)]
        return AgreedRuntime(config.pid, parties, options)

    def _replace_runtime(self, mpyc: ModuleType) -> None:
        """Put our runtime wherever `setup()` has put its own."""
        theirs = mpyc.runtime.mpc
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "mpyc":
                for attribute in ("runtime", "mpc"):
                    if getattr(module, attribute, None) is theirs:
                        setattr(module, attribute, self.runtime)

    def check_threshold(self, t: int) -> None:
        """Stop a program that gives itself another threshold than its people agreed to."""
        agreed = self._config.threshold
        if t != agreed and not self._config.allow_threshold_change:
            what = f"The program sets the threshold to {t}, but the parties agreed on {agreed}."
            self.fail(Failure("threshold", what, f"Start it with --threshold {t} to agree on that."))

    async def start(self, runtime: Any) -> None:
        """What `mpc.start()` does: one connection per party, in a new generation."""
        logging.info("Start MPyC runtime v%s", runtime.version)
        config, mux = self._config, self._mux
        if config.m == 1:
            runtime.start_time = time.time()
            return
        if mux.open:
            raise RuntimeError(
                "mpc.start() was called, but the runtime is running: call mpc.shutdown() first"
            )
        if not self._frozen:
            self._frozen = True
            gc.collect()
            gc.freeze()  # what is loaded by now stays; the collector need not walk it (performance.md)
        await mux.go.wait()
        runtime.closing = False
        connected = runtime._loop.create_future()
        for party in runtime.parties:
            party.protocol = connected if party.pid == runtime.pid else None
        exchangers = []
        for pid, transport in mux.connect().items():
            exchanger = self._exchanger(
                runtime,
                pid,
                stats=self._stats,
                limits=config.limits,
                missed=self._on_missed,
                in_prelude=self._watch_prelude,
            )
            exchangers.append(exchanger)
            transport.peer = exchanger if not config.delay else Delayed(exchanger, self._loop, config.delay)
            exchanger.connection_made(transport)
        self._exchangers = exchangers
        mux.deliver_early()
        await connected
        logging.info("All %d parties connected.", config.m)
        runtime.start_time = time.time()

    def flush(self) -> None:
        """Send what waits for the end of a loop tick that may not come soon."""
        self._mux.flush()

    # -- failures ------------------------------------------------------------------------------------------

    def _watch_tasks(self, asyncoro: Any) -> None:
        """MPyC stops the loop, or only logs, when a task of an MPyC coroutine raises; here the run ends."""
        reconcile = asyncoro._reconcile

        def checked(declared: Any, task: Any) -> None:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, Exception):
                self.raised(error, enclosing=getattr(task, "f_back", None))
            reconcile(declared, task)

        asyncoro._reconcile = checked

    def _on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not self._finished:
            self.raised(error)
        elif "task" not in context:  # MPyC, too, keeps quiet about tasks that are pending at the end
            loop.default_exception_handler(context)

    def _watch_prelude(self, exchanger: "Exchanger") -> None:
        """A part of a party's prelude has come: end the run where it stops there. It may be long."""
        if exchanger.peer_pid is not None or exchanger.prelude_heard is None:
            return
        limit = self._config.prelude_silence
        left = exchanger.prelude_heard + limit - time.monotonic()
        if left > 0:
            self._later(left, self._watch_prelude, exchanger)
        else:
            what = f"sent a part of its pid and PRSS keys, and then nothing for {limit} s"
            self.fail(Failure("peer", what, pid=exchanger.link_pid))

    def _on_missed(self, pid: int) -> None:
        """The program waits for a party that has ended. Why it did, the channel process learns and tells."""
        if pid not in self._missed:
            self._missed.add(pid)
            what = "ended its part while ours was still waiting for it"
            self._loop.call_later(GRACE, self.fail, Failure("left", what, pid=pid))

    def raised(self, error: BaseException, enclosing: FrameType | None = None) -> NoReturn:
        """End the run because the program raised `error`, in a coroutine called from `enclosing`."""
        with suppress(Exception):  # a broken repr of the program's must not keep us from ending
            show(error, enclosing)
        self._end(self._explain(error))

    def _explain(self, error: BaseException) -> Failure:
        if isinstance(error, self._codec_error) and (pid := _sender(error)) is not None:
            return Failure("peer", f"sent a value that cannot be read: {error.what}", error.why, pid)
        why = "".join(traceback.format_exception_only(error)).strip().splitlines()
        return Failure.raised(error, why[-1][:500] if why else "")

    def fail(self, failure: Failure) -> NoReturn:
        """End the run with a word on stderr."""
        subject = "" if failure.pid is None else f"Party {failure.pid} ({self._config.names[failure.pid]}) "
        with suppress(Exception):
            print(f"{subject}{failure.what} {failure.why}".rstrip(), file=sys.stderr)
        self._end(failure)

    def _end(self, failure: Failure) -> NoReturn:
        """At once, whatever else runs: the other parties must not wait."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        self._mux.finish(encode_json(Kind.FAILED, failure.to_json()), timeout=FAREWELL)
        os._exit(1)

    def finished(self, code: int) -> None:
        """The program has ended by itself. Send the last frames; nothing is sent after them."""
        self._finished = True
        last = b""
        if code == 0 and self._mux.open:  # it never called shutdown(): the parties hear that no more comes
            last = b"".join(encode(Kind.END, each.link_pid, self._mux.start) for each in self._exchangers)
        self._mux.finish(last + encode_json(Kind.STATS, self._stats.to_json()), timeout=None)


def _sender(error: BaseException) -> int | None:
    """Who sent the payload that the codec refused: `transfer()` of MPyC, which called it, knows."""
    payload = getattr(error, "payload", None)
    trace = error.__traceback__
    while trace is not None:
        values = trace.tb_frame.f_locals
        if trace.tb_frame.f_code.co_name == "transfer" and {"outdata", "my_senders"} <= values.keys():
            for pid, data in zip(values["my_senders"], values["outdata"], strict=False):
                if data is payload:
                    return int(pid)
        trace = trace.tb_next
    return None


def _import_mpyc(config: Config) -> ModuleType:
    for name in [name for name in os.environ if name.startswith("MPYC_")]:
        del os.environ[name]
    os.environ["MPYC_MIX32_64BIT"] = (
        "1"  # labels that do not depend on the platform, array shares without pickle
    )
    os.environ.update(config.settings)
    sys.argv = [config.entry]
    # MPyC would configure the root logger to write to stdout, which is the program's.
    logging.basicConfig(
        format="{asctime} {message}", style="{", level=config.log_level.upper(), stream=sys.stderr, force=True
    )
    importlib.import_module("mpyc.runtime")  # not before all of the above
    for name in ("MPYC_MIX32_64BIT", *config.settings):
        del os.environ[name]
    return sys.modules["mpyc"]
