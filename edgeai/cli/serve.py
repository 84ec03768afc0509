"""`edgeai serve`: models behind HTTP."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgeai.bundle import load_bundle
from edgeai.cli.host import this_host
from edgeai.console import print_json, print_note
from edgeai.errors import EdgeError, UsageError
from edgeai.serve.settings import ServeSettings, read_token


def serve_models(
    bundles: list[str],
    *,
    host: str,
    port: int,
    token_file: Path | None,
    engine: str | None,
    threads: int,
    workers: int,
    queue: int,
    max_bytes: int,
    batch: int,
    verify: bool,
    json_output: bool,
) -> int:
    """Serve until SIGTERM or Ctrl-C, which let the requests that were taken end. Says once that it is ready, and where."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("edgeai.sources").setLevel(
        logging.ERROR
    )  # what is odd about a client's clip is no news here
    settings = ServeSettings(
        host=host,
        port=port,
        token=None if token_file is None else read_token(token_file),
        engine=engine,
        engine_host=replace(this_host(verify=verify), max_batch=batch),
        threads=threads,
        workers=workers,
        queue=queue,
        max_bytes=max_bytes,
    )
    try:
        from edgeai.serve.server import open_socket, serve, url_of
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("edgeai"):
            raise
        raise EdgeError(
            f"serving needs {error.name}, which is not installed", next_step="pip install 'edgeai[serve]'"
        ) from None
    from edgeai.serve.model import ServedModel

    loaded = [load_bundle(where) for where in bundles]
    names = [bundle.name for bundle in loaded]
    if len(set(names)) != len(names):
        raise UsageError(f"two bundles have the same name: {', '.join(sorted(names))}")
    with ExitStack() as stack:
        opened = stack.enter_context(open_socket(settings))
        models = []
        for bundle in loaded:
            models.append(ServedModel(bundle, settings))
            stack.callback(models[-1].close)
        url = url_of(opened)

        def tell() -> None:
            if json_output:
                print_json({"url": url, "models": names, "token": settings.token is not None})
            else:
                print_note(f"serving {', '.join(names)} at {url}; Ctrl-C ends")

        serve(models, settings, opened, tell)
    return 0
