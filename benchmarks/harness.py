"""Times and memory of cases that take turns: a process for each case, ratios round by round, true peak memory."""

import contextlib
import ctypes
import dataclasses
import gc
import importlib
import math
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable
from typing import Any

SHORTEST = 0.02  # seconds: shorter calls are repeated within a round until they take as long


@dataclasses.dataclass(frozen=True)
class Case:
    """One implementation, measured in a process of its own."""

    name: str
    backend: str  # of Keras; cases of one backend take turns
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # what the subject's `prepare` needs to know
    growth: bool = False  # whether it is measured at the sizes of the subject's `growth`, too
    group: str = ""  # its name, if only some cases of a backend take turns, such as those that fit into memory together


@dataclasses.dataclass(frozen=True)
class Bound:
    """What a case must reach.

    Attributes:
        case: Its name.
        at_most: The bound.
        peer: The name of the case that it is compared with; "" for memory in units of `Prepared.unit`.
        measure: "time" and "memory" are ratios to the peer, "beyond" the ratio of what memory is taken beyond one unit,
            "seconds" the difference from the peer; "memory" without a peer is in units.
    """

    case: str
    at_most: float
    peer: str = ""
    measure: str = "time"


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a script of this folder measures.

    Attributes:
        title: A few words.
        about: What is measured, for the page.
        prepare: Its function ``prepare(case, **size) -> Prepared``; raises ImportError where a package is missing.
        size, quick: Keyword arguments of `prepare`, in full and for a trial of whether it runs.
        cases: What takes turns.
        bounds: What must hold at `size`.
        growth: A keyword of `size` to the values at which the cases marked so are measured.
        unit: What memory is counted in; "" measures none.
        together: Whether cases of all backends take turns, rather than those of each backend.
        notes: Where the time of what misses its bound goes, and what it cannot fall below, for the page.
    """

    title: str
    about: str
    prepare: Callable[..., "Prepared"]
    size: dict[str, Any]
    quick: dict[str, Any]
    cases: tuple[Case, ...]
    bounds: tuple[Bound, ...] = ()
    growth: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    unit: str = ""
    together: bool = False
    notes: str = ""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A case that is ready to run.

    Attributes:
        call: Does the work and waits for it. What it returns is released before memory is looked at.
        unit: Bytes of the unit of memory.
        facts: Numbers that its result must be compared by.
    """

    call: Callable[[], Any]
    unit: int = 0
    facts: Callable[[Any], dict[str, float]] = lambda _: {}


def memory_status(field: str) -> int:
    """A field of /proc/self/status in bytes, such as VmHWM, the most memory resident so far."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(field + ":"))


def peak_memory(call: Callable[[], Any]) -> int:
    """Bytes by which the resident memory rises while `call` runs, by the kernel's own high-water mark."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # glibc's: gives back what it keeps of freed arrays
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # sets the high-water mark to what is resident now
    before = memory_status("VmRSS")
    call()
    return memory_status("VmHWM") - before


def worker(pipe: Any, module: str, case: Case, size: dict[str, Any], device: str) -> None:
    """Prepares a case, reports its memory and facts, then times it once for each request."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # where backends write their start-up notes
    try:
        backends = importlib.import_module("benchmarks.backends")
        backends.start(case.backend, device)
        prepared = importlib.import_module(module).SUBJECT.prepare(case, **size)
        facts = prepared.facts(prepared.call())  # the first call compiles
        start = time.perf_counter()
        prepared.call()
        repeats = max(1, math.ceil(SHORTEST / (time.perf_counter() - start)))
        memory = None
        if prepared.unit:
            held = backends.occupy(prepared.unit) if device == "cpu" else []
            memory = backends.peak_memory(prepared.call) / prepared.unit
            del held
    except ImportError as error:
        is_ours = (error.name or "").partition(".")[0] in ("keras_ls", "demos", "benchmarks")
        pipe.send({"error": traceback.format_exc()} if is_ours else {"missing": str(error)})
        return
    except Exception:
        pipe.send({"error": traceback.format_exc()})
        return
    pipe.send({"memory": memory, "facts": facts})
    while pipe.recv():
        start = time.perf_counter()
        for _ in range(repeats):
            prepared.call()
        pipe.send((time.perf_counter() - start) / repeats)


def take_turns(module: str, cases: list[Case], size: dict[str, Any], device: str, rounds: int) -> dict[str, Any]:
    """Results of cases by their names: "seconds" of each round, "memory" and "facts", or "missing" with the reason."""
    context = multiprocessing.get_context("spawn")
    pipes, results = {}, {}
    for case in cases:
        pipe, other = context.Pipe()
        os.environ["KERAS_BACKEND"] = case.backend
        process = context.Process(target=worker, args=(other, module, case, size, device), daemon=True)
        process.start()
        other.close()
        try:
            results[case.name] = pipe.recv()
        except EOFError:
            raise RuntimeError(f"The process of {case.name} ended, perhaps for want of memory.") from None
        if "error" in results[case.name]:
            raise RuntimeError(f"{case.name} failed:\n{results[case.name]['error']}")
        if "missing" in results[case.name]:
            print(f"  {case.name}: left out, {results[case.name]['missing']}", flush=True)
        else:
            pipes[case.name] = pipe
            results[case.name]["seconds"] = []
    names = list(pipes)
    for number in range(rounds):
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            pipes[name].send(True)
            results[name]["seconds"].append(pipes[name].recv())
    for pipe in pipes.values():
        pipe.send(False)
    return results


def compare(bound: Bound, results: dict[str, Any]) -> float | None:
    """The number that a bound is about; None if a case was left out."""
    case, peer = results.get(bound.case, {}), results.get(bound.peer, {})
    if "seconds" not in case or (bound.peer and "seconds" not in peer):
        return None
    if bound.measure == "memory":
        return case["memory"] / peer["memory"] if bound.peer else case["memory"]
    if bound.measure == "beyond":
        return (case["memory"] - 1.0) / (peer["memory"] - 1.0)
    pairs = list(zip(case["seconds"], peer["seconds"], strict=True))
    if bound.measure == "seconds":
        return statistics.median(a - b for a, b in pairs)
    return statistics.median(a / b for a, b in pairs)


def measure(name: str, device: str, quick: bool, rounds: int) -> dict[str, Any]:
    """All that a subject's file holds: cases, bounds with what was reached, growth."""
    module = f"benchmarks.{name}"
    subject: Subject = importlib.import_module(module).SUBJECT
    size = subject.quick if quick else subject.size
    results: dict[str, Any] = {}
    groups: dict[str, list[Case]] = {}
    for case in subject.cases:
        groups.setdefault("all backends" if subject.together else case.group or case.backend, []).append(case)
    for group, cases in groups.items():
        print(f"{subject.title}, {group}: {len(cases)} cases, {rounds} rounds", flush=True)
        results |= take_turns(module, cases, size, device, rounds)
    bounds = [{**dataclasses.asdict(bound), "reached": compare(bound, results)} for bound in subject.bounds]
    growth = []
    for keyword, values in ({} if quick else subject.growth).items():
        for case in (case for case in subject.cases if case.growth and "seconds" in results[case.name]):
            for value in values:
                grown = take_turns(module, [case], {**size, keyword: value}, device, 3)[case.name]
                point = {"case": case.name, "size": keyword, "value": value, "memory": grown["memory"]}
                growth.append({**point, "seconds": statistics.median(grown["seconds"])})
    return {"size": size, "rounds": rounds, "cases": results, "bounds": bounds, "growth": growth}
