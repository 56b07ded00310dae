"""Turns audio files into text with a recogniser that demos.speech.train has trained.

Files may have any common format, sample rate, number of channels and length: those longer than what the recogniser
learned from are read piece by piece, and cut where it is quiet. A line of output is the file, the score and the text,
with tabs between them. A score is the mean log p of a token in nats, unless --length-penalty says otherwise; that of a
file is the mean of its pieces'.
"""

import dataclasses

from demos.kit import cli
from demos.kit.options import Group, option
from demos.sequence.options import Finding, run

EPILOG = "A file that cannot be used gives one line on standard error; the others go on, and the status is 1."
FORMATS = "audio of any common format (M4A, AAC, WebM, WMA and AMR by ffmpeg); - for standard input"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is read and written."""

    files: tuple[str, ...] = option((), FORMATS, flags=("files",), metavar="FILE", shown="")
    run: str = run("demos.speech.train")
    json: bool = option(
        False, "one line of JSON per file, with its pieces' starts, texts and scores", action="store_true"
    )


GROUPS = (Group("input and output", Options), Group("options of the search", Finding))
COMMAND = cli.Command("demos.speech.transcribe", __doc__ or "", EPILOG, GROUPS, "demos.speech.analysis.transcribe")
main = COMMAND.main

if __name__ == "__main__":
    raise SystemExit(main())
