"""The Open Inference Protocol v2: metadata, tensors in JSON and in bytes, its own error object."""

import json
import struct

import numpy as np
import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from fineline import Classifier
from fineline.bundle import HASHED, META, write_bundle
from fineline.server import inference_v2
from fineline.server.models import Loaded, Model
from fineline.server.schemas import InferResponse
from fineline.server.settings import LimitSettings, ServerSettings
from fineline.server.tensors import read_texts

MARKER = "zebrawhisper"
TEXTS = ["tell anyone", "他说要打断你的手 😀", ""]
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def client(make_app, classifier_fp32):
    with TestClient(make_app(classifier_fp32, limits=LimitSettings(max_inputs=100))) as client:
        yield client


def tensor(data, name="text", **more):
    return {"name": name, "shape": [len(data)], "datatype": "BYTES", "data": data} | more


def packed(texts):
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in (text.encode() for text in texts))


def send_binary(client, head, tail):
    raw = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(raw)), "content-type": "application/octet-stream"}
    return client.post(INFER, content=raw + tail, headers=headers)


def by_name(response):
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def refused(response, status):
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"} and isinstance(response.json()["error"], str)
    assert MARKER not in response.text
    return response.json()["error"]


def test_server_and_model_describe_themselves(client, classifier):
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    for prefix in ("/v2/models/tiny", "/v2/models/tiny/versions/0.0.1"):
        model = client.get(prefix).json()
        assert set(model) == {"name", "versions", "platform", "inputs", "outputs"}
        assert (model["name"], model["versions"]) == ("tiny", ["0.0.1"])
        assert model["outputs"][0]["shape"] == [-1, len(classifier.labels)]
        assert client.get(f"{prefix}/ready").json() == {"name": "tiny", "ready": True}


@pytest.mark.parametrize("path", [f"/v2/models/{MARKER}", "/v2/models/tiny/versions/9", "/v2/nothing"])
def test_what_is_not_there_is_not_found(client, path):
    refused(client.get(path), 404)


def test_an_impossible_name_is_refused(client):
    refused(client.get(f"/v2/models/{MARKER}%20{MARKER}"), 422)


def test_outputs_are_the_classifiers(client, post, classifier_fp32):
    contexts = ["Why?", None, ""]
    body = {"id": "7", "inputs": [tensor(TEXTS), tensor(contexts, "context")], "parameters": {"policy": "minors"}}
    response = post(client, INFER, body)
    InferResponse.model_validate(response.json())
    assert (response.json()["id"], response.json()["model_version"]) == ("7", "0.0.1")
    outputs, verdicts = by_name(response), classifier_fp32.classify(TEXTS, contexts, policy="minors")
    labels = list(classifier_fp32.labels)
    assert outputs["labels"]["data"] == labels
    assert outputs["probabilities"]["shape"] == outputs["flagged"]["shape"] == [3, len(labels)]
    expected = [v.scores[x] for v in verdicts for x in labels]
    assert outputs["probabilities"]["data"] == pytest.approx(expected, abs=1e-5)
    assert outputs["flagged"]["data"] == [x in v.flagged for v in verdicts for x in labels]
    assert outputs["action"]["data"] == [str(v.action) for v in verdicts]


def test_only_the_outputs_that_are_asked_for_come(client, post):
    body = {"inputs": [tensor([["tell"], ["anyone"]], shape=[2, 1])], "outputs": [{"name": "action"}]}
    assert set(by_name(post(client, INFER, body))) == {"action"}
    assert set(by_name(post(client, "/v2/models/tiny/versions/0.0.1/infer", body))) == {"action"}


def test_binary_tensors_go_in_and_out(client, post, classifier_fp32):
    text, context = packed(TEXTS), packed(["Why?", "", ""])
    head = {
        "inputs": [
            {"name": "text", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}},
            {"name": "context", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(context)}},
        ],
        "outputs": [
            {"name": "probabilities", "parameters": {"binary_data": True}},
            {"name": "action", "parameters": {"binary_data": True}},
            {"name": "flagged", "parameters": {"binary_data": True}},
            {"name": "labels"},
        ],
    }
    response = send_binary(client, head, text + context)
    assert response.status_code == 200
    size = int(response.headers["inference-header-content-length"])
    answer, rest = json.loads(response.content[:size]), response.content[size:]
    sizes = [output["parameters"]["binary_data_size"] for output in answer["outputs"][:3]]
    verdicts = classifier_fp32.classify(TEXTS, ["Why?", None, None])
    found = np.frombuffer(rest[: sizes[0]], dtype="<f4").reshape(3, -1)
    np.testing.assert_allclose(found, [list(v.scores.values()) for v in verdicts], atol=1e-5)
    assert rest[sizes[0] : sizes[0] + sizes[1]] == packed([str(v.action) for v in verdicts])
    flags = np.frombuffer(rest[-sizes[2] :], dtype=np.bool_).reshape(3, -1)
    assert flags.tolist() == [[x in v.flagged for x in v.scores] for v in verdicts]
    assert "data" in answer["outputs"][3]


