"""The report: for each table and figure the paper's numbers and ours, and whether ours agree, from what trials kept."""

import pathlib
import re
import shlex
from collections.abc import Collection
from typing import Any

from demos.kit import drawing, pictures, records
from demos.reproduce import document, overview, questions, verdict
from demos.reproduce.document import Block, Code, Finding, Heading, Paragraph, Picture, Table
from demos.reproduce.experiment import SCALES, TITLES, Number, Part
from demos.reproduce.glossary import CAPTIONS, TERMS
from demos.reproduce.kept import Found, read
from demos.reproduce.overview import LIKE, NOT_RUN, UNASKED, UNKNOWN, UNLIKE, Judgement

# What says which networks of a run a number is of; the rest of its `where` says which run
OF_NETWORKS = ("label_smoothing", "name", "curve", "temperature")
SHOWN_AS = {verdict.AGREES: "yes", verdict.DISAGREES: "no", verdict.CANNOT_TELL: "unsure", NOT_RUN: "unsure"}
NOT_INCLUDED = "Of the paper's data ImageNet, WSJ and WMT are not included at any scale."
PAPER = "Müller, Kornblith and Hinton, When Does Label Smoothing Help?, NeurIPS 2019 (arXiv:1906.02629)"


def write(results: pathlib.Path, scale: str, only: Collection[str], out: pathlib.Path) -> list[pathlib.Path]:
    """Writes report.md, report.html and the pictures into a directory; returns the paths of the first two."""
    found = read(results, scale, only)
    blocks = make(found, scale, only)
    for each in found:
        for name in each.experiment.chosen(only):
            part = each.experiment.parts[name]
            if part.picture and each.of_demo(part.picture[0]):
                demo, drawn = part.picture
                figure = drawing.picture(each.drawn(demo), drawn, results / scale / each.experiment.name)
                pictures.save(figure, [out / picture_of(each, name)])
    texts = {"report.md": document.to_markdown(blocks), "report.html": document.to_html(blocks, out)}
    for name, text in texts.items():
        records.write_text(out / name, text)
    return [out / name for name in texts]


def make(found: list[Found], scale: str, only: Collection[str]) -> list[Block]:
    """The report without its pictures, which it only names."""
    sections: list[Block] = []
    absent: list[str] = []
    judgements: list[Judgement] = []
    for name in TITLES:
        there = [each for each in found if name in each.experiment.chosen(only)]
        if not there:
            absent += [TITLES[name]] * (name in only)
            continue
        sections.append(Heading(2, TITLES[name]))
        for each in there:
            part = each.experiment.parts[name]
            findings = judged(each, part)
            for claim, finding in zip(part.claims, findings, strict=True):
                number = next(number for number in part.numbers if number.label == claim.number)
                judgements.append(Judgement(name, each.experiment, claim, likeness(each, number), finding))
            sections += section(each, name, findings)
    done, missing = sum(len(each.kept) for each in found), sum(len(each.missing) for each in found)
    seconds = [kept["seconds"] for each in found for kept in each.kept]
    spent = f"in {sum(seconds) / 3600:.1f} hours, the longest in {max(seconds, default=0) / 60:.0f} minutes"
    return [
        Heading(1, f"When Does Label Smoothing Help? Reproduced at the scale {scale}"),
        Paragraph(f"What follows stands beside {PAPER}. The scale is *{scale}*: {SCALES[scale]}."),
        Paragraph(f"{done} of {done + missing} trials have been run, {spent}. {NOT_INCLUDED}"),
        Heading(2, "What agrees"),
        Paragraph(verdict.RULE),
        *overview.of(judgements),
        *sections,
        *[Paragraph(f"Not at this scale: {'; '.join(title.removesuffix('?') for title in absent)}.")] * bool(absent),
    ]


def likeness(found: Found, number: Number) -> str:
    """Whether the networks of the runs that a number is of are as over-confident as those that the paper speaks of."""
    demo = next((demo for demo in questions.TRAINED if found.of_demo(demo)), None)
    if demo is None:
        return UNASKED
    of_runs = {name: value for name, value in number.where.items() if name not in OF_NETWORKS}
    regime, rows = questions.regime(demo, **of_runs), list(found.rows())
    if not all(verdict.values(each, rows) for each in regime.numbers):
        return UNASKED
    words = {finding.word for finding in judged(found, regime)}
    if verdict.DISAGREES in words:
        return UNLIKE
    return LIKE if words == {verdict.AGREES} else UNKNOWN


