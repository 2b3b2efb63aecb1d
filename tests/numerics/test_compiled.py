"""What a GPU runs, compiled for this processor: no copy of the cache, and no more graphs than sizes."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

STEP = """
import math, re
import torch
from torch._inductor.utils import run_and_get_code
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.sampling import Engine, Request, Sampling
from trencadis.transformer import KVDecoder, Reads, Transformer

torch.set_num_threads(1)
config = TransformerConfig(text_len=4, text_vocab_size=9, grid_size=(6, 5), image_vocab_size=7, num_layers=2,
                           num_heads=2, head_dim=8, kernel_size=3, design=MODERN_DESIGN)
model = Transformer(config).eval()
torch.nn.init.normal_(model.image_head.weight)
plain, compiled = KVDecoder(model), KVDecoder(model, is_compiled=True)
text, slots = model.stream.pad_captions([[1, 2]])[0], 4
caches = [plain.new_cache(slots, 1), compiled.new_cache(slots, 1)]
for cache in caches:
    plain.read_caption(text, cache, 0)
tokens = torch.randint(7, (12, slots))
for index in range(12):
    reads = Reads(tuple(range(slots)), (0,) * slots, ((index,),) * slots)
    expected = plain.read(tokens[index][:, None], reads, caches[0])[:, 0]
    if index == 0:
        got, codes = run_and_get_code(lambda: compiled.read_compiled(tokens[index], reads, caches[1]))
    else:
        got = compiled.read_compiled(tokens[index], reads, caches[1])
    assert torch.allclose(got, expected, atol=1e-4), index
code = "\\n".join(codes)
sizes = [math.prod(int(n) for n in shape.split(",") if n.strip())
         for shape in re.findall(r"= empty_strided_cpu\\(\\(([^)]*)\\)", code)]
assert sizes, "the generated code allocates nothing: has its form changed?"
one_layer = caches[1].image[0][0].numel()
assert max(sizes) < one_layer, (max(sizes), one_layer)
print("largest buffer", max(sizes), "of", one_layer)
"""

SIZES = """
import torch
from torch._dynamo.testing import CompileCounter
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.sampling import Engine, Request, Sampling
from trencadis.transformer import KVDecoder, Transformer

config = TransformerConfig(text_len=4, text_vocab_size=9, grid_size=(2, 2), image_vocab_size=7, num_layers=1,
                           num_heads=2, head_dim=8, kernel_size=3, design=MODERN_DESIGN)
model, counter = Transformer(config).eval(), CompileCounter()
text = model.stream.pad_captions([[1, 2]])[0]
for look in range(2):  # as often as decoders are made anew
    decoder = KVDecoder(model, is_compiled=True)
    read = decoder.read_compiled
    decoder.read_compiled = lambda *arguments: read(*arguments, backend=counter)
    engine = Engine(decoder, slots=64)
    for pictures in range(1, 10):
        engine.admit(Request(text_tokens=text, seeds=tuple(range(pictures)), sampling=Sampling(guidance_scale=1.0)))
        while engine.drawings:
            engine.step()
    assert counter.frame_count == 5 * (look + 1), counter.frame_count  # 1, 2, 4, 8 and 16 slots
"""

FLEX = """
import torch
import torch.nn.attention.flex_attention as flex
from torch._dynamo.testing import CompileCounter
from trencadis.stream import Stream
from trencadis.transformer.attention import PatternAttention
from trencadis.transformer.kernels.flex import FlexAttention

flex._validate_device = lambda *_: None  # lets a CPU have gradients
torch.manual_seed(0)
stream, counter = Stream(5, 10, (4, 6), 4), CompileCounter()
for pattern in ("row", "column", "convolutional"):
    attend = FlexAttention(pattern, stream, kernel_size=3, backend=counter)
    for batch, dtype, trains in ((2, torch.float32, True), (4, torch.bfloat16, True), (4, torch.bfloat16, False),
                                 (3, torch.bfloat16, False), (5, torch.float32, False)):
        inputs = [torch.randn(batch, 4, stream.stream_len, 8).to(dtype).requires_grad_(trains) for _ in range(3)]
        with torch.set_grad_enabled(trains):
            got = attend(*inputs)
        expected = PatternAttention(pattern, stream, kernel_size=3).dense(*inputs)
        assert torch.allclose(got, expected, atol=2e-6 if dtype == torch.float32 else 0.02), (pattern, batch)
print("graphs", counter.frame_count)
assert counter.frame_count <= 12, counter.frame_count  # a type and a mode each, not a batch size each
"""


@pytest.mark.parametrize("script", [STEP, SIZES, FLEX], ids=["no copy of the cache", "few graphs", "flex"])
def test_compiled(script: str) -> None:
    """In a process where shapes are not checked at run time, which the compiler cannot look through."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
