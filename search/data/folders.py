"""A person's own images in a folder that holds one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from search.data.images import Pair
from search.data.npz import first_words
from search.errors import DataError

EXTENSIONS = ("png", "jpg", "jpeg", "bmp", "gif", "webp", "ppm", "pgm", "tif", "tiff")


def read_folder(path: Path, size: tuple[int, int]) -> tuple[Pair, Pair | None, tuple[str, ...]]:
    """Images of train/<class>/ and test/<class>/, or of <class>/ alone, and class names. Raises DataError.

    Each image keeps its aspect ratio: it is scaled to cover `size` (height, width) and cropped around its
    centre. The channels are 1 where every image is grey, else 3.
    """
    if not path.is_dir():
        raise DataError(f"{path}: data.path must name a folder with one folder per class, found none there")
    if not ((path / "train").is_dir() and (path / "test").is_dir()):
        files = _class_files(path)
        return _stack([_decode_all(files, size)])[0], None, tuple(files)
    train, test = _class_files(path / "train"), _class_files(path / "test")
    for name in sorted(set(train) ^ set(test)):
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise DataError(f"{path}: {has} and {lacks} must have the same classes, found {name!r} only in {has}")
    pair, test_pair = _stack([_decode_all(train, size), _decode_all(test, size)])
    return pair, test_pair, tuple(train)


def _class_files(folder: Path) -> dict[str, list[Path]]:
    """Image files by class, both in the order of their names."""
    visible = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = {entry.name: _images_in(entry) for entry in visible if entry.is_dir()}
    if not files:
        raise DataError(f"{folder} must hold one folder of images per class, found no folder")
    for name, images in files.items():
        if not images:
            way_out = "; train/ and test/ go together" if name in ("train", "test") else ""
            rule = f"{folder / name} must hold images ({', '.join(EXTENSIONS)})"
            raise DataError(f"{rule}, found none{way_out}")
    return files


def _images_in(folder: Path) -> list[Path]:
    named = (file for file in folder.iterdir() if file.suffix[1:].lower() in EXTENSIONS)
    return sorted(file for file in named if file.is_file() and not file.name.startswith("."))


def _decode_all(files: dict[str, list[Path]], size: tuple[int, int]) -> tuple[list[Image.Image], list[int]]:
    images = [_decode(file, size) for paths in files.values() for file in paths]
    return images, [label for label, paths in enumerate(files.values()) for _ in paths]


def _stack(parts: list[tuple[list[Image.Image], list[int]]]) -> list[Pair]:
    mode = "L" if all(image.mode == "L" for images, _ in parts for image in images) else "RGB"
    return [
        (np.stack([np.asarray(image.convert(mode)) for image in images]), np.array(labels))
        for images, labels in parts
    ]


def _decode(file: Path, size: tuple[int, int]) -> Image.Image:
    """The image in mode L or RGB, upright, of `size` (height, width). Raises DataError."""
    height, width = size
    try:
        with Image.open(file) as opened:
            return ImageOps.fit(_to_bytes(ImageOps.exif_transpose(opened), file), (width, height))
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on a damaged file
        raise DataError(f"{file} must be a whole image, found: {first_words(error)}") from None


def _to_bytes(image: Image.Image, file: Path) -> Image.Image:
    """The image in mode L or RGB; Pillow alone would clip grey values beyond 8 bits, not scale them."""
    if image.mode in ("1", "L", "LA"):
        return image.convert("L")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA").convert("RGB")  # straight to RGB, transparency in the palette warns
    if image.mode != "F" and not image.mode.startswith("I"):
        return image.convert("RGB")
    grey_HW = np.asarray(image, np.float64)
    highest = 1.0 if image.mode == "F" else 65535.0
    if not (grey_HW.min() >= 0 and grey_HW.max() <= highest):
        rule = f"{file} must have grey values from 0 to {highest:g} in mode {image.mode}"
        raise DataError(f"{rule}, found {grey_HW.min():g} to {grey_HW.max():g}: save it with 8 or 16 bits")
    return Image.fromarray(np.rint(grey_HW * (255 / highest)).astype(np.uint8))
