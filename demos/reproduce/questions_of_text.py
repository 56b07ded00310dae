"""What the paper asks of speech recognisers and translators."""

import dataclasses

from demos.reproduce import questions
from demos.reproduce.experiment import Claim, Number, Part

MEASURES = {"bleu": "BLEU", "chrf": "chrF"}
SPEECH, SWEEP = "demos.speech.train", "demos.speech.beam_search"
HARD = {"label_smoothing": 0.0}
LESS_LIKELY = "The likelihood is worse with smoothing."
WARMER = "A temperature above 1 is best for the search with hard targets."


def speech(alpha: float, more: tuple[float, ...] = ()) -> dict[str, Part]:
    """All that there is to speech; with `more` label smoothing it is asked of each whether it errs less."""
    beside = speech_beside_other_networks(alpha, more)
    words, tuned = beside["speech"], beside["fig4"]
    *beam, greedy, greedy_smoothed = words.numbers
    widest = Number("WER % of the widest beam, hard targets", SWEEP, "beam_width.wer.-1", HARD, unit="%")
    hard, smoothed = questions.pair("NLL", SPEECH, "nll", alpha)
    nll = (*questions.shown("NLL", SPEECH, "nll", more), smoothed)
    less_likely = [
        Claim(LESS_LIKELY, each.label, "above", hard.label, case=case)
        for each, case in zip(nll, cases(alpha, more), strict=True)
    ]
    wide = Claim("With hard targets wide beams err more than greedy search.", widest.label, "above", greedy.label)
    numbers = (*beam, widest, greedy, greedy_smoothed, hard, *nll)
    best = Number("temperature of the fewest wrong words, hard targets", SWEEP, "temperature.temperature@wer", HARD)
    above = Claim(WARMER, best.label, "above", 1.0)
    by_ece, by_nll = (
        Number(f"WER % where {by.upper()} is least, hard targets", SWEEP, f"temperature.wer@{by}", HARD, unit="%")
        for by in ("ece", "nll")
    )
    finds = Claim(
        "The least ECE finds the better temperature for the WER than the least NLL.",
        by_ece.label,
        "below",
        by_nll.label,
    )
    at = (*tuned.numbers, by_ece, by_nll, best)
    return {
        "speech": dataclasses.replace(words, numbers=numbers, claims=(*words.claims, wide, *less_likely)),
        "fig4": Part(tuned.source, at, (*tuned.claims, above, finds), (SWEEP, "temperature.png")),
    }


def speech_beside_other_networks(alpha: float, more: tuple[float, ...] = ()) -> dict[str, Part]:
    """What `speech` says of smoothing, without what it says of hard targets alone."""
    hard, smoothed = questions.pair("beam WER %", SPEECH, "beam_wer", alpha, ("8.9", "7.0, 6.7"), "%")
    beams = (*questions.shown("beam WER %", SPEECH, "beam_wer", more, "%"), smoothed)
    greedy = questions.pair("greedy WER %", SPEECH, "greedy_wer", alpha, unit="%")
    tuned = Number("beam WER % at its best temperature, hard targets", SWEEP, "temperature.wer.min", HARD, unit="%")

    def less(says: str, than: Number) -> tuple[Claim, ...]:
        return tuple(
            Claim(says, beam.label, "below", than.label, case=case)
            for beam, case in zip(beams, cases(alpha, more), strict=True)
        )

    at_1 = tuple(dataclasses.replace(beam, paper="") for beam in beams)
    source = "WSJ, BiLSTM with attention; 7.0 and 6.7 are not of uniform smoothing (Chorowski and Jaitly 2017)"
    no_temperature = less("No temperature gives hard targets the WER that smoothing has at T = 1.", tuned)
    errs_less = less("Beam search errs less with smoothing.", hard)
    return {
        "speech": Part(source, (hard, *beams, *greedy), errs_less, (SWEEP, "beam_width.png")),
        "fig4": Part("WMT EN-DE, Transformer: a picture, of BLEU", (*at_1, tuned), no_temperature),
    }