def judged(found: Found, part: Part) -> list[Finding]:
    """What became of the claims of a part."""
    rows, own, findings = list(found.rows()), list(found.own_rows()), []
    numbers = {number.label: verdict.values(number, rows) for number in part.numbers}
    chosen = [number.label for number in part.numbers if "@" in number.path]
    for claim in part.claims:
        said, of_claim = verdict.judge(claim, numbers, chosen), (claim.number, claim.than)
        named = [number for number in part.numbers if number.label in of_claim]
        is_run = any(verdict.seeds(each, own) for each in named) and all(verdict.seeds(each, rows) for each in named)
        word = NOT_RUN if found.missing and not is_run else said.word
        findings.append(Finding(SHOWN_AS[word], claim.sentence, word, said.why))
    return findings


def section(found: Found, name: str, findings: list[Finding]) -> list[Block]:
    """What the report has of an experiment for a table or figure."""
    experiment, part = found.experiment, found.experiment.parts[name]
    blocks: list[Block] = [Heading(3, experiment.name), Paragraph(experiment.about)]
    blocks.append(Paragraph(f"The paper: {experiment.paper}."))
    if found.kept:
        blocks += [*numbers(found, part), *findings]
        why = experiment.why.get(found.scale, {}).get(name)
        is_open = any(finding.word in (verdict.DISAGREES, verdict.CANNOT_TELL) for finding in findings)
        if why and is_open and not found.missing:  # it speaks of all seeds
            blocks.append(Paragraph(f"Why? {why}"))
        if part.picture and found.of_demo(part.picture[0]):
            shows = f"{TITLES[name]}, {experiment.name}{CAPTIONS.get(part.picture[1], '')}"
            blocks.append(Picture(picture_of(found, name), shows))
    if experiment.hard_targets and not found.compared:
        blocks.append(Paragraph(f"Its hard targets are those of {experiment.hard_targets}, which has not been run."))
    if found.missing:
        setting = found.missing[0].setting
        about = f"; about {setting.minutes:g} minutes each on {setting.machine}" if setting.minutes else ""
        if setting.once_trained is not None:
            about += f", or {setting.once_trained:g} where another experiment has trained their networks"
        blocks.append(Paragraph(f"Not run yet: {', '.join(trial.label for trial in found.missing)}{about}."))
    return [*blocks, Code(commands(found)), *facts(found)]


def numbers(found: Found, part: Part) -> list[Block]:
    """The numbers of a part with their intervals, the paper's beside them where it has any, and what they are."""
    measured, is_in_paper = list(found.rows()), any(number.paper for number in part.numbers)
    rows = [("", *["the paper"] * is_in_paper, "here, ± 95 % interval", "seeds")]
    for number in part.numbers:
        values, trained = verdict.values(number, measured), verdict.seeds(number, measured)
        mean = str(verdict.interval(list(values.values()))) if values else ""
        without = f" of {len(trained)}" if len(values) < len(trained) else ""
        count = f"{len(values)}{without}" if trained else ""
        rows.append((number.label, *[number.paper] * is_in_paper, mean, count))
    notes = [f'Column "the paper": {part.source}.'] * is_in_paper
    notes += [what for term, what in TERMS.items() if any(re.search(term, number.label) for number in part.numbers)]
    if any(" of " in count for *_, count in rows):
        notes.append("Where there are fewer seeds than were trained, the others diverged, or lack the number.")
    return [Table(rows), *[Paragraph(" ".join(notes))] * bool(notes)]


def commands(found: Found) -> str:
    """How to get the results: the commands alone where one trial is all, since others need folders of their own."""
    if len(found.kept) + len(found.missing) == 1:
        return "\n".join(found.kept[0]["commands"] if found.kept else found.missing[0].said())
    lines = [f"python -m demos.reproduce --scale {found.scale} --only {found.experiment.name}"]
    lines += ["# which runs, in folders of their own, for each trial:"] * bool(found.kept)
    for kept in found.kept:
        said = [without_overruled(command, kept["arguments"]) for command in kept["commands"]]
        lines += [f"# {line}" for line in (kept["trial"], *said)]
    return "\n".join(lines)


