from pathlib import Path
from typing import Any

import pytest
import torch

from tests.unit.importers.published import mosaic, openai_pictures, openai_tokens, save, save_openai
from trencadis.config import CategoricalCodes, PublishedConfig
from trencadis.errors import ConfigError, ModelError
from trencadis.importers import read_openai_dvae

SMALL: dict[str, Any] = {"widths": (8, 12), "blocks": 1, "n_init": 5}
IMAGES = mosaic(4, rows=2, columns=4)


def test_tokens_and_pictures_are_the_published_models(tmp_path: Path) -> None:
    encoder, decoder = save_openai(tmp_path)
    model = read_openai_dvae([tmp_path], (32, 64))
    config = model.config
    assert config.architecture == PublishedConfig(hidden_dim=8, width_multipliers=(1, 2, 4, 8), blocks_per_group=2)
    assert (config.codes, config.pixels) == (CategoricalCodes(), "logit_laplace")
    assert (config.image_vocab_size, config.latent_dim, config.grid_size) == (40, 12, (4, 8))
    tokens = openai_tokens(encoder, IMAGES)
    assert len(set(tokens.flatten().tolist())) > 4
    assert torch.equal(model.encode(IMAGES), tokens)
    every_code = torch.arange(40).view(1, 5, 8)
    torch.testing.assert_close(model.decode(every_code), openai_pictures(decoder, every_code), atol=1e-5, rtol=0)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_other_sizes_are_read_from_the_shapes(tmp_path: Path, legacy: bool) -> None:
    encoder, decoder = save_openai(tmp_path, legacy=legacy, **SMALL)
    model = read_openai_dvae([tmp_path])
    assert model.config.architecture == PublishedConfig(hidden_dim=4, width_multipliers=(2, 3), blocks_per_group=1)
    assert model.image_vocab_size == 40
    tokens = openai_tokens(encoder, IMAGES)
    assert torch.equal(model.encode(IMAGES), tokens)
    torch.testing.assert_close(model.decode(tokens), openai_pictures(decoder, tokens), atol=1e-5, rtol=0)


def test_files_are_told_apart_by_what_they_hold_and_may_be_state_dicts(tmp_path: Path) -> None:
    encoder, decoder = save_openai(tmp_path, **SMALL)
    paths = [save(decoder, tmp_path / "a"), save(dict(encoder), tmp_path / "b", legacy=True)]
    expected = read_openai_dvae([tmp_path]).state_dict()
    for files in (paths, paths[::-1], [tmp_path / "encoder.pkl", paths[0]]):
        found = read_openai_dvae(files).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_does_not_belong_together_is_one_line(tmp_path: Path) -> None:
    encoder, decoder = save_openai(tmp_path, **SMALL)
    files = [tmp_path / "encoder.pkl", tmp_path / "decoder.pkl"]
    name = "blocks.group_2.block_1.id_path.w"

    def changed(state: object, **changes: torch.Tensor | None) -> Path:
        assert isinstance(state, dict)
        content = {key: value for key, value in {**state, **changes}.items() if value is not None}
        return save(content, tmp_path / "changed")

    with pytest.raises(ModelError, match=r"encoder\.pkl is 1 of 1 files; expected an encoder's file and a decoder's"):
        read_openai_dvae(files[:1])
    with pytest.raises(ModelError, match="is 1 of 3 files"):
        read_openai_dvae([*files, files[0]])
    with pytest.raises(ModelError, match="are both encoders; expected an encoder's file and a decoder's"):
        read_openai_dvae([files[0], files[0]])
    with pytest.raises(ModelError, match=r"has no blocks\.group_2\.block_1\.id_path\.w; expected"):
        read_openai_dvae([changed(encoder, **{name: None}), files[1]])
    with pytest.raises(ModelError, match=r"has the unknown blocks\.more\.w; expected the 22 tensors"):
        read_openai_dvae([changed(encoder, **{"blocks.more.w": torch.zeros(2)}), files[1]])
    with pytest.raises(ModelError, match=r"id_path\.w of shape \[1, 2, 3, 4\]; expected \[12, 8, 1, 1\]"):
        read_openai_dvae([changed(encoder, **{name: torch.zeros(1, 2, 3, 4)}), files[1]])
    with pytest.raises(ModelError, match="has 41 codes; expected 40, as the encoder has"):
        read_openai_dvae([files[0], changed(decoder, **{"blocks.input.w": torch.zeros(5, 41, 1, 1)})])
    with pytest.raises(ModelError, match=r"has torch\.int64 weights; expected floats"):
        read_openai_dvae([changed(encoder, **{name: torch.zeros(12, 8, 1, 1, dtype=torch.int64)}), files[1]])
    with pytest.raises(ModelError, match=r"has no blocks\.input\.w"):
        read_openai_dvae([save([1, 2], tmp_path / "other"), files[1]])
    with pytest.raises(ModelError, match=r"encoder\.pkl is not there"):
        read_openai_dvae([tmp_path / "absent" / "encoder.pkl", files[1]])
    with pytest.raises(ConfigError, match=r"image_size \[251, 251\]"):
        read_openai_dvae(files, (251, 251))
