"""Reading a tokenizer: its row layout, and which tokenizers are refused."""

import json
import re
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, processors
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from memxlnet.builder.transformers_check import check_against_transformers
from memxlnet.encode import tokenizer_content as layout_module
from memxlnet.encode.encoder import Encoder
from memxlnet.encode.memory_tokens import configure_memory_tokens
from memxlnet.encode.tokenizer_content import read_tokenizer
from memxlnet.errors import SettingsError, TokenizerError
from memxlnet.format.row_layout import RowLayout
from memxlnet.settings import EncodeSettings
from tests.encode.oracle import encode, features, make_example
from tests.styles import STYLES, make, roberta_style


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("memory_tokens", [0, 3])
def test_what_is_read_off_a_tokenizer(name: str, memory_tokens: int) -> None:
    style, tokenizer = STYLES[name], make(name, memory_tokens)
    layout = read_tokenizer(tokenizer).layout
    assert (len(layout.prefix), len(layout.middle), len(layout.suffix)) == (style.prefix, style.middle, style.suffix)
    assert layout.overhead == style.overhead + 2 * memory_tokens
    assert layout.context_first == layout.pad_left == style.context_first
    assert (layout.pad_id, layout.cls_id) == (tokenizer.pad_token_id, tokenizer.cls_token_id)
    assert layout.num_memory_tokens == memory_tokens


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("memory_tokens", [0, 2])
def test_the_place_of_cls_in_an_empty_row(name: str, memory_tokens: int) -> None:
    tokenizer = make(name, memory_tokens)
    layout = read_tokenizer(tokenizer).layout
    [row] = features(encode(tokenizer, [make_example("", "")], max_seq_length=30, doc_stride=1))
    assert row["cls_index"] == layout.padded_cls_index(30)
    assert row["input_ids"][row["cls_index"]] == tokenizer.cls_token_id
    assert layout.empty_cls_index == row["cls_index"] - row["attention_mask"].index(1)


@pytest.mark.parametrize("name", STYLES)
def test_a_layout_survives_json(name: str) -> None:
    layout = read_tokenizer(make(name, 2)).layout
    assert RowLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize("change", [{"more": 1}, {"pad_id": ...}])
def test_a_layout_with_other_fields_is_refused(change: dict[str, Any]) -> None:
    values = {**read_tokenizer(make("xlnet")).layout.to_json(), **change}
    with pytest.raises(TypeError):
        RowLayout.from_json({name: value for name, value in values.items() if value is not ...})