def without_overruled(command: str, last: str) -> str:
    """The command without earlier values of the options `last` that end it."""
    if not last or not command.endswith(f" {last}"):
        return command
    before, kept = command.removesuffix(f" {last}"), True
    overruled, words = {word for word in shlex.split(last) if word.startswith("--")}, []
    for word in shlex.split(before):
        kept = word not in overruled if word.startswith("--") else kept
        words += [word] * kept
    return f"{shlex.join(words)} {last}"


def facts(found: Found) -> list[Block]:
    """Data, steps, seeds, machine and time of what was kept."""
    if not found.kept:
        return []
    of_first = [kept["results"][0] for kept in found.kept]
    said = {
        "Data and networks": [found.experiment.run_on] if found.experiment.run_on else titles(of_first),
        "Examples": [examples_of(results["settings"]) for results in of_first],
        "Steps": [steps_of(results["settings"]) for results in of_first],
        "Chosen on other data": [chosen_in(results) for results in of_first if "selection" in results],
        "Machine": [f"{kept['machine']} ({kept['results'][0]['provenance']['device']})" for kept in found.kept],
        "Versions": [
            ", ".join(f"{package} {version}" for package, version in results["provenance"]["versions"].items())
            for results in of_first
        ],
        "Commit": [kept.get("code") or "not recorded" for kept in found.kept],
        "Time": [f"{sum(kept['seconds'] for kept in found.kept) / 60:.1f} minutes"],
        "Networks of other trials": networks_of_others(found),
        "Run together": run_together(found),
        "Hard targets": [f"those of {found.experiment.hard_targets}"] * bool(found.compared),
    }
    known = {name: "; ".join(dict.fromkeys(texts)) for name, texts in said.items() if any(texts)}
    return [Table([("run", ""), *known.items()])]


def networks_of_others(found: Found) -> list[str]:
    """How long it took to train networks that trials of these only measure."""
    trained = [sum(row.get("seconds", 0) for row in kept["results"][0]["trials"]) for kept in found.kept]
    before = sum(took for took, kept in zip(trained, found.kept, strict=True) if took > kept["seconds"])
    return [f"trained in {before / 60:.1f} minutes"] * (before > 0)


def run_together(found: Found) -> list[str]:
    """Which trials are the results of one command that trained more networks, which were then kept apart."""
    together: dict[str, list[str]] = {}
    for kept in found.kept:
        if "cut_from" in kept:
            together.setdefault(kept["cut_from"]["commands"][0], []).append(kept["trial"])
    return [", ".join(trials) for trials in together.values()]


def titles(of_first: list[dict[str, Any]]) -> list[str]:
    """What runs are of; the table above has the seeds of several, and intervals in place of standard deviations."""
    left_out = r", \d+ seeds?\b.*" if len(of_first) > 1 else r" \(mean ± s\.d\.\)$"
    return [re.sub(left_out, "", results["title"]) for results in of_first]


def chosen_in(results: dict[str, Any]) -> str:
    """What a run chose by itself; trials that chose differently are of different networks."""
    return ", ".join(
        f"{kind}: rate {chosen['rate']:g}, dropout {chosen['dropout']:g}"
        for kind, chosen in results["selection"].items()
    )


def examples_of(settings: dict[str, Any]) -> str:
    """How many images, rows of a table or utterances a run trains and measures on, and how deep its ResNet is."""
    if spoken := settings.get("utterances"):
        return f"{spoken['train']:,} to train on, {spoken['dev']:,} for development, {spoken['test']:,} held out"
    if not isinstance(settings.get("data"), dict):
        return ""
    counts = f"{settings['data']['training_images']:,} to train on, {settings['data']['held_out_images']:,} held out"
    return f"{counts}, ResNet-{settings['depth']}" if settings.get("model") == "resnet" else counts


def steps_of(settings: dict[str, Any]) -> str:
    """The updates of each network, as the settings of a run have them."""
    if "steps" in settings:
        return f"{settings['steps']:,}"
    roles = {role: settings[role][1]["steps"] for role in ("teacher", "student") if role in settings}
    return ", ".join(f"{role} {steps:,}" for role, steps in roles.items())


def picture_of(found: Found, name: str) -> str:
    """The file of a picture, beside the report."""
    return f"pictures/{found.experiment.name}-{name}.png"
