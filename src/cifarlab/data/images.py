"""One picture file to one uint8 tensor, for training, prediction and serving alike.

What is decoded is decided by content, not by file name: PNG, JPEG, WebP, BMP and GIF (first frame), no other decoder of
Pillow is ever reached. The number of pixels is checked before anything is decoded. EXIF orientation is applied
where it can be read, transparency is laid on white, 16-bit grey is scaled to 8 bits. A file that ends too early is
refused, not half shown.
"""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError

from cifarlab.errors import DataError

Resize = Literal["squash", "crop", "letterbox"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
"""File names by which folders are searched, in lower case."""
MAX_PIXELS = 50_000_000
"""Largest picture decoded: 200 MB as RGBA. Pillow itself would warn at 89 million and refuse at 179 million."""

_LETTERBOX_GREY = (128, 128, 128)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation; Pillow's own exif_transpose writes the rest of the EXIF anew too, and fails where it is odd."""


def read_image(source: Path | bytes | IO[bytes], *, image_size: int, resize: Resize) -> torch.Tensor:
    """Read a picture and bring it to a square.

    Args:
        source: A regular file, the bytes of one, or an open binary file.
        image_size: Height and width of the result in pixels.
        resize: What happens to a picture that is not square. ``squash`` scales height and width each to ``image_size``;
            all is seen, shapes are distorted. ``crop`` takes the largest centred square; shapes stay, edges are lost.
            ``letterbox`` scales the longer side to ``image_size``, centres the picture and fills the rest with middle
            grey (128); shapes stay, all is seen, pixels are given away.

    Returns:
        uint8, 3 x image_size x image_size, red-green-blue, 0..255. A picture of that size already keeps its pixels.

    Raises:
        DataError: If it is no regular file, not one of the formats, damaged, truncated or too large; one line with name
            and reason.
    """
    name = _display_name(source)
    try:
        with _open(source) as file:
            return _decode(file, image_size, resize)
    except DataError as error:
        raise DataError(f"cannot read the image{name}: {error}") from error
    except Exception as error:  # Pillow's decoders raise seven kinds of exception and promise none
        raise DataError(f"cannot read the image{name}: {_reason(error)}") from error


def _open(source: Path | bytes | IO[bytes]) -> IO[bytes]:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not isinstance(source, Path):
        return io.BytesIO(source.read())
    # not blocking: opening a FIFO without a writer would wait for ever
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _decode(file: IO[bytes], image_size: int, resize: Resize) -> torch.Tensor:
    with Image.open(file, formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}; scale it down first")
        # a JPEG decodes at 1/2, 1/4 or 1/8 almost for free; twice the wanted size leaves the resampling its choice
        image.draft(None, (2 * image_size, 2 * image_size))
        image.load()
        square = _to_square(_to_rgb(_upright(image)), image_size, resize)
    return torch.from_numpy(np.array(square).transpose(2, 0, 1).copy())


def _upright(image: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF orientation says; one whose EXIF cannot be read is whole all the same."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # as with pictures themselves, there is no list of what Pillow raises
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would cut it off at 255
        return Image.fromarray((np.asarray(image).clip(0, 65535) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _to_square(image: Image.Image, size: int, resize: Resize) -> Image.Image:
    width, height = image.size
    if (width, height) == (size, size):
        return image
    if resize == "letterbox":
        scale = size / max(width, height)
        inner = image.resize(
            (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC, reducing_gap=3.0
        )
        canvas = Image.new("RGB", (size, size), _LETTERBOX_GREY)
        canvas.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
        return canvas
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _display_name(source: Path | bytes | IO[bytes]) -> str:
    """Return a space and the file's name; nothing for bytes."""
    name = str(source) if isinstance(source, Path) else ""
    # a line break or an undecodable byte in a name must not break the one line of the message
    if not name.isprintable():
        return f" {name!a}"
    return f" {name}" if name else ""


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not a PNG, JPEG, WebP, BMP or GIF image, or its beginning is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
