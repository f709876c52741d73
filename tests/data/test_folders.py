"""Folders of image files: which files count, what becomes of every kind of image, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Parts
from search.errors import DataError


def picture(path: Path, array: Any, mode: str | None = None, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(value: int = 100, height: int = 6, width: int = 6) -> np.ndarray:
    return np.full((height, width), value, np.uint8)


def folder(path: Path, size: Any = 6, **settings: Any) -> Parts:
    return load(DataConfig(name="folder", path=str(path), image_size=size, **settings))


def three_each(path: Path, classes: Sequence[str] = "ab", value: int = 10) -> Path:
    for label, name in enumerate(classes):
        for number in range(3):
            picture(path / name / f"{number}.png", grey(value + 50 * label + number))
    return path


def all_values(parts: Parts) -> set[int]:
    return {
        int(value) for part in (parts.train, parts.val, parts.test) for value in np.unique(part.pixels_NHWC)
    }


def test_folder_without_parts_is_split_and_ignores_what_is_no_image(tmp_path: Path) -> None:
    three_each(tmp_path)
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".cache").mkdir()
    picture(tmp_path / "b" / "3.JPeG", grey(200))
    parts = folder(tmp_path)
    assert (parts.class_names, parts.image_shape) == (("a", "b"), (1, 6, 6))
    assert all_values(parts) == {10, 11, 12, 60, 61, 62, 200}
    assert [sorted(part.labels_N) for part in (parts.val, parts.test)] == [[0, 1], [0, 1]]
    assert parts.fingerprint() == folder(tmp_path).fingerprint()


def test_labels_are_the_places_of_class_folders_in_the_order_of_their_names(tmp_path: Path) -> None:
    """Images of "a" are darker than 60."""
    parts = folder(three_each(tmp_path))
    for part in (parts.train, parts.val, parts.test):
        assert list(part.labels_N) == [int(image.max() >= 60) for image in part.pixels_NHWC]
    assert folder(three_each(tmp_path / "more", ["9", "10", "b"])).class_names == ("10", "9", "b")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_colour_image_in_one_part_makes_three_channels_of_both(tmp_path: Path, part: str) -> None:
    three_each(tmp_path / "train")
    three_each(tmp_path / "test")
    picture(tmp_path / part / "a" / "x.png", COLOURS)
    parts = folder(tmp_path)
    assert {pixels.shape[1:] for pixels in (parts.train.pixels_NHWC, parts.test.pixels_NHWC)} == {(6, 6, 3)}


def test_folder_with_parts_keeps_them_and_a_path_may_be_relative(tmp_path: Path, monkeypatch: Any) -> None:
    three_each(tmp_path / "set" / "train")
    three_each(tmp_path / "set" / "test", value=200)
    monkeypatch.setenv("ARCHSEARCH_DATA", str(tmp_path))
    config = DataConfig(name="folder", path="set", image_size=(4, 3))
    parts = load(config)
    assert parts.image_shape == (1, 4, 3)
    assert set(np.unique(parts.test.pixels_NHWC)) == {200, 201, 202, 250, 251, 252}
    assert load(config, tmp_path).fingerprint() == parts.fingerprint()


GREY_FILES: dict[str, tuple[Any, str | None, str, int]] = {
    "16-bit png": (np.full((6, 6), 100 * 257, np.uint16), None, "x.png", 100),
    "16-bit tiff": (np.full((6, 6), 100 * 257, np.uint16), None, "x.TIFF", 100),
    "16-bit pgm": (np.full((6, 6), 100 * 257, np.uint16), None, "x.pgm", 100),
    "brightest of 16 bits": (np.full((6, 6), 65535, np.uint16), None, "x.png", 255),
    "32-bit tiff": (np.full((6, 6), 100 * 257, np.int32), None, "x.tif", 100),
    "float tiff": (np.full((6, 6), 100 / 255, np.float32), None, "x.tif", 100),
    "grey with alpha": (grey(100), "LA", "x.png", 100),
    "black and white": (grey(255), "1", "x.bmp", 255),
}


@pytest.mark.parametrize("case", GREY_FILES)
def test_grey_images_of_every_depth_are_scaled_to_8_bits_in_one_channel(tmp_path: Path, case: str) -> None:
    array, mode, name, expected = GREY_FILES[case]
    picture(three_each(tmp_path) / "a" / name, array, mode)
    parts = folder(tmp_path)
    assert parts.image_shape == (1, 6, 6)
    assert all_values(parts) == {10, 11, 12, 60, 61, 62, expected}


COLOURS = np.full((6, 6, 3), (200, 100, 50), np.uint8)


@pytest.mark.parametrize(
    ("mode", "name"), [(None, "x.png"), ("RGBA", "x.webp"), ("P", "x.gif"), ("CMYK", "x.jpg")]
)
def test_one_colour_image_makes_three_channels_of_all(tmp_path: Path, mode: Any, name: str) -> None:
    picture(
        three_each(tmp_path) / "a" / name, COLOURS, mode, **({"lossless": True} if "webp" in name else {})
    )
    parts = folder(tmp_path)
    assert parts.image_shape == (3, 6, 6)
    pixels_NHWC = np.concatenate([part.pixels_NHWC for part in (parts.train, parts.val, parts.test)])
    centres = pixels_NHWC[:, 3, 3].astype(int)
    coloured = centres[np.ptp(centres, axis=1) > 0]
    assert len(coloured) == 1
    assert np.abs(coloured - [200, 100, 50]).max() <= 8
    assert len(np.unique(centres[np.ptp(centres, axis=1) == 0], axis=0)) == 6


def test_transparency_in_a_palette_gives_no_warning(tmp_path: Path) -> None:
    paletted = Image.fromarray(COLOURS).convert("P")
    paletted.save(three_each(tmp_path) / "a" / "x.png", transparency=bytes(256))
    assert folder(tmp_path).image_shape == (3, 6, 6)


def test_images_are_cropped_around_the_centre_and_turned_upright(tmp_path: Path) -> None:
    three_each(tmp_path / "train")
    three_each(tmp_path / "test")
    bars = np.repeat(np.array([0, 0, 90, 90, 180, 180, 0, 0], np.uint8)[None], 4, axis=0)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for name in "ab":
        for file in (tmp_path / "test" / name).iterdir():
            file.unlink()
    picture(tmp_path / "test" / "a" / "x.png", bars)
    picture(tmp_path / "test" / "b" / "x.png", bars, exif=exif)
    plain, turned = folder(tmp_path, size=4).test.pixels_NHWC[..., 0]
    assert np.array_equal(plain, bars[:, 2:6])
    assert np.array_equal(turned, plain[:, ::-1])


def broken_folders(path: Path) -> dict[str, tuple[Path, str]]:
    """Bad folders by name, each with the file or folder at fault and the finding."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    picture(three_each(path / "cut") / "a" / "x.png", noise)
    cut = path / "cut" / "a" / "x.png"
    cut.write_bytes(cut.read_bytes()[:4000])
    text = three_each(path / "text") / "b" / "x.jpg"
    text.write_text("no image")
    (three_each(path / "empty class") / "c").mkdir()
    three_each(path / "one class", "a")
    (path / "nothing").mkdir()
    (three_each(path / "lone part" / "train") / "c").mkdir()
    for part, classes in {"train": "abc", "test": "ab"}.items():
        three_each(path / "less in test" / part, classes)
        three_each(path / "less in train" / {"train": "test", "test": "train"}[part], classes)
    picture(three_each(path / "two images") / "c" / "0.png", grey())
    picture(path / "two images" / "c" / "1.png", grey())
    wide = three_each(path / "float range") / "a" / "x.tif"
    picture(wide, np.full((6, 6), 200.0, np.float32))
    deep = three_each(path / "deep") / "a" / "x.tif"
    picture(deep, np.full((6, 6), 70000, np.int32))
    return {
        "cut": (cut, "must be a whole image, found: "),
        "text": (text, "must be a whole image, found: cannot identify"),
        "empty class": (path / "empty class" / "c", "must hold images (png, "),
        "one class": (path / "one class", "at least 2 classes, found 1"),
        "nothing": (path / "nothing", "one folder of images per class, found no folder"),
        "not there": (path / "not there", "found none there"),
        "lone part": (path / "lone part" / "train", "found none; train/ and test/ go together"),
        "less in test": (path / "less in test", "found 'c' only in train"),
        "less in train": (path / "less in train", "found 'c' only in test"),
        "two images": (
            path / "two images",
            "class 'c' must have at least 3 images, for train, val and test, found 2",
        ),
        "float range": (wide, "grey values from 0 to 1 in mode F, found 200 to 200"),
        "deep": (deep, "grey values from 0 to 65535 in mode I, found 70000 to 70000"),
    }


def test_folder_refuses(tmp_path: Path) -> None:
    for name, (culprit, finding) in broken_folders(tmp_path).items():
        with pytest.raises(DataError) as refusal:
            folder(tmp_path / name)
        message = str(refusal.value)
        assert message.startswith(f"{culprit}"), name
        assert finding in message, name
        assert "\n" not in message, name
