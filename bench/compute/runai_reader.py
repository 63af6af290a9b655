"""`python -m bench.compute.runai_reader URI`: reads the object by runai-model-streamer once for each line of its input.

A process of its own: its library takes endpoint and credentials from the environment, and what it holds is its own.
It says `ready` before it waits for a line, and how many bytes of tensors it was given once it has them, in memory of
the streamer's own.
"""

import sys

from runai_model_streamer import SafetensorsStreamer


def main() -> None:
    uri = sys.argv[1]
    _tell("ready")
    while sys.stdin.readline():
        with SafetensorsStreamer() as streamer:
            streamer.stream_file(uri)
            size = sum(tensor.nbytes for _, tensor in streamer.get_tensors())
        _tell(size)
        _tell("ready")


def _tell(what: object) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    main()
