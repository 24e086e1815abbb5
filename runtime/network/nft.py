"""Run nftables transactions in this process: libnftables through ctypes, nft text in, JSON out.

Text goes in because the JSON parser of libnftables 1.0.6 knows no maps with concatenated values
and crashes on a `dnat` by such a map; whoever builds the text validates every name in it. Starting
the `nft` program costs 9 ms, a call into the library 0.1 to 1 ms. Every call is one transaction of
the kernel: all of it happens or none. Calls block; they release the GIL.
"""

from __future__ import annotations

import ctypes
import json
import threading
from functools import cache
from typing import Any

from runtime.errors import KernelRefused, Unsupported

_LIBRARY = "libnftables.so.1"
_OUTPUT_JSON, _OUTPUT_HANDLE, _OUTPUT_NUMERIC_PROTO = 1 << 4, 1 << 3, 1 << 7
_OUTPUT_TERSE = 1 << 11
_FLAGS = _OUTPUT_JSON | _OUTPUT_HANDLE | _OUTPUT_NUMERIC_PROTO


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise Unsupported(f"cannot load {_LIBRARY}: {error}", hint="install libnftables1 (nftables)") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class Nft:
    """One libnftables context, bound to the network namespace it was made in."""

    def __init__(self) -> None:
        self._lib = _library()
        self._context = ctypes.c_void_p(self._lib.nft_ctx_new(0))
        self._lock = threading.Lock()
        self._lib.nft_ctx_buffer_output(self._context)
        self._lib.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        """Free the context."""
        with self._lock:
            if self._context:
                self._lib.nft_ctx_free(self._context)
                self._context = ctypes.c_void_p()

    def run(self, commands: str, what: str, *, terse: bool = False) -> list[dict[str, Any]]:
        """Carry out `commands` in one transaction; the objects listed by a `list` command.

        `what` completes "cannot …" in the error, which quotes the library's first line; `terse`
        lists sets without their elements.
        """
        with self._lock:
            self._lib.nft_ctx_output_set_flags(self._context, _FLAGS | (_OUTPUT_TERSE if terse else 0))
            code = self._lib.nft_run_cmd_from_buffer(self._context, commands.encode())
            output = self._lib.nft_ctx_get_output_buffer(self._context) or b""
            error = self._lib.nft_ctx_get_error_buffer(self._context) or b""
        if code:
            raise KernelRefused(f"cannot {what}: {_first_line(error)}", errno=ctypes.get_errno())
        listed: list[dict[str, Any]] = json.loads(output)["nftables"] if output.strip() else []
        return listed


def _first_line(error: bytes) -> str:
    lines = error.decode(errors="replace").strip().splitlines()
    return lines[0].split("Error: ", 1)[-1] if lines else "no reason given"
