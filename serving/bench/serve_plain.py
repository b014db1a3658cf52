"""The handler that people write first: one model, one call a request, no batching.

python serving/bench/serve_plain.py BUNDLE PORT THREADS
"""

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from fineline import Classifier


class Asked(BaseModel):
    """Body of ``POST /v1/classify``."""

    input: list[str]


def create_plain(classifier: Classifier) -> FastAPI:
    """The app. FastAPI runs its handler in threads, so several calls of the model may run at once."""
    app = FastAPI()

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/v1/classify")
    def classify(asked: Asked) -> dict[str, Any]:
        return {"results": [verdict.as_dict() for verdict in classifier.classify(asked.input)]}

    return app


if __name__ == "__main__":
    bundle, port, threads = sys.argv[1:]
    model = Classifier.load(Path(bundle), threads=int(threads))
    model.classify(["warm"])
    uvicorn.run(create_plain(model), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
