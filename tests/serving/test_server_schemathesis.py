"""Schemathesis asks for all that ``openapi.json`` describes, and for what it does not, and checks each answer."""

import importlib.util
import subprocess
import sys

import httpx
import pytest

pytest.importorskip("fastapi")
if importlib.util.find_spec("schemathesis") is None:  # importing it would set up its plugin
    pytest.skip("schemathesis is not installed", allow_module_level=True)

from fineline.server.keys import new_key, write_keys

SERVER = """
[auth]
keys = "keys.toml"
[feedback]
url = "sqlite:///appeals.db"
"""
CONFIG = """
[parameters]
"path.model" = "tiny"
"path.version" = "0.0.1"
"path.appeal_id" = "{appeal}"

# What a value means is not in the document: names of policies and bundles, ids of verdicts and appeals.
[checks.positive_data_acceptance]
enabled = false

# "export" is taken for the id of an appeal, and none of an id's form.
[[operations]]
include-path = "/admin/feedback/export"
checks.unsupported_method.enabled = false
"""


def test_every_answer_is_as_the_document_says(start_server, tiny, tmp_path):
    secret, key = new_key("team", ["judge", "feedback", "admin"])
    write_keys(tmp_path / "keys.toml", [key])
    (tmp_path / "server.toml").write_text(SERVER)
    with start_server(tmp_path, "--bundle", tiny.bundle_fp32, "--config", "server.toml") as server:
        with httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {secret}"}) as client:
            verdict = client.post("/v1/classify", json={"input": "a"}).json()["results"][0]["verdict_id"]
            body = {"verdict_id": verdict, "expected_labels": ["insult"], "reason": "other"}
            appeal = client.post("/v1/feedback", json=body).json()["id"]
        (tmp_path / "asked.toml").write_text(CONFIG.format(appeal=appeal))
        words = ["--config-file", "asked.toml", "run", f"{server.url}/openapi.json", "--no-color"]
        words += ["--header", f"Authorization: Bearer {secret}", "--phases", "coverage,fuzzing", "--max-examples", "5"]
        words += ["--seed", "1", "--generation-deterministic", "--request-timeout", "60"]
        command = [sys.executable, "-m", "schemathesis.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout
    assert "Tested: 27" in done.stdout, done.stdout
