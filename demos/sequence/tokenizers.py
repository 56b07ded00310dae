"""Texts as sequences of token ids: characters, or pieces of words learned from the training texts."""

import base64
import io
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from demos.kit import cli, records
from demos.kit.errors import DamagedFile

KINDS = ("characters", "subword")
# What `to_json` gives, as `records.read_json` takes it.
FIELDS = ({"kind": str, "characters": str}, {"kind": str, "model": str})
START, END = 0, 1
UNKNOWN = 2  # of subwords
IGNORED = -1  # in labels, past the end token
LONGEST_TEXT = 4192  # bytes, SentencePiece's default
SENTENCEPIECES_OWN = "\u2585"  # its mark for unknown characters: it skips texts that have it


class UnknownCharacter(ValueError):
    """A text holds characters that the training texts do not."""

    def __init__(self, characters: Iterable[str]):
        super().__init__(f"it has characters that no training text has: {' '.join(map(repr, sorted(characters)))}")


class Characters:
    """One token per character: ids 2, 3, … in the order of their code points.

    `size` is the number of ids, including the start token (0) and the end token (1).

    Example:
        >>> tokens = Characters.learn(["ab", "a c"])
        >>> tokens.encode("cab").tolist(), tokens.decode([3, 4, 1])
        ([5, 3, 4], 'ab')
    """

    kind = "characters"

    def __init__(self, characters: str):
        self.characters = characters
        self.size = len(characters) + 2
        self._ids = {character: i for i, character in enumerate(characters, start=2)}

    @classmethod
    def learn(cls, texts: Sequence[str]) -> "Characters":
        """The characters of the training texts."""
        return cls("".join(sorted(set("".join(texts)))))

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int32, without start and end token.

        Raises:
            UnknownCharacter: If a character was not in the training texts.
        """
        if unknown := set(text) - set(self._ids):
            raise UnknownCharacter(unknown)
        return np.array([self._ids[character] for character in text], "int32")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, without spaces at its ends or side by side; start and end tokens stand for nothing."""
        return " ".join("".join(self.characters[i - 2] for i in ids if i > END).split())

    def entries(self) -> list[str]:
        """All that texts are divided by."""
        return list(self.characters)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {"kind": self.kind, "characters": self.characters}


class Subwords:
    """Pieces of words by SentencePiece's unigram model (Kudo and Richardson 2018).

    `size` is the number of ids, including the start token (0), the end token (1) and one for characters never seen (2),
    which `encode` refuses.
    """

    kind = "subword"

    def __init__(self, model: bytes):
        self._processor = _sentencepiece().SentencePieceProcessor(model_proto=model)
        self.size = self._processor.vocab_size()

    @classmethod
    def learn(cls, texts: Sequence[str], size: int) -> "Subwords":
        """Learns at most `size` pieces, fewer if the texts do not have as many; all their characters must fit in."""
        least = len(set("".join(texts)) - {" "}) + 4
        if size < least:
            raise ValueError(f"--vocabulary-size must be at least {least} for these texts. Received: {size}.")
        file, longest = io.BytesIO(), max((len(text.encode()) for text in texts), default=0)
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=(text.replace(SENTENCEPIECES_OWN, " ") for text in texts),
                model_writer=file,
                vocab_size=size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                normalization_rule_name="identity",
                bos_id=START,
                eos_id=END,
                unk_id=UNKNOWN,
                minloglevel=2,
                # It would leave longer texts out. Where there are none, models are those of the default.
                **({"max_sentence_length": longest} if longest > LONGEST_TEXT else {}),
            )
        except RuntimeError as error:
            raise ValueError(f"sentencepiece cannot learn pieces from these texts: {error}") from error
        return cls(file.getvalue())

    def encode(self, text: str, strict: bool = True) -> np.ndarray:
        """As `Characters.encode`; unless `strict`, what was not in the training texts becomes id 2."""
        ids = np.array(self._processor.encode(text), "int32")
        if strict and (ids == UNKNOWN).any():
            pieces = self._processor.encode(text, out_type=str)
            raise UnknownCharacter({c for piece, i in zip(pieces, ids, strict=True) if i == UNKNOWN for c in piece})
        return ids

    def pieces(self, ids: Iterable[int] | None = None) -> list[str]:
        """The text of each of some ids, or of all; ▁ stands for the space before a word."""
        return [self._processor.id_to_piece(int(i)) for i in (range(self.size) if ids is None else ids)]

    def entries(self) -> list[tuple[str, float]]:
        """The text of each piece and its log p, all that texts are divided by."""
        return [(self._processor.id_to_piece(i), self._processor.get_score(i)) for i in range(self.size)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; start, end and unknown tokens stand for nothing."""
        return " ".join(self._processor.decode([int(i) for i in ids if i > UNKNOWN]).split())

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {"kind": self.kind, "model": base64.b64encode(self._processor.serialized_model_proto()).decode()}


Tokens = Characters | Subwords


def learn(kind: str, texts: Sequence[str], size: int) -> Tokens:
    """The tokens of the training texts, by a kind of `KINDS`; `size` is the most for subwords."""
    return Characters.learn(texts) if kind == "characters" else Subwords.learn(texts, size)


def from_json(value: dict[str, Any]) -> Tokens:
    """The tokens that `to_json` described."""
    if value["kind"] == "characters":
        return Characters(value["characters"])
    return Subwords(base64.b64decode(value["model"], validate=True))


def write(path: pathlib.Path, tokens: Tokens) -> None:
    """Writes the tokens of a run; a ValueError if it has others, which its networks were trained on."""
    if not path.exists():
        records.write_json(path, tokens.to_json())
    elif read(path).entries() != tokens.entries():  # files may differ that have the same tokens
        raise ValueError(f"The tokens learned from the corpus are not those of the run, {path}: is a package newer?")


def read(path: pathlib.Path, kind: str | None = None) -> Any:
    """The tokens in a JSON file of a run, which must be of the kind if one is given.

    Raises:
        ValueError: If there is no such file.
        demos.kit.errors.DamagedFile: If it holds anything else.
    """
    value = records.read_json(path, FIELDS)
    if kind not in (None, value["kind"]):
        raise DamagedFile(f"{path} is damaged: its tokens are {value['kind']}, not {kind}.")
    try:
        return from_json(value)
    except (KeyError, ValueError, RuntimeError) as error:  # of base64, or of SentencePiece
        raise DamagedFile(f"{path} is damaged: {error}.") from error


def _sentencepiece():
    return cli.optional("sentencepiece", "A vocabulary of subwords", extra="translation")
