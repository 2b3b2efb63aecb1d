"""The official client, unmodified, against a real server."""

import asyncio
import base64
import io
import math
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from PIL import Image

from tests.serving.conftest import Running, Start
from trencadis import DALLE
from trencadis.cli import main
from trencadis.drawn import read_record


def opened(b64_json: str | None) -> Image.Image:
    assert b64_json is not None
    return Image.open(io.BytesIO(base64.b64decode(b64_json)))


def png(mode: str = "RGB", size: tuple[int, int] = (32, 32), colour: Any = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("n", [1, 10])
def test_generate_answers_the_pictures_that_their_seeds_give(server: Running, tiny: Path, n: int) -> None:
    extra = {"seed": 7, "temperature": 1.5, "top_p": 0.9, "guidance_scale": 2.0}
    answer = server.client().images.generate(prompt="a red heart", n=n, extra_body=extra)
    model = DALLE.from_pretrained(tiny)
    alone = model.generate("a red heart", candidates=n, keep=n, seed=7, temperature=1.5, top_p=0.9, guidance_scale=2.0)
    assert answer.data is not None
    assert [opened(each.b64_json).tobytes() for each in answer.data] == [image.tobytes() for image in alone.images]
    assert [read_record(opened(each.b64_json)) for each in answer.data] == alone.records
    assert answer.usage is not None
    assert answer.usage.output_tokens == n * 16
    assert (answer.size, answer.output_format) == ("16x16", "png")


def test_a_url_needs_no_key_and_only_its_name(server: Running) -> None:
    answer = server.client().images.generate(prompt="x", response_format="url", size="256x256", output_format="webp")
    assert answer.data is not None
    assert answer.data[0].url is not None
    assert answer.data[0].b64_json is None
    found = httpx2.get(answer.data[0].url)
    picture = Image.open(io.BytesIO(found.content))
    assert (found.headers["content-type"], picture.format, picture.size) == ("image/webp", "WEBP", (256, 256))
    assert httpx2.get(f"{server.url}/pictures/other.png").json()["error"]["code"] == "not_found"


def test_a_stream_has_partial_pictures_and_then_each_picture(server: Running) -> None:
    with server.client().images.generate(
        prompt="x", n=2, stream=True, partial_images=3, extra_body={"seed": 5}
    ) as stream:
        events = list(stream)
    partials = [event for event in events if event.type == "image_generation.partial_image"]
    completed = [event for event in events if event.type == "image_generation.completed"]
    assert sorted(event.partial_image_index for event in partials) == [0, 0, 1, 1, 2, 2]
    assert events[-2:] == completed
    assert completed[0].usage.output_tokens == 32
    alone = server.client().images.generate(prompt="x", n=2, extra_body={"seed": 5})
    assert alone.data is not None
    assert [event.b64_json for event in completed] == [each.b64_json for each in alone.data]
    assert opened(partials[0].b64_json).size == (16, 16)


def test_edits_draw_the_transparent_part_anew(server: Running) -> None:
    mask = Image.new("RGBA", (32, 32), "black")
    mask.paste((0, 0, 0, 0), (0, 16, 32, 32))
    buffer = io.BytesIO()
    mask.save(buffer, "PNG")
    client = server.client()
    answers = [
        client.images.edit(image=png(), mask=buffer.getvalue(), prompt="x", n=2, extra_body={"seed": 3}),
        client.images.edit(image=[png()], prompt="x", n=2, extra_body={"seed": 3, "keep_rows": 2}),
        client.images.edit(image=io.BytesIO(_see_through(mask)), prompt="x", n=2, extra_body={"seed": 3}),
    ]
    data = [answer.data for answer in answers if answer.data is not None]
    tokens = [[read_record(opened(each.b64_json)).image for each in own] for own in data]
    assert [each.kept_tokens[0][0] for own in tokens for each in own if each is not None] == [0] * 6
    assert all(len(each.kept_tokens[0][1]) == 8 for own in tokens for each in own if each is not None)
    pictures = [[opened(each.b64_json).tobytes() for each in own] for own in data]
    assert pictures[0] == pictures[1]
    streamed = client.images.edit(
        image=png(), prompt="x", stream=True, partial_images=1, extra_body={"keep_rows": 1, "seed": 3}
    )
    assert [event.type for event in streamed] == ["image_edit.partial_image", "image_edit.completed"]


def _see_through(mask: Image.Image) -> bytes:
    image = Image.new("RGBA", (32, 32), "red")
    image.putalpha(mask.getchannel("A"))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_edits_as_json_take_data_urls_only(server: Running) -> None:
    url = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"prompt": "x", "images": [{"image_url": url}], "keep_rows": 2, "seed": 1}
    answer = httpx2.post(f"{server.url}/v1/images/edits", json=body)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 1
    body["images"] = [{"image_url": "http://127.0.0.1/secret"}]
    refused = httpx2.post(f"{server.url}/v1/images/edits", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "images")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_variations_keep_the_upper_half(server: Running) -> None:
    answer = server.client().images.create_variation(image=png(), n=2, size="256x256")
    assert answer.data is not None
    assert [opened(each.b64_json).size for each in answer.data] == [(256, 256)] * 2
    record = read_record(opened(answer.data[0].b64_json))
    assert record.image is not None
    assert record.image.keep_rows == 2


def test_models(server: Running) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "trencadis"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("a/b")


def test_the_async_client(server: Running) -> None:
    async def ask() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
            asked = [client.images.generate(prompt="x", extra_body={"seed": seed}) for seed in range(20)]
            answers = await asyncio.gather(*asked)
            stream = await client.images.generate(prompt="x", stream=True, extra_body={"seed": 0})
            events = [event async for event in stream]
        return [events[-1].b64_json, *(answer.data[0].b64_json for answer in answers if answer.data)]

    streamed, *drawn = asyncio.run(ask())
    assert streamed == drawn[0]
    assert len(drawn) == 20
    assert [read_record(opened(each)).seed for each in drawn] == list(range(20))


def test_null_is_the_default_and_an_own_size_is_taken(server: Running) -> None:
    body = {"prompt": "x", "n": None, "size": "16x16", "seed": None, "quality": None, "stream": None}
    answer = httpx2.post(f"{server.url}/v1/images/generations", json=body)
    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 1


def test_a_long_prompt_says_what_was_read_of_it(server: Running) -> None:
    answer = server.client().images.generate(prompt="a red heart " * 20)
    assert answer.data is not None
    assert answer.data[0].revised_prompt
    assert "a red heart".startswith(answer.data[0].revised_prompt[:5])


def test_the_shipped_model_draws_what_the_command_draws(start: Start, tmp_path: Path) -> None:
    server = start()
    answer = server.client().images.generate(prompt="a red heart", n=2, quality="low", extra_body={"seed": 7})
    scored = server.client().images.generate(prompt="a red heart", extra_body={"seed": 7, "candidates": 4})
    command = ["generate", "a red heart", "--seed", "7", "--candidates", "2", "--keep", "2", "--out", str(tmp_path)]
    assert main(command) == 0
    assert answer.data is not None
    assert scored.data is not None
    for each in answer.data:
        seed = (each.model_extra or {})["seed"]
        assert opened(each.b64_json).tobytes() == Image.open(tmp_path / f"a-red-heart-{seed}.png").tobytes()
    assert math.isfinite((scored.data[0].model_extra or {})["score"])
    (tmp_path / "served.png").write_bytes(base64.b64decode(scored.data[0].b64_json or ""))
    assert main(["verify", str(tmp_path / "served.png")]) == 0
    assert server.stop() == 0
