"""Lines of text to their translations: what demos.translation.translate does."""

import itertools
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from demos.kit import cli, texts
from demos.kit.options import Chosen
from demos.sequence.buckets import padded
from demos.sequence.earlier import choose
from demos.sequence.search import Hypothesis, Searcher
from demos.sequence.tokenizers import END
from demos.sequence.translator import GROWTH, ROOM, Translator
from demos.translation.analysis import earlier

LONGEST = 400  # the most tokens of a sentence
WIDTHS = 16  # of which those of batches are multiples


def plan(options: Chosen) -> tuple[Searcher, Chosen]:
    """Loads the network that was asked for; of several, that of the highest BLEU, then chrF, on dev."""
    if absent := [name for name in options.files if name != "-" and not pathlib.Path(name).exists()]:
        raise ValueError(f"FILE must exist. Received: {absent[0]}.")
    fields = {"dev_beam_bleu": float, "dev_beam_chrf": float}  # BLEU is 0 for all where sentences are short
    chosen = choose(options, fields, lambda result: (-result["dev_beam_bleu"], -result["dev_beam_chrf"]))
    tokens = earlier.tokens(pathlib.Path(options.run))
    return Searcher(chosen.load(Translator, tokens), tokens, GROWTH * LONGEST + ROOM), options


def run(planned: tuple[Searcher, Chosen]) -> None:
    """Prints the translations of all lines, in their order; an OSError names the first that cannot be read."""
    searcher, options = planned
    errors: list[str] = []
    waiting = lines(options, errors)
    while some := list(itertools.islice(waiting, options.batch_size)):
        for (_, line), found in zip(some, translate(searcher, some, options), strict=True):
            print(*shown(line, found, options), sep="\n", flush=True)
    if errors:
        raise OSError(errors[0])


def lines(options: Chosen, errors: list[str]) -> Iterator[tuple[str, str]]:
    """Places and texts of lines of files, or of standard input; stops at what cannot be read, which `errors` gets."""
    for name in options.files or ["-"]:
        source = "standard input" if name == "-" else name
        number = 0
        try:
            with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
                for number, line in enumerate(file, start=1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    yield f"{source} line {number}", texts.sentence(text)
        except (OSError, UnicodeDecodeError) as error:
            what = "cannot be read" if isinstance(error, OSError) else f"line {number} is not UTF-8"
            errors.append(f"{source} {what}: {error}")
            return


def translate(searcher: Searcher, sentences: list[tuple[str, str]], options: Chosen) -> list[list[Hypothesis]]:
    """The translations of some sentences, none of empty ones; sentences beyond the longest are cut, with a note."""
    ids = []
    for place, sentence in sentences:
        tokens = searcher.tokens.encode(sentence, strict=False)
        if len(tokens) >= LONGEST:
            print(f"Note: {place} has {len(tokens)} tokens and is cut at {LONGEST - 1}.", file=sys.stderr, flush=True)
        ids.append(np.append(tokens[: LONGEST - 1], END))
    # Few widths, since each is compiled where XLA is used.
    sources, lengths = padded(ids, -(-max(map(len, ids)) // WIDTHS) * WIDTHS)
    how = options.beam_width, options.temperature, options.length_penalty, options.n_best
    found = searcher.hypotheses({"sources": sources, "num_sources": lengths}, *how)
    return [hypotheses if sentence else [] for (_, sentence), hypotheses in zip(sentences, found, strict=True)]


def shown(line: str, found: list[Hypothesis], options: Chosen) -> list[str]:
    """What is printed of a line: its translation; a line for each of several with its score; or one line of JSON."""
    if options.json:
        rows = [{"text": text, "score": round(score, 4)} for text, score in found]
        return [cli.json_line({"source": line, "translations": rows})]
    if options.n_best == 1:
        return [found[0].text if found else ""]
    return [f"{score:.4f}\t{text}" for text, score in found] or [""]
