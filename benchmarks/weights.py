"""The cost of smaller weights: held-out bits per image token of a run's model with each type of weights.

    python -m benchmarks.weights RUN --weights float32 bfloat16 int8

The decoder that draws reads every held-out pair of the run, the whole picture at once.
"""

import json
import math

import jsonargparse
import torch
import torch.nn.functional as F

from benchmarks.machine import setting
from trencadis.cli.arguments import existing_directory, model_name, output_file
from trencadis.pipeline import DALLE
from trencadis.run_directory import RunDirectory
from trencadis.storage import write_whole
from trencadis.training.config_files import read_config
from trencadis.training.known_pairs import resumed_pairs
from trencadis.training.token_cache import encode_middle
from trencadis.transformer import KVDecoder, Reads

BATCH = 32


@torch.inference_mode()
def bits(decoder: KVDecoder, text_tokens: torch.Tensor, image_tokens: torch.Tensor) -> float:
    """Return the mean cross-entropy of a decoder's logits for image tokens, in bits.

    Args:
        decoder: With the weights to measure.
        text_tokens: (pairs, text_len).
        image_tokens: (pairs, image_len).
    """
    nats = 0.0
    for texts, images in zip(torch.split(text_tokens, BATCH), torch.split(image_tokens, BATCH), strict=True):
        streams = tuple(range(len(texts)))
        cache = decoder.new_cache(len(texts), len(texts))
        first = torch.stack([decoder.read_caption(text, cache, stream) for stream, text in enumerate(texts)])
        reads = Reads(streams, streams, (tuple(range(images.shape[1] - 1)),) * len(texts))
        logits = torch.cat([first[:, None], decoder.read(images[:, :-1], reads, cache)], dim=1)
        nats += float(F.cross_entropy(logits.flatten(0, 1), images.flatten(), reduction="sum"))
    return nats / image_tokens.numel() / math.log(2)


def main() -> None:
    """Measure each type, and print it with its difference from float32."""
    parser = jsonargparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=existing_directory(), help="a run; its model is measured on its held-out pairs")
    parser.add_argument(
        "--model", type=model_name(), help="another model with the same tokenizers (default: the run's)"
    )
    parser.add_argument("--weights", type=str, nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--json", type=output_file(), help="output file for the figures")
    arguments = parser.parse_args()
    run = RunDirectory(arguments.run)
    config = read_config(run.config)
    pairs = resumed_pairs(config.data, config.seed, run)
    model = DALLE.from_pretrained(arguments.model or run.model)
    stream = model.transformer.stream
    captions = [model.text_tokenizer.encode(pair.captions[0], max_len=stream.text_len) for pair in pairs.validation]
    held_out = encode_middle(model.image_tokenizer, pairs, pairs.validation, config.data, torch.device("cpu"))
    figures = {
        weights: bits(KVDecoder(model.transformer, weights), stream.pad_captions(captions), held_out.flatten(1).long())
        for weights in arguments.weights
    }
    whole = figures.get("float32", math.nan)
    for weights, measured in figures.items():
        print(f"{weights:9s} {measured:.4f} bits per image token   {100 * (measured / whole - 1):+.3f} %")
    if arguments.json:
        report = {**setting(threads=torch.get_num_threads(), repeats=1), "pairs": len(captions), "bits": figures}
        write_whole(arguments.json, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
