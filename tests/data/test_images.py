"""Pictures: every mode and format, orientation, squares, and refusal of what is not a whole picture."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from cifarlab.data.images import MAX_PIXELS, read_image
from cifarlab.errors import DataError


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def texture(height=32, width=32, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def read(source, image_size=32, resize="squash") -> torch.Tensor:
    return read_image(source, image_size=image_size, resize=resize)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_of_the_right_size_keep_every_pixel(kind, options):
    pixels = texture()
    result = read(encode(Image.fromarray(pixels), kind, **options))
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    assert torch.equal(result, torch.from_numpy(pixels).permute(2, 0, 1))


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {})])
def test_lossy_formats_come_close(kind, options):
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    pixels = np.stack([np.tile(ramp, (32, 1))] * 3, 2)
    result = read(encode(Image.fromarray(pixels), kind, **options))
    assert (result.float() - torch.from_numpy(pixels).permute(2, 0, 1).float()).abs().mean() < 3


def test_path_bytes_and_open_file_agree(tmp_path):
    content = encode(Image.fromarray(texture()), "PNG")
    path = tmp_path / "wrong-suffix.jpg"
    path.write_bytes(content)
    assert torch.equal(read(path), read(content))
    with path.open("rb") as file:
        assert torch.equal(read(file), read(content))


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("1", (8, 8), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (8, 8), 100), "PNG", (100, 100, 100)),
        (Image.new("LA", (8, 8), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("LA", (8, 8), (100, 255)), "PNG", (100, 100, 100)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 255)), "PNG", (255, 0, 0)),
        (Image.new("RGBA", (8, 8), (255, 0, 0, 51)), "PNG", (255, 204, 204)),
        (Image.new("P", (8, 8), 0), "PNG", (0, 0, 0)),
        (Image.fromarray(np.full((8, 8), 40000, np.uint16)), "PNG", (156, 156, 156)),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "JPEG", (0, 0, 0)),
        (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG", (255, 255, 255)),
    ],
    ids=["1", "L", "LA-clear", "LA", "RGBA-clear", "RGBA", "RGBA-fifth", "P", "I16", "CMYK-black", "CMYK-white"],
)
def test_every_mode_becomes_rgb_with_transparency_on_white(image, kind, expected):
    result = read(encode(image, kind), image_size=8)
    assert result.flatten(1).float().mean(1).round().tolist() == list(expected)


def test_palette_with_transparency_is_laid_on_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30] + [0] * 762)
    assert read(encode(image, "PNG"), image_size=8).flatten(1)[:, 0].tolist() == [10, 200, 30]
    assert read(encode(image, "PNG", transparency=1), image_size=8).unique().tolist() == [255]


def test_only_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read(content, image_size=8).flatten(1).float().mean(1).tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[:8, 8:] = (0, 255, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(stored[orientation])), "PNG", exif=exif)
    assert torch.equal(read(content, image_size=16), torch.from_numpy(upright).permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_with_damaged_exif_is_read(kind):
    image = Image.fromarray(texture())
    assert torch.equal(read(encode(image, kind, exif=b"Exif\0\0junk junk")), read(encode(image, kind)))


def test_a_picture_is_turned_although_the_rest_of_its_exif_is_odd():
    upright = texture(16, 16)
    orientation, date_as_a_float = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0), struct.pack("<HHIf", 0x0132, 11, 1, 1.5)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + orientation + date_as_a_float + bytes(4)
    content = encode(Image.fromarray(np.ascontiguousarray(np.rot90(upright, 1))), "PNG", exif=exif)
    assert torch.equal(read(content, image_size=16), torch.from_numpy(upright).permute(2, 0, 1))


def wide() -> bytes:
    """Red left quarter, grey middle half, blue right quarter: 64 x 32."""
    pixels = np.full((32, 64, 3), 128, np.uint8)
    pixels[:, :16], pixels[:, 48:] = (255, 0, 0), (0, 0, 255)
    return encode(Image.fromarray(pixels), "PNG")


def test_squash_shows_all_of_the_picture():
    result = read(wide(), image_size=16, resize="squash")
    assert result[:, 8, 0].tolist() == [255, 0, 0]
    assert result[:, 8, -1].tolist() == [0, 0, 255]
    assert result[:, 8, 8].tolist() == [128, 128, 128]


def test_crop_takes_the_centre():
    result = read(wide(), image_size=16, resize="crop")
    assert result.unique().tolist() == [128]


def test_letterbox_pads_with_grey_and_keeps_the_shape():
    pixels = np.zeros((32, 64, 3), np.uint8)
    result = read(encode(Image.fromarray(pixels), "PNG"), image_size=16, resize="letterbox")
    assert result[0, :, 8].tolist() == [128] * 4 + [0] * 8 + [128] * 4


def test_extreme_shapes_survive():
    for size in ((1, 1), (2000, 1), (1, 2000)):
        for resize in ("squash", "crop", "letterbox"):
            assert read(encode(Image.new("RGB", size, "red"), "PNG"), 16, resize).shape == (3, 16, 16)


def test_scaling_down_averages_instead_of_picking():
    checkers = np.indices((256, 256)).sum(0) % 2 * 255
    result = read(encode(Image.fromarray(checkers.astype(np.uint8)), "PNG"), image_size=16)
    assert (result.float() - 127.5).abs().max() < 10


def test_a_large_jpeg_is_the_same_picture_as_its_png():
    ramp = np.linspace(0, 255, 1600).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (1200, 1))] * 3, 2))
    jpeg, png = (read(encode(image, kind)) for kind in ("JPEG", "PNG"))
    assert (jpeg.float() - png.float()).abs().mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_cut_file_is_refused_or_whole(kind):
    content = encode(Image.fromarray(texture()), kind)
    whole = read(content)
    for share in np.linspace(0, 0.99, 60):
        with pytest.raises(DataError, match="cannot read the image"):
            read(content[: int(share * len(content))])
    for length in range(len(content) - 20, len(content)):
        with contextlib.suppress(DataError):  # the very end of some formats is padding or a closing mark
            assert torch.equal(read(content[:length]), whole)


def test_random_damage_raises_nothing_but_data_errors():
    random = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF"):
        content = encode(Image.fromarray(texture()), kind)
        for _ in range(100):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[random.integers(0, len(damaged), 4)] = random.integers(0, 256, 4)
            with contextlib.suppress(DataError):
                assert read(damaged.tobytes()).shape == (3, 32, 32)


def png_that_claims(width: int, height: int) -> bytes:
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 100))
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 65_535])
def test_too_many_pixels_are_refused_by_the_header_alone(side):
    with pytest.raises(DataError, match="pixels"):
        read(png_that_claims(side, side))
    with pytest.raises(DataError, match="truncated"):
        read(png_that_claims(1000, 1000))


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 5000])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(DataError, match="cannot read the image: not a PNG"):
        read(content)


def test_formats_beyond_the_list_are_refused():
    for kind in ("TIFF", "PPM", "TGA", "ICO"):
        with pytest.raises(DataError, match="not a PNG"):
            read(encode(Image.fromarray(texture()), kind))


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    fifo = tmp_path / "pipe.png"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path):
        with pytest.raises(DataError, match="not a regular file"):
            read(path)
    with pytest.raises(DataError, match="No such file"):
        read(tmp_path / "absent.png")


def test_the_message_names_the_file_in_one_line(tmp_path):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"two\\nlines\.png") as caught:
        read(path)
    assert "\n" not in str(caught.value)
