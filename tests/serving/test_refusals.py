"""Every kind of wrong request has an answer in the API's shape."""

import hashlib
import io
import random
import socket
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from tests.serving.conftest import Running, Start
from tests.serving.test_official_client import png

GENERATIONS = "/v1/images/generations"


@pytest.mark.parametrize(
    ("options", "param", "code"),
    [
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"size": "1024x1536"}, "size", "invalid_value"),
        ({"prompt": "x" * 5000}, "prompt", "invalid_value"),
        ({"response_format": "gif"}, "response_format", "invalid_value"),
        ({"extra_body": {"complexity": "low"}}, "complexity", "unsupported_parameter"),
        ({"extra_body": {"seed": -1}}, "seed", "invalid_value"),
        ({"extra_body": {"seed": 2**63 - 1}, "n": 2}, "seed", "invalid_value"),
        ({"extra_body": {"temperature": 0}}, "temperature", "invalid_value"),
        ({"extra_body": {"top_p": 2}}, "top_p", "invalid_value"),
        ({"extra_body": {"candidates": 1}, "n": 2}, "candidates", "invalid_value"),
        ({"extra_body": {"candidates": 100_000}}, "candidates", "invalid_value"),
        ({"extra_body": {"guidence_scale": 3}}, "guidence_scale", "unknown_parameter"),
        ({"response_format": "url", "stream": True}, "response_format", "invalid_value"),
    ],
)
def test_a_wrong_parameter_is_named(server: Running, options: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        server.client().images.generate(**{"prompt": "x", **options})
    body = caught.value.body
    assert isinstance(body, dict)
    assert body.keys() == {"message", "type", "param", "code"}
    assert (body["param"], body["code"], body["type"]) == (param, code, "invalid_request_error")
    assert caught.value.request_id


def test_an_unknown_model_and_a_missing_prompt(server: Running) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        server.client().images.generate(prompt="x", model="dall-e-9")
    assert caught.value.code == "model_not_found"
    missing = httpx2.post(server.url + GENERATIONS, json={})
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "missing_required_parameter")


@pytest.mark.parametrize(
    ("files", "param"),
    [
        ({"image": png()}, "mask"),
        ({"image": b"GIF89a"}, "image"),
        ({"image": png()[:60]}, "image"),
        ({"image": png(), "mask": png(size=(16, 16))}, "mask"),
        ({"image": png(size=(5000, 4000), mode="1", colour=0)}, "image"),
        ({"image": b"\x89PNG\r\n\x1a\n" + bytes(5 * 2**20)}, "image"),
        ({"mask": png()}, "image"),
    ],
)
def test_a_wrong_picture_is_named(server: Running, files: dict[str, bytes], param: str) -> None:
    parts = {name: ("upload", content, "application/octet-stream") for name, content in files.items()}
    answer = httpx2.post(f"{server.url}/v1/images/edits", data={"prompt": "x"}, files=parts)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", GENERATIONS, {}, 405),
        ("POST", GENERATIONS, {"content": b"{"}, 400),
        ("POST", GENERATIONS, {"content": b"[" * 100_000}, 400),
        ("POST", GENERATIONS, {"content": b'{"prompt": "\\ud800"}'}, 400),
        ("POST", GENERATIONS, {"content": b'{"prompt": "x", "temperature": NaN}'}, 400),
        ("POST", GENERATIONS, {"json": {"prompt": "x", "n": "2"}}, 400),
        ("POST", GENERATIONS, {"data": {"prompt": "x"}}, 400),
        ("POST", "/v1/images/edits", {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400),
        ("POST", "/v1/images/variations", {"json": {}}, 400),
        ("POST", GENERATIONS, {"content": bytes(17 * 2**20)}, 413),
    ],
)
def test_a_wrong_request_has_an_answer_in_the_same_shape(
    server: Running, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    answer = httpx2.request(method, server.url + path, timeout=60, **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


def test_keys_and_rate_limits(start: Start, tiny: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text(f"# keys\n{hashlib.sha256(b'from-file').hexdigest()}  -\n")
    options = ("--model", str(tiny), "--keys-file", str(keys), "--rate-limit", "2")
    server = start(*options, TRENCADIS_API_KEYS="from-environment, other")
    for key in ("wrong", "from-fil", "from-file2", hashlib.sha256(b"from-file").hexdigest()):
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client(key).images.generate(prompt="x")
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            server.client(key).models.list()
    assert httpx2.post(server.url + GENERATIONS, json={"prompt": "x"}).status_code == 401
    for key in ("from-file", "from-environment"):
        for _ in range(2):
            server.client(key).images.generate(prompt="a secret prompt")
        with pytest.raises(openai.RateLimitError) as limited:
            server.client(key).images.generate(prompt="x")
        assert limited.value.code == "rate_limit_exceeded"
        assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
    assert server.stop() == 0
    log = server.log.read_text()
    assert not [word for word in ("from-file", "from-environment", "secret") if word in log]
    assert "POST /v1/images/generations 401" in log


def test_malformed_requests_leave_the_server_alive(server: Running) -> None:
    address = httpx2.URL(server.url)
    choices = random.Random(0)
    whole = b'POST /v1/images/generations HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{"prompt": "x"}'
    for _ in range(200):
        raw = bytearray(whole)
        for _ in range(choices.randint(1, 12)):
            raw[choices.randrange(len(raw))] = choices.randrange(256)
        with socket.create_connection((address.host, address.port or 80), timeout=20) as connection:
            connection.sendall(raw[: choices.randint(1, len(raw))])
            connection.shutdown(socket.SHUT_WR)
    assert httpx2.get(f"{server.url}/health").json() == {"status": "ok"}
    assert server.client().images.generate(prompt="x").data


def test_other_formats_are_answered(server: Running) -> None:
    for output_format in ("jpeg", "webp"):
        body = {"prompt": "x", "output_format": output_format, "output_compression": 50, "response_format": "url"}
        url = httpx2.post(server.url + GENERATIONS, json=body).json()["data"][0]["url"]
        assert (Image.open(io.BytesIO(httpx2.get(url).content)).format or "").lower() == output_format