def cases(alpha: float, more: tuple[float, ...]) -> list[str]:
    """What tells claims of `more` label smoothing and of `alpha` apart."""
    return [f"α = {each:g}" if more else "" for each in (*more, alpha)]


def sums(alpha: float) -> Part:
    """Word error rates of speech where the greatest sum of log p wins, whatever the length."""
    widest = questions.pair("WER % of the widest beam", SWEEP, "beam_width.wer.-1", alpha, unit="%")
    greedy = questions.pair("greedy WER %", SPEECH, "greedy_wer", alpha, unit="%")
    claim = Claim(
        "With hard targets wide beams err more than greedy search.", widest[0].label, "above", greedy[0].label
    )
    source = "WSJ, BiLSTM with attention (Chorowski and Jaitly 2017)"
    return Part(source, (*widest, *greedy), (claim,), (SWEEP, "beam_width.png"))


def found_texts(alpha: float, measure: str, more: tuple[float, ...]) -> Part:
    """What beams find, by BLEU or chrF, and the likelihood; those of `more` label smoothing are only shown."""
    demo, name = "demos.translation.train", MEASURES[measure]
    papers, said = ("", ""), ""
    if measure == "bleu":
        papers, said = ("25.3", "25.8"), "; BLEU: without case, ours with it"
    texts = questions.pair(name, demo, f"beam_{measure}", alpha, papers, "%")
    others = questions.shown(name, demo, f"beam_{measure}", more, "%")
    nll = questions.pair("NLL", demo, "nll", alpha, ("1.54", "1.59"))
    claims = (
        questions.compare("Beam search gains from smoothing.", texts, "above"),
        questions.compare(LESS_LIKELY, nll, "above"),
    )
    return Part(f"WMT EN-DE, Transformer (NLL: log of its perplexity{said})", (*texts, *others, *nll), claims)


def against_temperature(alpha: float, measure: str) -> Part:
    """Figure 4."""
    demo, name = "demos.translation.calibration", MEASURES[measure]
    tuned = questions.pair(f"{name} at its best temperature", demo, f"temperature.{measure}.max", alpha, unit="%")
    smoothed = {"label_smoothing": alpha}
    plain = Number(f"{name} at T = 1, α = {alpha:g}", "demos.translation.train", f"beam_{measure}", smoothed, unit="%")
    says = f"No temperature gives hard targets the {name} that smoothing has at T = 1."
    by_ece, by_nll = (
        Number(f"{name} where {by.upper()} is least", demo, f"temperature.{measure}@{by}", HARD, unit="%")
        for by in ("ece", "nll")
    )
    best = Number(f"temperature of the best {name}, hard targets", demo, f"temperature.temperature@-{measure}", HARD)
    claims = (
        Claim(says, plain.label, "above", tuned[0].label),
        Claim(WARMER, best.label, "above", 1.0),
        Claim(
            f"The least ECE finds the better temperature for {name} than the least NLL.",
            by_ece.label,
            "above",
            by_nll.label,
        ),
    )
    numbers = (*tuned, plain, by_ece, by_nll, best)
    return Part("WMT EN-DE, Transformer: a picture", numbers, claims, (demo, "temperature.png"))


def tokens(alpha: float) -> Part:
    """Figure 7."""
    demo = "demos.translation.calibration"
    ratio = questions.pair("within / between, frequent tokens", demo, "tokens.ratio", alpha)
    claims = (questions.compare("Clusters of tokens tighten with smoothing.", ratio, "below"),)
    return Part("WMT EN-DE, Transformer: a picture", ratio, claims, (demo, "tokens.png"))


def translation(alpha: float, measure: str = "bleu", more: tuple[float, ...] = ()) -> dict[str, Part]:
    """All that there is to translation; BLEU is 0 where sentences have fewer than four words, and chrF is not."""
    demo = "demos.translation.train"
    return {
        "table3": questions.table3("translation", alpha, demo, more),
        "fig3": questions.reliability("translation", alpha, demo),
        "fig4": against_temperature(alpha, measure),
        "fig7": tokens(alpha),
        "translation": found_texts(alpha, measure, more),
    }
