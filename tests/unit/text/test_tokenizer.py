import json
import pickle
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from trencadis.errors import ConfigError, ModelError, PromptError, StorageError
from trencadis.protocols import TextTokenizer
from trencadis.text import CaptionCutWarning, CaptionTokenizer, normalize

CAPTIONS = [
    "A red heart on a white background",
    "a photograph of a cat, and of another cat",
    "ein grünes Häuschen über dem Fluß",
    "красное сердце, красный дом",
    "赤いハート 赤い家",
    "🙂 a smiling face 🙂 it's 100 % 3D",
] * 3
# Fragments of what was trained on, so that merges do happen, between any characters at all.
WORDS = sorted({word for caption in CAPTIONS for word in caption.split()})
ANYTHING = st.lists(st.sampled_from(WORDS) | st.text(max_size=6) | st.sampled_from([" ", "\n", "\u3000", ""])).map(
    "".join
)
SURROGATES = st.text(st.characters(categories=["Cs", "L", "Z"]), max_size=8)


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return CaptionTokenizer.train(CAPTIONS, vocab_size=380)


@pytest.fixture(scope="module")
def library(tokenizer: CaptionTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    directory = tmp_path_factory.mktemp("text")
    tokenizer.save_pretrained(directory)
    return Tokenizer.from_file(str(directory / "tokenizer.json"))


def test_it_is_a_text_tokenizer(tokenizer: CaptionTokenizer) -> None:
    assert isinstance(tokenizer, TextTokenizer)


@pytest.mark.parametrize(
    ("caption", "normalized"),
    [
        ("  A  Red\tHeart\n", "a red heart"),
        ("", ""),
        (" \u3000\n ", ""),
        ("CAFE\u0301", "caf\u00e9"),
        ("\u212b", "\u00e5"),
        ("\u0399\u0308\u0301", "\u0390"),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude42", "🙂"),
    ],
)
def test_normalize(caption: str, normalized: str) -> None:
    assert normalize(caption) == normalized


@settings(deadline=None)
@given(ANYTHING | SURROGATES)
def test_normalize_is_idempotent_and_composed(caption: str) -> None:
    normalized = normalize(caption)
    assert normalize(normalized) == normalized
    assert unicodedata.is_normalized("NFC", normalized)
    assert normalized == normalized.strip()
    normalized.encode("utf-8")


@settings(deadline=None)
@given(ANYTHING | SURROGATES)
def test_no_dropout_is_the_library_s_encoding(tokenizer: CaptionTokenizer, library: Tokenizer, caption: str) -> None:
    assert tokenizer.encode(caption) == library.encode(normalize(caption)).ids


@settings(deadline=None)
@given(caption=ANYTHING | SURROGATES, dropout=st.floats(0, 1), seed=st.integers(0, 2**63))
def test_decoding_gives_the_caption_back(tokenizer: CaptionTokenizer, caption: str, dropout: float, seed: int) -> None:
    tokens = tokenizer.encode(caption, dropout=dropout, seed=seed)
    assert tokenizer.decode(tokens) == normalize(caption)
    assert all(0 <= token < tokenizer.vocab_size for token in tokens)
    assert tokenizer.encode(caption, dropout=dropout, seed=seed) == tokens


def test_a_seed_and_a_caption_decide_what_is_dropped(tokenizer: CaptionTokenizer) -> None:
    heart, cat = CAPTIONS[0], CAPTIONS[1]
    by_seed = {tuple(tokenizer.encode(heart, dropout=0.5, seed=seed)) for seed in range(20)}
    assert len(by_seed) > 10
    # One seed for a whole epoch must not drop the same places of every caption.
    draws = [tokenizer.encode(f"{cat} {cat}{'!' * n}", dropout=0.5, seed=1)[:6] for n in range(20)]
    assert len({tuple(draw) for draw in draws}) > 5


def test_full_dropout_leaves_bytes(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode("a red häuschen", dropout=1.0)
    assert len(tokens) == len(" a red häuschen".encode())


def test_training_is_deterministic_and_without_special_tokens(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second"):
        CaptionTokenizer.train(iter(CAPTIONS), vocab_size=350).save_pretrained(tmp_path / name)
        contents.append((tmp_path / name / "tokenizer.json").read_text("utf-8"))
    assert contents[0] == contents[1]
    content = json.loads(contents[0])
    assert content["added_tokens"] == []
    assert len(content["model"]["vocab"]) == 350


def test_fewer_ids_where_nothing_repeats() -> None:
    assert CaptionTokenizer.train(["abc"], vocab_size=1000).vocab_size == 256
    assert CaptionTokenizer.train([], vocab_size=1000).vocab_size == 256
    assert CaptionTokenizer.train(["ab", "AB"], vocab_size=1000).vocab_size == 258


def test_a_vocabulary_needs_room_for_all_bytes() -> None:
    with pytest.raises(ConfigError, match="vocab_size 255; expected 256 or more"):
        CaptionTokenizer.train(CAPTIONS, vocab_size=255)


def test_a_long_caption_is_cut_and_says_where(tokenizer: CaptionTokenizer) -> None:
    caption = "a red heart on a white background"
    tokens = tokenizer.encode(caption)
    kept = len(tokenizer.encode("a red heart on"))
    with pytest.warns(CaptionCutWarning) as caught:
        assert tokenizer.encode(caption, max_len=kept) == tokens[:kept]
    expected = f"caption cut after 'a red heart on …' ({kept} of {len(tokens)} tokens)"
    assert str(caught[0].message) == expected


def test_a_caption_that_fits_is_not_cut(tokenizer: CaptionTokenizer) -> None:
    tokens = tokenizer.encode(CAPTIONS[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.encode(CAPTIONS[0], max_len=len(tokens)) == tokens


def test_the_warning_shows_only_the_end_and_no_half_letters(tokenizer: CaptionTokenizer) -> None:
    long = "word " * 100
    with pytest.warns(CaptionCutWarning, match=r"cut after '… (word ){1,8}…'"):
        tokenizer.encode(long, max_len=len(tokenizer.encode("word " * 50)))
    with pytest.warns(CaptionCutWarning, match=r"cut after 'ab …'"):
        tokenizer.encode("ab𝔸", max_len=len(tokenizer.encode("ab")) + 1)
    with pytest.warns(CaptionCutWarning, match=r"\(0 of \d+ tokens\)"):
        assert tokenizer.encode("a red heart", max_len=0, dropout=0.5) == []


@pytest.mark.parametrize("options", [{"dropout": -0.1}, {"dropout": 1.5}, {"dropout": float("nan")}, {"max_len": -1}])
def test_options_out_of_range(tokenizer: CaptionTokenizer, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        tokenizer.encode("a red heart", **options)


@pytest.mark.parametrize("token", [-1, 380, 10**12])
def test_decoding_refuses_ids_of_others(tokenizer: CaptionTokenizer, token: int) -> None:
    with pytest.raises(PromptError, match=rf"text token {token}; expected text tokens in 0\.\.379"):
        tokenizer.decode([65, token])


def test_decoding_what_is_no_text(tokenizer: CaptionTokenizer) -> None:
    assert tokenizer.decode([]) == ""
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("é", dropout=1.0)[:-1])


def test_saving_and_loading(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("stays")
    tokenizer.save_pretrained(tmp_path)
    loaded = CaptionTokenizer.from_pretrained(tmp_path)
    for caption in CAPTIONS:
        assert loaded.encode(caption) == tokenizer.encode(caption)
        assert loaded.encode(caption, dropout=0.3, seed=4) == tokenizer.encode(caption, dropout=0.3, seed=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "tokenizer.json"]


def test_a_place_that_cannot_be_written(tokenizer: CaptionTokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        tokenizer.save_pretrained(tmp_path / "file")


def test_loading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json in"):
        CaptionTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no model at"):
        CaptionTokenizer.from_pretrained(tmp_path / "absent")


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"model": 3}', "half", "\x00\x01"])
def test_loading_a_damaged_file(tokenizer: CaptionTokenizer, tmp_path: Path, damage: str) -> None:
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    text = path.read_text("utf-8")
    path.write_text(text[: len(text) // 2] if damage == "half" else damage, "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer\.json cannot be read"):
        CaptionTokenizer.from_pretrained(tmp_path)


def _of_words() -> Tokenizer:
    return Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))


def _with_few_bytes() -> Tokenizer:
    library = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    library.pre_tokenizer = pre_tokenizers.ByteLevel()
    return library


@pytest.mark.parametrize("other", [_of_words(), _with_few_bytes()])
def test_loading_a_tokenizer_of_another_kind(other: Tokenizer, tmp_path: Path) -> None:
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="expected byte-level byte-pair encoding with all 256 bytes"):
        CaptionTokenizer.from_pretrained(tmp_path)


def test_pushing_uploads_what_saving_writes(tokenizer: CaptionTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: list[str] = []

    class Hub:
        def __init__(self, *_: object, **__: object) -> None: ...

        def create_repo(self, repo_id: str, **_: object) -> Any:
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, folder_path: Path, **_: object) -> str:
            uploaded.extend(path.name for path in Path(folder_path).iterdir())
            return "url"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    tokenizer.push_to_hub("owner/name")
    assert "tokenizer.json" in uploaded


def test_workers_of_a_loader_get_an_equal_one(tokenizer: CaptionTokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.encode(CAPTIONS[2], dropout=0.2, seed=3) == tokenizer.encode(CAPTIONS[2], dropout=0.2, seed=3)
