"""A process that has the heavy libraries loaded and forks a child for every command it is told to run.

Importing torch and sentence-transformers takes many seconds; a fork of a process that has them takes none,
and the child is a real process of its own: it can be killed, limited and waited for. Requests and replies
are lines of JSON on stdin and stdout.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback


def preload() -> None:
    import pyarrow.parquet  # noqa: F401
    import sentence_transformers  # noqa: F401
    import sklearn.cluster  # noqa: F401
    import torch
    import transformers.models.llama.modeling_llama  # noqa: F401

    import describe.cli  # noqa: F401
    import describe.encoders  # noqa: F401
    import describe.jobs.describing  # noqa: F401
    import describe.jobs.projecting  # noqa: F401
    import describe.subject  # noqa: F401

    torch.set_num_threads(1)


def run(request: dict) -> int:
    """In the child: take on the request's surroundings, then be the command line."""
    os.setsid()
    # A worker of pytest-xdist ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    for name, value in request["env"].items():
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    for number, path in ((0, os.devnull), (1, request["stdout"]), (2, request["stderr"])):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, number)
        os.close(handle)
    # what the streams of the parent buffer must not be written twice
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["describe", *request["args"]]
    from describe.cli import main

    try:
        exec(request["hook"], {})  # what the test wants to be different in this process
        main()
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else int(stopped.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def answer(reply: dict) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def serve() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            reply = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                code = 71
                try:
                    code = run(request)
                finally:
                    os._exit(code)
            reply = {"pid": pid}
        answer(reply)


if __name__ == "__main__":
    preload()
    answer({"ready": os.getpid()})
    serve()
