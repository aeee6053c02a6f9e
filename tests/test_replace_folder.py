"""A batch that is shared, killed, gone on with, and shown on a page."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from red_people import TWO, find_red, save, scene, tools_of_16

from messi_lib.replace import replace_folder
from messi_lib.replace.page import as_html
from messi_lib.replace.record import parse_shard, read_reports


@pytest.fixture
def tools():
    return tools_of_16()


@pytest.fixture
def many(tmp_path):
    """Seven photos, two of them with the same name."""
    for number, name in enumerate(("a/x", "a/y", "b/x", "b/z", "c/u", "c/v", "c/w")):
        save(tmp_path / "in" / f"{name}.png", scene(*TWO, seed=number))
    return tmp_path / "in"


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


def names(report):
    return [Path(entry["output"]).name for entry in report]


class TestShards:
    def test_together_they_make_what_one_run_makes(self, many, tmp_path, tools):
        whole = replace_folder([many], tmp_path / "whole", **tools)
        parts = []
        for number in (3, 1, 2):  # in any order
            parts += replace_folder([many], tmp_path / "out", shard=f"{number}/3", **tools)
        assert contents(tmp_path / "out") == contents(tmp_path / "whole")
        assert sorted(names(parts)) == sorted(names(whole)) and "x_2.png" in names(whole)
        files = sorted(p.name for p in (tmp_path / "out").glob("report*"))
        assert files == [f"report-{n}-of-3.json" for n in (1, 2, 3)]

    def test_a_last_run_brings_the_reports_together(self, many, tmp_path, tools):
        for number in (1, 2):
            replace_folder([many], tmp_path / "out", shard=f"{number}/2", **tools)
        before = contents(tmp_path / "out")
        calls = len(tools["denoiser"].calls)
        report = replace_folder([many], tmp_path / "out", skip_existing=True, page=True, **tools)
        assert len(tools["denoiser"].calls) == calls and contents(tmp_path / "out") == before
        assert len(report) == 7 and all(entry["seams"] for entry in report)
        assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
        assert (tmp_path / "out" / "report.html").exists()

    def test_more_shards_than_photos(self, many, tmp_path, tools):
        assert replace_folder([many], tmp_path / "out", shard="9/9", **tools) == []

    @pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "a/b", "1/0", "1/2/3", "-1/3", "1/ 3"])
    def test_wrong_ones(self, shard, many, tmp_path, tools):
        with pytest.raises(ValueError, match="shard="):
            replace_folder([many], tmp_path / "out", shard=shard, **tools)
        assert not (tmp_path / "out").exists()
        assert parse_shard("") == (1, 1) and parse_shard("16/16") == (16, 16)


class TestGoingOn:
    def test_what_is_there_is_left_alone(self, many, tmp_path, tools):
        first = replace_folder([many], tmp_path / "out", **tools)
        Path(first[2]["output"]).unlink()
        before = contents(tmp_path / "out")
        seen = []

        def finder(pixels):
            seen.append(1)
            return find_red(pixels)

        again = replace_folder(
            [many], tmp_path / "out", skip_existing=True, segmenter=finder,
            denoiser=tools["denoiser"], seed=3,
        )  # fmt: skip
        assert len(seen) == 1 and names(again) == names(first)
        after = contents(tmp_path / "out")
        assert all(after[name] == before[name] for name in before if "x_2" not in name)
        assert again[2]["seed"] == 3 and again[:2] == first[:2]

    def test_failures_are_tried_again(self, many, tmp_path, tools):
        bad = many / "c" / "bad.png"
        bad.write_bytes(b"")
        first = replace_folder([many], tmp_path / "out", **tools)
        assert sum(bool(e["error"]) for e in first) == 1
        assert "0 bytes" in next(e["error"] for e in first if e["error"])
        save(bad, scene(*TWO))
        again = replace_folder([many], tmp_path / "out", skip_existing=True, **tools)
        assert not any(e["error"] for e in again) and (tmp_path / "out" / "bad.png").exists()

    def test_a_repaired_photo_is_no_failure_in_a_merged_report(self, many, tmp_path, tools):
        bad, out = many / "c" / "bad.png", tmp_path / "out"
        bad.write_bytes(b"")
        for _ in range(2):  # the second time repaired
            for shard in ("1/2", "2/2"):
                replace_folder([many], out, skip_existing=True, shard=shard, **tools)
            merged = replace_folder([many], out, skip_existing=True, **tools)
            failed = [entry for entry in merged if entry["error"]]
            assert len(failed) == (bad.stat().st_size == 0)
            save(bad, scene(*TWO))

    def test_a_report_of_an_older_version_goes_into_the_page(self, many, tmp_path, tools):
        report = replace_folder([many], tmp_path / "out", **tools)
        new = {"size", "boxes", "seams", "seed", "overlay", "sheet", "candidates"}
        entries = [{k: v for k, v in entry.items() if k not in new} for entry in report]
        (tmp_path / "out" / "report.json").write_text(json.dumps(entries))
        again = replace_folder([many], tmp_path / "out", skip_existing=True, page=True, **tools)
        assert [e["output"] for e in again] == [e["output"] for e in report]
        assert (tmp_path / "out" / "report.html").exists()

    def test_results_without_a_report_count_too(self, many, tmp_path, tools):
        replace_folder([many], tmp_path / "out", **tools)
        (tmp_path / "out" / "report.json").unlink()
        report = replace_folder([many], tmp_path / "out", skip_existing=True, **tools)
        assert all("no report" in e["warnings"][0] for e in report)

    def test_another_format_is_not_there(self, many, tmp_path, tools):
        replace_folder([many], tmp_path / "out", **tools)
        report = replace_folder(
            [many], tmp_path / "out", skip_existing=True, format="webp", **tools
        )
        assert {Path(name).suffix for name in names(report)} == {".webp"}

    def test_a_killed_batch_loses_nothing(self, many, tmp_path):
        """SIGKILL, as the kernel does when memory runs out."""
        program = (
            "import sys, time; sys.path.insert(0, sys.argv[1])\n"
            "from red_people import find_red, tools_of_16\n"
            "from messi_lib.replace import replace_folder\n"
            "seen = []\n"
            "def slow(pixels):\n"
            "    seen.append(1)\n"
            "    time.sleep(600 if len(seen) == 4 else 0)\n"
            "    return find_red(pixels)\n"
            "tools = tools_of_16() | {'segmenter': slow}\n"
            "replace_folder([sys.argv[2]], sys.argv[3], **tools)\n"
        )
        out = tmp_path / "out"
        command = [sys.executable, "-c", program, str(Path(__file__).parent), str(many), str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        lines = out / "report.jsonl"
        end = time.monotonic() + 120
        while not (lines.exists() and lines.read_text().count("\n") == 3):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(read_reports(out)) == 3 and not (out / "report.json").exists()
        with open(lines, "ab") as file:
            file.write(b'{"photo": "tor')  # a line that was being written
        report = replace_folder([many], out, skip_existing=True, **tools_of_16())
        assert len(report) == 7 and all(entry["seams"] for entry in report)
        assert json.loads((out / "report.json").read_text()) == report
        assert not lines.exists() and not list(out.rglob("*.tmp"))


class TestNothingIsLost:
    def test_a_strangers_file_keeps_its_name(self, tmp_path, tools):
        photo = save(tmp_path / "in" / "a.png", scene(*TWO))
        other = save(tmp_path / "album" / "a.png", scene(seed=5))
        before = other.read_bytes()
        (entry,) = replace_folder([photo], tmp_path / "album", **tools)
        assert other.read_bytes() == before and names([entry]) == ["a_2.png"]
        assert any("is taken" in note for note in entry["warnings"])
        (again,) = replace_folder([photo], tmp_path / "album", seed=1, **tools)
        assert names([again]) == ["a_2.png"], "its own result may be made anew"
        assert other.read_bytes() == before

    def test_another_photo_of_that_name_in_a_later_run(self, tmp_path, tools):
        for folder in "xy":
            photo = save(tmp_path / folder / "a.png", scene(*TWO, seed=ord(folder)))
            replace_folder([photo], tmp_path / "out", **tools)
        found = json.loads((tmp_path / "out" / "report.json").read_text())
        assert names(found) == ["a.png", "a_2.png"], "the report is of the folder"

    def test_an_output_folder_inside_the_input(self, many, tools):
        first = replace_folder([many], many / "out", **tools)
        again = replace_folder([many], many / "out", **tools)
        assert [e["photo"] for e in first] == [e["photo"] for e in again]
        assert names(first) == names(again)


class TestWorkers:
    def test_any_number_makes_the_same(self, many, tmp_path, tools):
        one = replace_folder([many], tmp_path / "one", **tools)
        three = replace_folder([many], tmp_path / "three", workers=3, **tools)
        assert contents(tmp_path / "one") == contents(tmp_path / "three")
        assert names(one) == names(three), "the report is in order all the same"

    def test_a_bad_file_and_an_interruption(self, many, tmp_path, tools):
        (many / "a" / "bad.png").write_bytes(b"x")
        report = replace_folder([many], tmp_path / "out", workers=2, **tools)
        assert [bool(e["error"]) for e in report].count(True) == 1 and len(report) == 8
        seen = []

        def stop(pixels):
            seen.append(1)
            if len(seen) > 3:
                raise KeyboardInterrupt
            return find_red(pixels)

        with pytest.raises(KeyboardInterrupt):
            replace_folder(
                [many], tmp_path / "two", workers=2, segmenter=stop, denoiser=tools["denoiser"]
            )
        kept = json.loads((tmp_path / "two" / "report.json").read_text())
        assert 1 <= len(kept) < 8

    def test_none_is_refused(self, many, tmp_path, tools):
        with pytest.raises(ValueError, match="workers=0"):
            replace_folder([many], tmp_path / "out", workers=0, **tools)


class TestReport:
    def test_what_is_told_of_a_photo(self, tmp_path, tools):
        photo = save(tmp_path / "a.png", scene(*TWO))
        (entry,) = replace_folder([photo], tmp_path / "out", people="1", **tools)
        assert entry["size"] == [120, 90] and entry["seed"] == 0
        assert entry["boxes"] == [[10, 10, 50, 30], [30, 80, 60, 95]] and entry["chosen"] == [1]
        (seam,) = entry["seams"]
        assert seam["lab"] >= 0 and seam["gradient"] > 0
        assert Image.open(entry["overlay"]).size == (120, 90)
        assert entry["sheet"] is None and entry["candidates"] == []

    def test_a_number_that_is_none_is_null(self, tmp_path, tools):
        photo = save(tmp_path / "a.png", np.full((40, 40, 3), (255, 0, 0), np.uint8))
        (entry,) = replace_folder([photo], tmp_path / "out", **tools)
        assert entry["seams"] == [{"lab": None, "gradient": None}]
        assert "NaN" not in (tmp_path / "out" / "report.json").read_text()

    def test_the_page_holds_everything_and_asks_nobody(self, many, tmp_path, tools):
        save(many / "nobody.png", scene())
        save(many / "grey.png", scene(*TWO).mean(2).astype(np.uint8))
        (many / 'bad <b>"&.png').write_bytes(b"x")
        replace_folder([many], tmp_path / "out", page=True, candidates=2, **tools)
        page = (tmp_path / "out" / "report.html").read_text()
        sources = re.findall(r'(?:src|href)="([^"]*)"', page)
        assert sources and all(s.startswith("data:image/jpeg;base64,") for s in sources)
        assert "http" not in page and "bad &lt;b&gt;" in page and "bad <b>" not in page
        # two of each pair, who is who, and candidates; of those without people only the pair
        assert len(sources) == 9 * 2 + 7 * 2
        assert page.count('type="range"') == 9 and page.count("<article>") == 10

    def test_a_page_of_thousands_says_what_it_leaves_out(self, many, tmp_path, tools):
        report = replace_folder([many], tmp_path / "out", **tools)
        page = as_html(report, limit=3)
        assert page.count('type="range"') == 3 and "The first 3 are shown" in page
        Path(report[0]["output"]).unlink()
        assert "cannot be shown" in as_html(report)
