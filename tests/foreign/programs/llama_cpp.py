"""Serves a model by llama.cpp's own server: `python llama_cpp.py FILE.gguf PORT`. Needs xllamacpp. Ends with SIGTERM."""

from __future__ import annotations

import signal
import sys

import xllamacpp  # type: ignore[import-not-found]

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.model_alias = {"tiny-random"}
parameters.hostnames = ["127.0.0.1"]
parameters.port = int(sys.argv[2])
parameters.n_ctx = 16_384
parameters.n_parallel = 2
parameters.cpuparams.n_threads = 1
parameters.endpoint_metrics = True
parameters.use_jinja = True
server = xllamacpp.Server(parameters)
signal.sigwait([signal.SIGTERM, signal.SIGINT])
