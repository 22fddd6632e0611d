"""torch.compile for the transformer: block by block, with every compilation counted.

A compiled function is traced when it is first called. Beside the kernels that come out of it, guards are kept: all that
tracing relied on, shapes, number formats, Python numbers, types of objects. A call that meets other facts is traced and
compiled once more, which takes seconds to minutes in which nothing is computed. So what matters is what changes while
running, and that is why compilations are counted here.

All blocks of Wan are the same function of other weights. Compiled by itself, a block is a small graph, and since weights are
inputs of it, all 30 or 40 blocks share it: it is made once. What swaps, skips or counts blocks stays around it, in Python.
The transformer as one graph takes as many times longer to make, is made anew for every other set of blocks that a cache or
skip-layer guidance leaves out, and gains little, since the work is in the blocks. `whole` is there to see that.

What changes inside a block from step to step (the weight of FETA, the scale of NAG, the strength of a LoRA) is a tensor, an
input like any other. As a Python number it would be a fact of the graph.

The function that is compiled is a copy, made for each model: models in one process have compilations of their own, each its
own limit, and those of a model that is gone are gone with it. Functions are compiled, not modules, so names of weights stay
as they are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch._dynamo  # torch loads it late, and its counters are read before

from wanlab.errors import SettingsError

if TYPE_CHECKING:
    from pandas import DataFrame

_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # the modes of inductor that record what runs, with its addresses


class Options(Protocol):
    """What is asked for; the settings of the group `compile` are one."""

    @property
    def backend(self) -> str: ...  # noqa: D102
    @property
    def mode(self) -> str: ...  # noqa: D102
    @property
    def dynamic(self) -> bool | None: ...  # noqa: D102
    @property
    def fullgraph(self) -> bool: ...  # noqa: D102
    @property
    def whole(self) -> bool: ...  # noqa: D102
    @property
    def recompile_limit(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Compilation:
    """A call in which something was compiled.

    `graphs` were made, `recompiles` of them as a further version of one that was there, for the reason `why`; `breaks` are
    places where tracing gave up and left a piece to Python. `seconds` is how long the call took.
    """

    graphs: int
    recompiles: int
    breaks: int
    seconds: float
    why: str


@dataclass(frozen=True)
class Compiles:
    """Compilations one after the other. `since` tells those of a run: of what is there after it, what was not there before."""

    all: tuple[Compilation, ...] = ()

    @property
    def graphs(self) -> int:
        """Graphs made, in all versions."""
        return sum(one.graphs for one in self.all)

    @property
    def recompiles(self) -> int:
        """Further versions of a graph that was there."""
        return sum(one.recompiles for one in self.all)

    @property
    def breaks(self) -> int:
        """Places where a graph had to end, because what is there cannot be traced."""
        return sum(one.breaks for one in self.all)

    @property
    def seconds(self) -> float:
        """How long the calls took in which something was compiled: the warm-up. With CUDA graphs, recording comes on top."""
        return sum(one.seconds for one in self.all)

    def since(self, before: Compiles) -> Compiles:
        """The compilations that came after `before`."""
        known = {id(one) for one in before.all}
        return Compiles(tuple(one for one in self.all if id(one) not in known))

    def facts(self) -> dict[str, float]:
        """What a log keeps: graphs, recompiles, breaks, seconds."""
        return {name: getattr(self, name) for name in ("graphs", "recompiles", "breaks", "seconds")}

    def table(self) -> DataFrame:
        """A row a call in which something was compiled: graphs, recompiles, breaks, seconds, why."""
        import pandas

        return pandas.DataFrame([vars(one) for one in self.all], columns=list(Compilation.__dataclass_fields__))


class Compiled:
    """A transformer whose blocks are compiled when they are first called, until `remove`.

    `compiles` is all that was compiled for it so far. A call that cannot be compiled raises SettingsError with the way out.
    """

    def __init__(self, transformer: Any, options: Options) -> None:
        self.options, self.compiles = options, Compiles()
        self._versions = Counter[int]()  # of the graphs, by the number of the function or piece of one that was traced
        self._named: list[str] = []  # the graphs that the present call made, as torch names them
        self._recompiles = 0
        self._backend = _backend(options)
        self._undo = ExitStack()
        functions: dict[type, Callable[..., Any]] = {}
        blocks = [*transformer.blocks, *getattr(transformer, "vace_blocks", ())]
        for module in [transformer] if options.whole else blocks:
            if type(module) not in functions:
                functions[type(module)] = self._watched(_copy(type(module).forward))
            module.forward = MethodType(functions[type(module)], module)
            self._undo.callback(module.__dict__.pop, "forward", None)
        if self._records:
            # Without it every block would be a new round, in which what the block before it made may be written over.
            hook = transformer.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
            self._undo.callback(hook.remove)

    def remove(self) -> None:
        """Give the transformer its own functions back."""
        self._undo.close()

    @property
    def at_limit(self) -> bool:
        """Whether a graph has as many versions as it may: what meets other facts from now on runs without being compiled."""
        return any(versions >= self.options.recompile_limit for versions in self._versions.values())

    @property
    def _records(self) -> bool:
        return self.options.backend == "cudagraphs" or (
            self.options.backend == "inductor" and self.options.mode in _CUDA_GRAPHS
        )

    def _watched(self, function: Any) -> Callable[..., Any]:
        """A function compiled, its compilations noted."""
        options = self.options
        compiled = torch.compile(function, backend=self._compile, dynamic=options.dynamic, fullgraph=options.fullgraph)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._named, self._recompiles = [], 0
            breaks, began = _all_breaks(), time.perf_counter()
            try:
                with torch._dynamo.config.patch(recompile_limit=options.recompile_limit):
                    out = compiled(*args, **kwargs)
            except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                if isinstance(getattr(error, "inner_exception", None), torch.OutOfMemoryError):
                    raise error.inner_exception from None  # type: ignore[union-attr]
                raise SettingsError(_sentence(error, options)) from None
            if self._named:
                self._note(_all_breaks() - breaks, time.perf_counter() - began)
            # the next call of a recorded graph writes where this one wrote
            return _cloned(out) if self._records and options.whole else out

        return call

    def _compile(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        """What torch calls when it has traced something."""
        traced = torch._guards.CompileContext.current_compile_id()
        if traced is not None and traced.frame_id is not None:
            self._recompiles += self._versions[traced.frame_id] > 0
            self._versions[traced.frame_id] += 1
        self._named.append(str(traced))
        return self._backend(graph, inputs)

    def _note(self, breaks: int, seconds: float) -> None:
        metrics = torch._dynamo.utils.get_compilation_metrics()
        reasons = [one.recompile_reason for one in metrics if str(one.compile_id) in self._named and one.recompile_reason]
        why = _short(reasons[0]) if reasons else ""
        note = Compilation(len(self._named), self._recompiles, breaks, seconds, why)
        self.compiles = Compiles((*self.compiles.all, note))


def conflicts(settings: Any) -> str:
    """Why these model settings cannot be compiled on their device, in a sentence; "" if they can, or do not ask for it."""
    options, device = settings.compile, settings.load_device
    if options is None:
        return ""
    if options.backend != "inductor" and options.mode != "default":
        return f"compile.mode is {options.mode!r}; only inductor has modes, and compile.backend is {options.backend!r}."
    if options.backend == "cudagraphs" and not device.startswith("cuda"):
        return f"compile.backend is 'cudagraphs', and load_device {device!r} has none; take inductor."
    if "e4m3" in settings.quantization and options.backend == "inductor" and device.startswith("cuda"):
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 9):
            return (
                f"quantization is {settings.quantization!r}, which cannot be compiled for a GPU of compute capability "
                f"{'.'.join(map(str, capability))} (from 8.9 on it can); take an e5m2 kind, or turn compile off."
            )
    return ""


def _copy(function: Any) -> Any:
    """The same function once more: torch keeps compilations by function."""
    code = function.__code__.replace()
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _backend(options: Options) -> Callable[..., Any]:
    """What makes kernels of a graph."""
    if options.backend != "inductor":
        return torch._dynamo.lookup_backend(options.backend)
    from torch._inductor import list_mode_options
    from torch._inductor.compile_fx import compile_fx

    patches = list_mode_options(options.mode, options.dynamic)
    return lambda graph, inputs: compile_fx(graph, inputs, config_patches=patches)


def _all_breaks() -> int:
    return sum(torch._dynamo.utils.counters["graph_break"].values())


def _cloned(out: Any) -> Any:
    return torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, out)


def _short(reason: str) -> str:
    """Why a graph was made once more, without torch's number of the version that did not fit."""
    first = reason.strip().splitlines()[0]
    return first.partition(": ")[2] or first


def _sentence(error: Exception, options: Options) -> str:
    """What a compilation failed of, and the way out."""
    cause = getattr(error, "inner_exception", None) or error
    said = (str(cause).strip() or type(cause).__name__).splitlines()[0].rstrip(".")
    if isinstance(error, torch._dynamo.exc.FailOnRecompileLimitHit):
        return (
            f"compile.recompile_limit is {options.recompile_limit}, and one more version is needed, which compile.fullgraph "
            "does not leave to Python; raise the limit, or take fullgraph off."
        )
    if options.fullgraph and isinstance(error, torch._dynamo.exc.Unsupported):
        return f"compile.fullgraph is True, and something cannot be part of a graph ({said}); take fullgraph off."
    return f"compile.backend is {options.backend!r}, which failed here ({type(cause).__name__}: {said}); turn compile off."
