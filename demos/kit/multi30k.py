"""Multi30k, captions of photographs in English and German (Elliott et al. 2016), and where it is to be had."""

import pathlib

from demos.kit.download import Archive, find

NAME = "multi30k"  # of the folder that holds it
URL = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
SHA256 = {
    "train.en": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.de": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "val.en": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.de": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "test_2016_flickr.en": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.de": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
}
ARCHIVES = tuple(Archive(f"{URL}/{name}.gz", sha256) for name, sha256 in SHA256.items())


def directory(data_dir: str | None) -> pathlib.Path:
    """The directory with its files: --data-dir, $KERAS_LS_DATA, a folder of its name there, or a download."""
    return find(NAME, data_dir, "train.de", ARCHIVES)