def test_all_outputs_may_be_binary(client, post):
    response = post(client, INFER, {"inputs": [tensor(["a"])], "parameters": {"binary_data_output": True}})
    size = int(response.headers["inference-header-content-length"])
    assert all("data" not in output for output in json.loads(response.content[:size])["outputs"])


@pytest.mark.parametrize(
    "body",
    [
        b"{" + MARKER.encode(),
        {},
        {"inputs": []},
        {"inputs": [tensor(["a"], "context")]},
        {"inputs": [tensor(["a"]), tensor(["a"])]},
        {"inputs": [tensor(["a", "b"], shape=[3])]},
        {"inputs": [tensor(["a"], shape=[])]},
        {"inputs": [tensor(["a"], shape=[1, 1, 1])]},
        {"inputs": [tensor(["a", "b", "c"], shape=[-1, -3])]},
        {"inputs": [tensor(["a", "b", "c", "d"], shape=[2, 2])]},
        {"inputs": [tensor([7])]},
        {"inputs": [tensor(["a"], datatype="FP32")]},
        {"inputs": [tensor(["a"], MARKER)]},
        {"inputs": [tensor(["a"])], "outputs": [{"name": MARKER}]},
        {"inputs": [tensor(["a"])], "parameters": {"policy": [MARKER]}},
        {"inputs": [tensor(["a"])], "parameters": {"policy": MARKER}},
        {"inputs": [tensor(["a", "b"]), tensor(["c"], "context")]},
        {"inputs": [tensor([])]},
        {"inputs": [tensor(["a"])], MARKER: 1},
        {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]},
    ],
)
def test_a_bad_request_is_refused_in_the_protocols_form(client, post, body):
    response = post(client, INFER, body)
    assert response.status_code in (400, 422)
    refused(response, response.status_code)


def test_too_many_texts_are_refused_in_either_form(client, post):
    refused(post(client, INFER, {"inputs": [tensor(["a"] * 101)]}), 422)
    refused(post(client, INFER, {"inputs": [tensor([["a"]] * 101, shape=[101, 1])]}), 422)
    raw = packed(["a"] * 101)
    one = {"name": "text", "shape": [101], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    refused(send_binary(client, {"inputs": [one]}, raw), 422)


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (packed(["ab"]), 5),
        (packed(["ab"]), 7),
        (packed(["ab"]), -1),
        (packed(["ab"]), True),
        (packed(["ab"]), "6"),
        (b"\x01\x00", 2),
        (b"\xff\xff\xff\xffab", 6),
        (b"\x02\x00\x00\x00\xff\xfe", 6),
    ],
)
def test_broken_bytes_are_refused(client, raw, size):
    one = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    refused(send_binary(client, {"inputs": [one]}, raw), 400)


def test_bytes_that_no_input_claims_are_refused(client):
    refused(send_binary(client, {"inputs": [tensor(["a"])]}, b"more"), 400)


@pytest.mark.parametrize("length", ["99999", "-1", MARKER, ""])
def test_a_wrong_length_of_the_json_is_refused(client, post, length):
    body = {"inputs": [tensor(["a"])]}
    refused(post(client, INFER, body, inference_header_content_length=length), 400)


def test_an_answer_names_the_model_that_gave_it(make_app, post, classifier_fp32, tiny, tmp_path, monkeypatch):
    """Another model takes the place of the first between a request's arrival and its turn."""
    meta = json.loads((tiny.bundle_fp32 / META).read_text(encoding="utf-8"))
    entries = {name: value for name, value in meta.items() if name not in ("schema", "files", "digest")}
    files = {name: tiny.bundle_fp32 / name for name in HASHED}
    write_bundle(tmp_path / "two", files, "card", entries | {"version": "0.0.2"})
    newer = Classifier.load(tmp_path / "two", threads=1)
    app = make_app(classifier_fp32)
    slot = app.state.service.slot

    def swap(*arguments):
        slot._model = other
        return read_texts(*arguments)

    with TestClient(app) as client:
        first = slot._model
        other = Model(Loaded(classifier=newer, engines=(newer.engine,), golden_gap=0.0), ServerSettings(), slot.metrics)
        try:
            monkeypatch.setattr(inference_v2, "read_texts", swap)
            assert post(client, INFER, {"inputs": [tensor(["a"])]}).json()["model_version"] == "0.0.2"
            slot._model = first
            refused(post(client, "/v2/models/tiny/versions/0.0.1/infer", {"inputs": [tensor(["a"])]}), 404)
        finally:
            slot._model = first
            other.batcher.close()


def test_an_id_of_any_characters_comes_back(client, post):
    response = client.post(
        "/v2/models/tiny/infer",
        content=json.dumps({"id": "\ud800", "inputs": [tensor(["a"])]}),
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200
    assert json.loads(response.content)["id"] == "\ud800"


def test_what_was_begun_before_the_stop_is_answered(make_app, post, classifier_fp32):
    app = make_app(classifier_fp32)
    with TestClient(app) as client:
        service = app.state.service
        use = service.slot.use

        def used():
            service.drain.stopping = True  # after the edge let the request in
            return use()

        service.slot.use = used
        assert post(client, "/v2/models/tiny/infer", {"inputs": [tensor(["a"])]}).status_code == 200
