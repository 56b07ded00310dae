"""Transcripts as token ids: there and back, through JSON, and what is refused."""

import json

import numpy as np
import pytest

from demos.sequence import tokenizers
from demos.sequence.tokenizers import END, START, Characters, UnknownCharacter

SENTENCES = ["open the door", "close the window", "don't open the letter", "élan ß 42", "the end of the road"]


@pytest.fixture(params=tokenizers.KINDS)
def learned(request):
    """Tokens of `SENTENCES` of each kind."""
    if request.param == "subword":
        pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
    return tokenizers.learn(request.param, SENTENCES, 60)


def test_there_and_back(learned):
    for text in [*SENTENCES, "the letter of the law", "o"]:
        ids = learned.encode(text)
        assert ids.dtype == np.int32
        assert ids.min() > END > START == 0
        assert ids.max() < learned.size
        assert learned.decode([START, *ids, END]) == text


def test_through_json(learned):
    copy = tokenizers.from_json(json.loads(json.dumps(learned.to_json())))
    assert copy.size == learned.size
    for text in SENTENCES:
        np.testing.assert_array_equal(copy.encode(text), learned.encode(text))


def test_an_unknown_character_is_named(learned):
    with pytest.raises(UnknownCharacter, match="'q'"):
        learned.encode("quiet")


def test_decoded_text_has_single_spaces():
    characters = Characters("ab ")
    ids = [characters.encode(c)[0] for c in " a  b "]
    assert characters.decode(ids) == "a b"


def test_characters_are_numbered_by_code_point():
    assert Characters.learn(["cb", "a c"]).encode(" abc").tolist() == [2, 3, 4, 5]


def test_subwords_are_fewer_than_characters():
    pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
    learned = tokenizers.learn("subword", SENTENCES * 20, 60)
    assert learned.size <= 60
    assert len(learned.encode("open the door")) < len("open the door")


def test_no_text_is_too_long_for_subwords():
    pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
    learned = tokenizers.learn("subword", [*SENTENCES * 20, "quick foxes " * 500], 60)
    assert learned.decode(learned.encode("quick")) == "quick"


def test_too_small_a_subword_vocabulary():
    pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
    with pytest.raises(ValueError, match=r"--vocabulary-size must be at least .* Received: 5"):
        tokenizers.learn("subword", SENTENCES, 5)


def test_texts_with_the_mark_of_sentencepiece_are_learned_from():
    pytest.importorskip("sentencepiece", reason='subwords need pip install -e ".[speech]"')
    learned = tokenizers.learn("subword", [*SENTENCES, "\u2585 ж"], 60)
    assert 2 not in learned.encode("ж", strict=False)
