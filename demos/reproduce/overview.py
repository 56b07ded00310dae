"""Which claims are met by which networks: how many, and a table for each table and figure of the paper."""

from collections.abc import Sequence
from typing import NamedTuple

from demos.reproduce import verdict
from demos.reproduce.document import Block, Finding, Heading, Paragraph, Table
from demos.reproduce.experiment import TITLES, Claim, Experiment
from demos.reproduce.questions import OVER_CONFIDENT

# Parts whose claims are not the paper's: whether they can be expected to hold, and where they do
NO_CLAIM = ("regime", "advice")
NOT_RUN = "not run yet"
WORDS = (verdict.AGREES, verdict.DISAGREES, verdict.CANNOT_TELL)
LIKE, UNLIKE = "of networks at least about as over-confident as the paper's", "of networks that are not"
UNKNOWN, UNASKED = (
    "of networks whose over-confidence is undecided",
    "of experiments whose over-confidence is not compared with the paper's",
)
AFTERWARDS = "of experiments that were added later to explain what did not agree, whatever their networks"
KINDS = (LIKE, UNLIKE, UNKNOWN, UNASKED, AFTERWARDS)
EXPLAINED = (
    "Networks are at least about as over-confident as the paper's ResNet-56 on CIFAR-100 if all claims under "
    f"*{TITLES['regime']}* agree; translators, as the paper's Transformer on WMT, if their ECE with hard targets is "
    f"above {OVER_CONFIDENT['translation'][0]:g} and their temperature above {OVER_CONFIDENT['translation'][1]:g}. "
    "This is judged for every experiment that measures it, even without a section there; if all agree, its name is in "
    "*italics* below. If one does not, smoothing has less to mend, or nothing. The paper has no such numbers for "
    "speech. A dagger (†) marks experiments that were added later."
)


class Judgement(NamedTuple):
    """What became of a claim."""

    part: str  # that has it, a key of TITLES
    experiment: Experiment
    claim: Claim
    networks: str  # of what kind those are that the claim is about, one of `KINDS`
    finding: Finding


def of(judgements: Sequence[Judgement]) -> list[Block]:
    """The numbers of claims that are met, by the kind of networks, and then each claim with its experiments."""
    words: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for each in judgements:
        if each.part not in NO_CLAIM and each.finding.word != NOT_RUN:
            words[AFTERWARDS if each.experiment.afterwards else each.networks].append(each.finding.word)
    counts = [[kind, *(str(said.count(word)) for word in WORDS)] for kind, said in words.items() if said]
    blocks: list[Block] = [Table([("the paper's claims", *WORDS), *counts]), Paragraph(EXPLAINED)]
    for part, title in TITLES.items():
        of_part = [each for each in judgements if each.part == part]
        columns = [*WORDS, *[NOT_RUN] * any(each.finding.word == NOT_RUN for each in of_part)]
        claims: dict[str, list[Judgement]] = {}
        for each in of_part:
            claims.setdefault(each.claim.says, []).append(each)
        if claims:
            rows = [[says, *(_experiments(there, word) for word in columns)] for says, there in claims.items()]
            blocks += [Heading(3, title), Table([("claim", *columns), *rows])]
    return blocks


def _experiments(judgements: Sequence[Judgement], word: str) -> str:
    """The experiments of which a claim was judged so, with the cases that it was judged so of."""
    cases: dict[str, list[str]] = {}
    for each in judgements:
        if each.finding.word == word:
            name = each.experiment.name + "†" * each.experiment.afterwards
            emphasised = each.networks == LIKE and word != NOT_RUN
            cases.setdefault(f"*{name}*" if emphasised else name, []).append(each.claim.case)
    return ", ".join(f"{name} ({'; '.join(of_it)})" if any(of_it) else name for name, of_it in cases.items())
