"""Train the small Unigram tokenizer that is bundled with the sample.

The result has XLNet's layout: its nine special tokens at ids 0 to 8, its normalizer and pre-tokenizer, and
its order of a pair with ``<sep>`` and ``<cls>`` at the end. Only the vocabulary is small, and learned from the
bundled sample.

Unigram training is not deterministic: pieces of almost equal score may come out in another order, or be
exchanged for each other, from one run to the next. The committed ``tokenizer.json`` is therefore the reference,
and tests pin it by its digest or by its vocabulary size. A new run gives a tokenizer that is as good, but with
other ids, so it has to be committed together with new pins.

Run it as ``python -m memxlnet.sample.train_tokenizer --output-directory DIRECTORY``.
"""

import argparse
import json
import logging
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer

from memxlnet.format.paths import as_directory
from memxlnet.sample import sample_file

logger = logging.getLogger(__name__)

# Order is meaning: the index of a token is its id in every published XLNet vocabulary.
SPECIAL_TOKENS = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")

TOKENIZER_CONFIG: dict[str, Any] = {
    "tokenizer_class": "XLNetTokenizer",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "<sep>",
    "pad_token": "<pad>",
    "cls_token": "<cls>",
    "mask_token": {
        "__type": "AddedToken",
        "content": "<mask>",
        "lstrip": True,
        "normalized": False,
        "rstrip": False,
        "single_word": False,
        "special": True,
    },
    "additional_special_tokens": ["<eop>", "<eod>"],
    "padding_side": "left",
    "clean_up_tokenization_spaces": False,
    "do_lower_case": False,
    "keep_accents": False,
    "remove_space": True,
}


def read_texts(path: Path) -> Iterator[str]:
    """Yield every context and every question of a SQuAD file.

    Args:
        path: A file in the nested SQuAD format.

    Yields:
        The context of each paragraph, followed by its questions.
    """
    with path.open(encoding="utf-8") as stream:
        articles = json.load(stream)["data"]
    for article in articles:
        for paragraph in article["paragraphs"]:
            yield paragraph["context"]
            for qa in paragraph["qas"]:
                yield qa["question"]


def build_tokenizer() -> Tokenizer:
    """Build an untrained tokenizer with XLNet's normalizer, pre-tokenizer and decoder.

    Returns:
        A tokenizer with an empty Unigram model.
    """
    tokenizer = Tokenizer(Unigram())
    # These are the parts that transformers' XLNetTokenizer sets up itself when it loads the file. They must
    # agree, or else the file would give other ids on its own than through transformers.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace("``", '"'),
            normalizers.Replace("''", '"'),
            normalizers.NFKD(),
            normalizers.StripAccents(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def special_added_tokens() -> list[AddedToken]:
    """Return the special tokens in the order of their ids.

    Returns:
        The special tokens; ``<mask>`` takes the space before it, as in XLNet.
    """
    return [AddedToken(token, lstrip=token == "<mask>", normalized=False, special=True) for token in SPECIAL_TOKENS]


def round_scores(tokenizer: Tokenizer, digits: int = 6) -> Tokenizer:
    """Return a copy of a Unigram tokenizer whose scores have few decimals.

    Args:
        tokenizer: A tokenizer with a Unigram model.
        digits: Number of decimals to keep.

    Returns:
        The tokenizer with rounded scores.
    """
    # The JSON parsers of Python (which transformers uses) and Rust differ in the last bit of long decimals, so
    # that full scores would give two slightly different models from one file. Short ones are exact in both.
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"] = [[piece, round(score, digits)] for piece, score in content["model"]["vocab"]]
    return Tokenizer.from_str(json.dumps(content))


def train(texts: Sequence[str], vocabulary_size: int) -> Tokenizer:
    """Train a Unigram tokenizer in XLNet's layout.

    Args:
        texts: The texts to learn the pieces from.
        vocabulary_size: Wanted number of pieces, special tokens included.

    Returns:
        The trained tokenizer.

    Raises:
        RuntimeError: If a special token did not get its id.
    """
    tokenizer = build_tokenizer()
    trainer = UnigramTrainer(
        vocab_size=vocabulary_size,
        special_tokens=special_added_tokens(),
        unk_token="<unk>",
        # Without it, an ASCII character that the texts happen to lack would be unknown.
        initial_alphabet=list(string.ascii_letters + string.digits + string.punctuation),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    for expected_id, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != expected_id:
            raise RuntimeError(f"{token} has id {tokenizer.token_to_id(token)}, expected {expected_id}")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in ("<sep>", "<cls>")],
    )
    return round_scores(tokenizer)


def main(argv: Sequence[str] | None = None) -> None:
    """Train the tokenizer and write its two files.

    Args:
        argv: Command line arguments; those of the process if None.
    """
    parser = argparse.ArgumentParser(description="Train the Unigram tokenizer of the bundled sample.")
    parser.add_argument("--squad-file", type=Path, default=sample_file(), help="SQuAD file to learn from")
    # No default: a run without arguments must not replace the committed reference.
    parser.add_argument("--output-directory", type=Path, required=True, help="directory for the two files")
    parser.add_argument("--vocabulary-size", type=int, default=2000, help="number of pieces (default: 2000)")
    arguments = parser.parse_args(argv)
    directory = as_directory("--output-directory", arguments.output_directory)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

    tokenizer = train(list(read_texts(arguments.squad_file)), arguments.vocabulary_size)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer_path = directory / "tokenizer.json"
    tokenizer.save(str(tokenizer_path), pretty=True)
    config_path = directory / "tokenizer_config.json"
    config_path.write_text(json.dumps(TOKENIZER_CONFIG, indent=2) + "\n", encoding="utf-8")
    logger.info("Wrote %d pieces to %s", tokenizer.get_vocab_size(), tokenizer_path)


if __name__ == "__main__":
    main()
