"""COCO content of twelve small photos to export from, and pycocotools as the oracle of masks."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

from messi_lib.cli import main
from messi_lib.data.coco_select import Selection, select

H, W = 24, 40


LEFT = [[2, 2, 14, 2, 14, 20, 2, 20]]


RIGHT = [[10, 4, 30, 4, 30, 22, 10, 22]]


TINY = [[1, 1, 3, 1, 3, 3, 1, 3]]


CROWD = {"size": [H, W], "counts": [0, 96, H * W - 96]}


LICENCES = [
    {"id": 1, "name": "Attribution-NonCommercial License",
     "url": "http://creativecommons.org/licenses/by-nc/2.0/"},
    {"id": 4, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"},
]  # fmt: skip


def person(image_id: int, outline, number: int, **more) -> dict:
    return {"id": number, "image_id": image_id, "category_id": 7, "iscrowd": 0, "area": 1.0,
            "bbox": [0, 0, 1, 1], "segmentation": outline, **more}  # fmt: skip


class Source:
    """COCO content of 12 photos (ids 1 to 12) and a folder with them."""

    def __init__(self, folder: Path):
        self.folder, self.photos = folder, folder / "photos"
        self.json, self.out = folder / "instances_x.json", folder / "out"
        self.photos.mkdir()
        self.content = {
            "info": {"description": "x"},
            "licenses": LICENCES,
            "categories": [{"id": 7, "name": "person"}, {"id": 9, "name": "dog"}],
            "images": [
                {"id": n, "file_name": f"{n:04d}.png", "height": H, "width": W,
                 "license": 1 if n % 2 else 4, "coco_url": f"http://127.0.0.1:1/train/{n:04d}.png",
                 "flickr_url": f"http://farm1.staticflickr.com/1/{1000 + n}_ab_z.jpg"}
                for n in range(1, 13)
            ],
            "annotations": [person(n, LEFT, n) for n in range(1, 13)],
        }  # fmt: skip
        for n in range(1, 13):
            self.draw(self.photos / f"{n:04d}.png", n)

    @staticmethod
    def draw(path: Path, seed: int, height: int = H, width: int = W) -> None:
        noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(noise).save(path, "PNG")

    def entry(self, number: int) -> dict:
        return next(e for e in self.content["annotations"] if e["id"] == number)

    def select(self, **options):
        chosen = Selection(**({"test": 2} | options))
        return select(json.loads(json.dumps(self.content)), chosen, "x.json")

    def run(self, *arguments: object, images: bool = True) -> int:
        self.json.write_text(json.dumps(self.content))
        given = ["--annotations", self.json, "--out", self.out]
        given += ["--images", self.photos] if images else []
        given += [] if "--test" in arguments else ["--test", 2]
        return main([str(a) for a in ("data", "people", *given, *arguments)])

    def rows(self, name: str) -> list[dict]:
        return list(csv.DictReader((self.out / name).read_text().splitlines()))

    def written(self) -> list[dict]:
        """Images of the COCO file that was written."""
        return json.loads((self.out / "instances.json").read_text())["images"]

    def files(self) -> set[str]:
        found = self.out.rglob("*")
        return {str(path.relative_to(self.out)) for path in found if path.is_file()}


def complaint(capsys) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def oracle(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def ored(coco: COCO, image_id: int, crowd: bool) -> np.ndarray:
    image = coco.imgs[image_id]
    region = np.zeros((image["height"], image["width"]), bool)
    for entry in coco.imgToAnns[image_id]:
        if coco.cats[entry["category_id"]]["name"] == "person" and bool(entry["iscrowd"]) == crowd:
            region |= coco.annToMask(entry).astype(bool)
    return region


def check_masks(original: Path, out: Path, ids: list[int]) -> None:
    """The PNGs and the written COCO file equal the source's `annToMask`, or-ed, bit for bit."""
    before, after = oracle(original), oracle(out / "instances.json")
    for number in ids:
        stem = Path(after.imgs[number]["file_name"]).stem
        for folder, crowd in (("person", False), ("ignore", True)):
            with Image.open(out / folder / f"{stem}.png") as image:
                assert image.mode == "L"
                png = np.array(image)
            wanted = ored(before, number, crowd)
            assert np.array_equal(png, wanted * np.uint8(255)), (number, folder)
            assert np.array_equal(ored(after, number, crowd), wanted)