@pytest.mark.parametrize("name", STYLES)
def test_reading_leaves_the_tokenizer_and_takes_no_state_of_it(name: str) -> None:
    tokenizer = make(name)
    fresh = read_tokenizer(tokenizer)
    tokenizer("a b c", "d", truncation="only_first", max_length=7, stride=0, padding="max_length")
    before = tokenizer.backend_tokenizer.to_str()
    used = read_tokenizer(tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == before
    assert json.loads(before)["truncation"] is not None
    assert (used.backend_json, used.layout) == (fresh.backend_json, fresh.layout)
    assert used.backend.padding is None
    assert used.backend.truncation is None


def test_the_content_of_a_saved_copy_is_the_same(tmp_path: Any) -> None:
    tokenizer = make("xlnet", 2)
    tokenizer.save_pretrained(tmp_path / "copy")
    loaded = type(tokenizer).from_pretrained(tmp_path / "copy")
    assert read_tokenizer(loaded).layout == read_tokenizer(tokenizer).layout
    assert read_tokenizer(loaded).vocabulary_size == read_tokenizer(tokenizer).vocabulary_size


def test_the_vocabulary_size_covers_the_largest_id_after_a_gap() -> None:
    content = json.loads(make("bert-cased").backend_tokenizer.to_str())
    largest = max(content["model"]["vocab"].values())
    content["model"]["vocab"]["far"] = largest + 50
    backend = Tokenizer.from_str(json.dumps(content))
    backend.add_special_tokens(["[NEW]"])
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    assert max(tokenizer.get_vocab().values()) == largest + 50
    assert read_tokenizer(tokenizer).vocabulary_size == largest + 51


@pytest.mark.parametrize("value", [None, "xlnet-base-cased", 3, make("bert-cased").backend_tokenizer], ids=repr)
def test_what_is_no_transformers_tokenizer_is_refused(value: Any) -> None:
    with pytest.raises(TokenizerError, match=f"^tokenizer: .*{re.escape(repr(value)[:50])}"):
        read_tokenizer(value)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(TokenizerError, match="ByT5Tokenizer"):
        read_tokenizer(ByT5Tokenizer())


def test_left_truncation_is_refused() -> None:
    tokenizer = make("xlnet")
    tokenizer.truncation_side = "left"
    with pytest.raises(TokenizerError, match=r"truncation_side.*'left'"):
        read_tokenizer(tokenizer)


def test_a_pair_in_reversed_order_is_refused() -> None:
    tokenizer = make("bert-cased")
    special = [("[CLS]", tokenizer.cls_token_id), ("[SEP]", tokenizer.sep_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $B [SEP] $A [SEP]", special_tokens=special
    )
    with pytest.raises(TokenizerError, match=r"\b1\b.*\b0\b"):
        read_tokenizer(tokenizer)


def _of_words(vocabulary: dict[str, int], normalizer: Any = None) -> Any:
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]")


@pytest.mark.parametrize("trim", [False, True])
def test_a_post_processor_after_the_template_is_refused_until_the_template_is_last(trim: bool) -> None:
    """It counts each part of the row as a text, so that nobody can see where the texts are."""
    tokenizer = make("gpt2")
    template = tokenizer.backend_tokenizer.post_processor
    unchanged = processors.ByteLevel(trim_offsets=trim, add_prefix_space=False)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([template, unchanged])
    with pytest.raises(TokenizerError, match=r"\[0, .*2.*post_processor"):
        read_tokenizer(tokenizer)
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([unchanged, template])
    assert read_tokenizer(tokenizer).layout == read_tokenizer(make("gpt2")).layout


def test_a_tokenizer_that_gives_no_tokens_is_refused() -> None:
    tokenizer = _of_words({"[PAD]": 0, "[CLS]": 1, "[UNK]": 2}, normalizers.Replace(Regex("[\\s\\S]+"), ""))
    with pytest.raises(TokenizerError, match="probe"):
        read_tokenizer(tokenizer)


def test_a_tokenizer_that_fails_is_refused_with_the_cause() -> None:
    tokenizer = _of_words({"[PAD]": 0, "[CLS]": 1})
    with pytest.raises(TokenizerError, match=r"'a', 'a': .*Missing \[UNK\]"):
        read_tokenizer(tokenizer)


def test_a_prefix_space_with_trimmed_offsets_is_refused() -> None:
    """tokenizers gives the first token of each window other offsets than the same token elsewhere."""
    with pytest.raises(TokenizerError, match=r"RobertaProcessing.*trim_offsets.*add_prefix_space"):
        read_tokenizer(roberta_style(add_prefix_space=True))


def test_the_advice_for_a_prefix_space_with_trimmed_offsets_works() -> None:
    tokenizer = roberta_style(add_prefix_space=True)
    sep, cls = (("</s>", tokenizer.sep_token_id), ("<s>", tokenizer.cls_token_id))
    processor = processors.RobertaProcessing(sep, cls, add_prefix_space=False)
    tokenizer.backend_tokenizer.post_processor = processor
    check_against_transformers(
        tokenizer, read_tokenizer(tokenizer), EncodeSettings(max_seq_length=64, doc_stride=8), []
    )


def _with_template(pair: str, ids: dict[str, int]) -> Any:
    tokenizer = make("bert-cased")
    single = "[CLS] $A [SEP]"
    special = [(token, ids.get(token, tokenizer.convert_tokens_to_ids(token))) for token in ("[CLS]", "[SEP]")]
    template = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    tokenizer.backend_tokenizer.post_processor = template
    return tokenizer


@pytest.mark.parametrize("pair", ["[CLS]:128 $A [SEP] $B [SEP]", "[CLS] $A [SEP] $B:200 [SEP]:200"])
def test_segment_ids_that_their_column_cannot_hold_are_refused(pair: str) -> None:
    with pytest.raises(TokenizerError, match="127"):
        read_tokenizer(_with_template(pair, {}))


def test_a_template_of_ids_that_no_token_has_is_refused() -> None:
    with pytest.raises(TokenizerError, match="99999"):
        read_tokenizer(_with_template("[CLS] $A [SEP] $B [SEP]", {"[CLS]": 99_999}))


def test_a_panic_of_the_tokenizer_is_an_error() -> None:
    tokenizer = make("bert-cased")
    template = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = processors.Sequence([template, template])
    with pytest.raises(TokenizerError):
        read_tokenizer(tokenizer)


def test_a_prefix_space_within_a_sequence_of_processors_is_refused() -> None:
    tokenizer = make("roberta")
    last = tokenizer.backend_tokenizer.post_processor
    parts = [processors.ByteLevel(add_prefix_space=True, trim_offsets=True), last]
    tokenizer.backend_tokenizer.post_processor = processors.Sequence(parts)
    with pytest.raises(TokenizerError, match="ByteLevel"):
        read_tokenizer(tokenizer)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("memory_tokens", [0, 4])
def test_the_smallest_row_has_room_for_one_token_of_each_text(name: str, memory_tokens: int) -> None:
    tokenizer = make(name, memory_tokens)
    content = read_tokenizer(tokenizer)
    smallest = STYLES[name].overhead + 2 * memory_tokens + 2
    Encoder(content.backend, content.layout, EncodeSettings(max_seq_length=smallest, doc_stride=1))
    with pytest.raises(SettingsError, match=rf"^max_seq_length: .*\b{smallest}\b.*\b{smallest - 1}$"):
        content.layout.check(EncodeSettings(max_seq_length=smallest - 1, doc_stride=0))


@pytest.mark.parametrize("memory_tokens", [0, 4])
def test_an_overlap_that_no_question_allows_is_refused(memory_tokens: int) -> None:
    content = read_tokenizer(make("xlnet", memory_tokens))
    room = 32 - 3 - 2 * memory_tokens
    content.layout.check(EncodeSettings(max_seq_length=32, doc_stride=room - 1))
    with pytest.raises(SettingsError, match=rf"^doc_stride: .*\b{room}\b"):
        content.layout.check(EncodeSettings(max_seq_length=32, doc_stride=room))


def test_memory_tokens_that_are_not_inserted_take_no_room() -> None:
    layout = read_tokenizer(make("xlnet", 8), insert_memory_tokens=False).layout
    assert (layout.overhead, layout.memory_read_ids, layout.memory_write_ids) == (3, (), ())


@pytest.mark.parametrize("memory", [0, 3])
def test_the_copy_of_the_backend_has_its_content_and_a_state_of_its_own(tokenizer: Any, memory: int) -> None:
    if memory:
        configure_memory_tokens(tokenizer, memory)
    tokenizer.add_tokens(["newword"])
    tokenizer("a b c", truncation=True, max_length=4, padding="max_length")
    backend = tokenizer.backend_tokenizer
    assert backend.truncation is not None
    copy = read_tokenizer(tokenizer).backend
    assert copy.truncation is None
    assert copy.padding is None
    assert len(copy.encode("a b c newword d e f").ids) > 4
    assert backend.truncation is not None, "the original keeps its state"
    backend.no_truncation()
    backend.no_padding()
    assert copy.to_str() == backend.to_str()
    tokenizer.add_tokens(["later"])
    assert copy.token_to_id("later") is None


def test_a_tokenizer_that_cannot_be_put_together_again_is_parsed(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tokenizer.backend_tokenizer.to_str()
    monkeypatch.setattr(layout_module, "_with_shared_model", lambda original: Tokenizer(original.model))
    assert read_tokenizer(tokenizer).backend.to_str() == expected


@pytest.mark.parametrize("count", [2, 60])
def test_added_tokens_are_read_in_one_call_whatever_their_number(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make("xlnet")
    tokenizer.add_tokens(
        [
            AddedToken(f"<new {n}>", special=n % 2 == 0, normalized=n % 3 == 0, lstrip=n % 5 == 0, single_word=n == 1)
            for n in range(count)
        ]
    )
    calls: list[str] = []

    class Counting:
        """A tokenizer that notes what adds tokens to it."""

        def __init__(self, model: Any):
            self.__dict__["made"] = Tokenizer(model)

        def __getattr__(self, name: str) -> Any:
            if name.startswith("add_"):
                calls.append(name)
            return getattr(self.made, name)

        def __setattr__(self, name: str, value: Any) -> None:
            setattr(self.made, name, value)

        @staticmethod
        def from_str(content: str) -> Any:
            calls.append("from_str")
            return Tokenizer.from_str(content)

    expected = tokenizer.backend_tokenizer.to_str()
    monkeypatch.setattr(layout_module, "Tokenizer", Counting)
    assert read_tokenizer(tokenizer).backend.to_str() == expected
    assert calls == ["add_tokens"]
