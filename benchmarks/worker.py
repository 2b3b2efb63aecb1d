"""The process of one contender: reads requests from stdin and writes answers to stdout, one JSON object per line.

A request is `{"do": name, ...arguments}` with the name of a public method of the contender. The answer is
`{"elapsed_s": seconds, "result": returned value}`. `build` builds the contender. `peak` returns the process's peak
memory minus its memory before `build`. A failure is answered as `{"error": reason}`.

It runs in the peer's environment, so this file imports only Python's standard library and torch.
"""

import argparse
import importlib
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import IO, Any

# The module and how its contender is loaded from a checkout.
MODULES = {
    "trencadis": "benchmarks.contenders.ours",
    "trencadis-tokenizer": "benchmarks.contenders.our_tokenizer",
    "minDALL-E": "benchmarks.contenders.mindalle",
    "DALLE-pytorch": "benchmarks.contenders.dalle_pytorch",
    "openai-DALL-E": "benchmarks.contenders.openai_dalle",
}


def main() -> None:
    """Load the contender and serve requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=list(MODULES))
    parser.add_argument("--path", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--trains", action="store_true")
    arguments = parser.parse_args()
    answers = _own_stdout()
    warnings.simplefilter("ignore")
    try:
        import torch

        torch.set_num_threads(arguments.threads)
        load = importlib.import_module(MODULES[arguments.contender]).load
        contender_type = load(arguments.path)
        if arguments.trains:
            _import_lazy_parts()
    except Exception as error:
        _answer(answers, {"error": _reason(error)})
        return
    _answer(answers, {"result": "loaded"})
    _serve(contender_type, answers)


def _own_stdout() -> IO[str]:
    """Return stdout for the answers, and redirect all other output to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def _import_lazy_parts() -> None:
    """Make torch import what it imports at an optimizer's first step, or it would count as the contender's memory."""
    import torch

    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.zeros(1)
    torch.optim.AdamW([parameter]).step()


def _serve(contender_type: Any, answers: IO[str]) -> None:
    contender: Any = None
    before_bytes = 0
    for line in sys.stdin:
        request = json.loads(line)
        work = request.pop("do")
        try:
            if work == "peak":
                _answer(answers, {"result": _status_bytes("VmHWM") - before_bytes})
                continue
            if work == "build":
                before_bytes = _status_bytes("VmRSS")
                contender, result = contender_type(**request), None
                _answer(answers, {"result": contender.settings})
                continue
            began_s = time.perf_counter()
            result = getattr(contender, work)(**request)
            _answer(answers, {"elapsed_s": time.perf_counter() - began_s, "result": result})
        except Exception as error:
            _answer(answers, {"error": _reason(error)})


def _answer(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def _status_bytes(name: str) -> int:
    """Return a size from this process's `/proc/self/status`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


if __name__ == "__main__":
    main()
