"""What only a GPU shows. Run with `pytest -m gpu`."""

import pytest
import torch

from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.sampling import Engine, Request, Sampling, sample_image_tokens
from trencadis.stream import Stream
from trencadis.transformer import KVDecoder, Reads, Transformer, Weights
from trencadis.transformer.attention import PatternAttention
from trencadis.transformer.cross_entropy import cross_entropy_sum

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("without_type_checks"),  # a compiler cannot look through them
]


def model() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=8, text_vocab_size=20, grid_size=(8, 8), image_vocab_size=50, num_layers=4, num_heads=2, head_dim=32,
        kernel_size=3, design=MODERN_DESIGN,
    )  # fmt: skip
    transformer = Transformer(config).eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return transformer.cuda()


@pytest.mark.parametrize("pattern", ["row", "column", "convolutional"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flex_attention_equals_dense_attention_with_its_gradients(pattern: str, dtype: torch.dtype) -> None:
    attend = PatternAttention(pattern, Stream(5, 10, (8, 8), 4), kernel_size=3)  # type: ignore[arg-type]
    for batch in (1, 2, 3, 5, 8, 9, 16, 17, 32):  # more sizes than dynamo compiles one by one
        inputs = [torch.randn(batch, 2, 69, 32, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3)]
        got, expected = attend(*inputs), attend.dense(*inputs)
        tolerance = 1e-3 if dtype == torch.float32 else 0.05
        assert torch.allclose(got, expected, atol=tolerance)
        upstream = torch.randn_like(got)
        for one, other in zip(
            torch.autograd.grad(got, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
        ):
            assert torch.allclose(one, other, atol=10 * tolerance)


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_the_compiled_step_gives_the_logits_of_the_plain_one(weights: Weights) -> None:
    transformer = model()
    decoder = KVDecoder(transformer, weights, is_compiled=True)
    text = transformer.stream.pad_captions([[1, 2]])[0].cuda()
    caches = [decoder.new_cache(4, 1) for _ in range(2)]
    for cache in caches:
        decoder.read_caption(text, cache, 0)
    tokens = torch.randint(50, (63, 4), device="cuda")
    for index in range(63):
        reads = Reads((0, 1, 2, 3), (0,) * 4, ((index,),) * 4)
        plain = decoder.read(tokens[index][:, None], reads, caches[0])[:, 0]
        compiled = decoder.read_compiled(tokens[index], reads, caches[1])
        assert torch.allclose(compiled, plain, atol=1e-2 if weights == "float32" else 0.3)


def test_nine_numbers_of_pictures_are_drawn() -> None:
    transformer = model()
    decoder = KVDecoder(transformer, is_compiled=True)
    text = transformer.stream.pad_captions([[1, 2]])[0].cuda()
    for pictures in range(1, 10):
        request = Request(text_tokens=text, seeds=tuple(range(pictures)), sampling=Sampling(guidance_scale=3.0))
        engine = Engine(decoder, request.num_slots)
        drawing = engine.admit(request)
        while engine.drawings:
            engine.step()
        assert drawing.image_tokens.shape == (pictures, 8, 8)


def test_a_gpu_draws_what_a_cpu_draws_up_to_rounding() -> None:
    on_gpu = model()
    text = on_gpu.stream.pad_captions([[1, 2], [3]])
    sampling = Sampling(guidance_scale=2.0, temperature=0.2)
    there = sample_image_tokens(KVDecoder(on_gpu), text.cuda(), [1, 2], sampling).cpu()
    here = sample_image_tokens(KVDecoder(model().cpu()), text, [1, 2], sampling)
    assert (there == here).float().mean() > 0.8


def test_losses_equal_those_of_a_cpu() -> None:
    transformer = model()
    text, image = transformer.stream.pad_captions([[1, 2], [3]]).cuda(), torch.randint(50, (2, 8, 8), device="cuda")
    there = transformer.losses(text, image)
    here = transformer.cpu().losses(text.cpu(), image.cpu())
    assert torch.allclose(there.image.cpu(), here.image, rtol=1e-3)
    assert there.text_count == here.text_count


def test_the_head_of_a_large_batch_takes_chunks() -> None:
    head = torch.nn.Linear(64, 8192).cuda()
    states, targets = torch.randn(8192, 64, device="cuda"), torch.randint(8192, (8192,), device="cuda")
    torch.cuda.reset_peak_memory_stats()
    cross_entropy_sum(head, states.requires_grad_(), targets, 8192).backward()  # type: ignore[no-untyped-call]
    assert torch.cuda.max_memory_allocated() < 8192 * 8192 * 4 * 2.5  # two logits at a time, and not four
