"""Every container that medical images come in is read as the picture it shows, and broken ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.reading import read_image, read_mask
from harness.errors import UserError

RAMP = np.arange(0, 256, dtype=np.uint8).reshape(8, 32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "picture.png"


def picture(seed: int = 0, height: int = 40, width: int = 50) -> np.ndarray:
    """A smooth picture, which JPEG keeps nearly as it is."""
    y, x = np.mgrid[:height, :width]
    phase = np.random.default_rng(seed).uniform(0, 3, 3)
    return (127 + 100 * np.sin(x[..., None] / 9 + y[..., None] / 13 + phase)).astype(np.uint8)


class TestImages:
    def test_rgb(self, file: Path) -> None:
        Image.fromarray(picture()).save(file)
        image = read_image(file)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, picture())

    @pytest.mark.parametrize("mode", ["L", "1", "LA"])
    def test_grey_becomes_three_equal_channels(self, file: Path, mode: str) -> None:
        grey = Image.fromarray(RAMP)
        grey.convert(mode).save(file)
        expected = RAMP if mode != "1" else np.asarray(grey.convert("1")) * np.uint8(255)
        np.testing.assert_array_equal(read_image(file), np.repeat(expected[..., None], 3, axis=2))

    @pytest.mark.parametrize("suffix", [".png", ".tif"])
    def test_16_bit(self, tmp_path: Path, suffix: str) -> None:
        Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / f"deep{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"deep{suffix}")[..., 1], RAMP)

    def test_big_endian_16_bit_tiff(self, tmp_path: Path) -> None:
        raw = (RAMP.astype(np.uint16) * 257).astype(">u2")
        image = Image.frombytes("I;16B", (32, 8), raw.tobytes())
        image.save(tmp_path / "deep.tif")
        np.testing.assert_array_equal(read_image(tmp_path / "deep.tif")[..., 0], RAMP)

    def test_12_bits_in_a_16_bit_container_are_not_nearly_black(self, file: Path) -> None:
        values = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(8, 32)
        Image.fromarray(values).save(file)
        image = read_image(file, white_level=4095)[..., 0]
        assert (image.min(), image.max()) == (0, 255)
        np.testing.assert_array_equal(image, np.round(values / 4095 * 255).astype(np.uint8))

    @pytest.mark.parametrize(("white_level", "expected"), [(None, 4), (4095, 62), (16383, 16)])
    def test_a_dark_16_bit_image_stays_dark(self, file: Path, white_level: float | None, expected: int) -> None:
        """The scale comes from the format or the data set, not from the image's own range."""
        Image.fromarray(np.full((8, 8), 1000, np.uint16)).save(file)
        assert (read_image(file, white_level) == expected).all()

    def test_8_bits_in_a_16_bit_container(self, file: Path) -> None:
        Image.fromarray(RAMP.astype(np.uint16)).save(file)
        np.testing.assert_array_equal(read_image(file, white_level=255)[..., 2], RAMP)

    @pytest.mark.parametrize("alpha", [0, 128, 255])
    def test_constant_alpha_is_dropped(self, file: Path, alpha: int) -> None:
        rgba = np.dstack([picture(), np.full(picture().shape[:2], alpha, np.uint8)])
        Image.fromarray(rgba).save(file)
        np.testing.assert_array_equal(read_image(file), picture())

    def test_varying_alpha_lies_on_black(self, file: Path) -> None:
        alpha = np.zeros(picture().shape[:2], np.uint8)
        alpha[:, 25:] = 255
        alpha[0, 0] = 128
        Image.fromarray(np.dstack([picture(), alpha])).save(file)
        image = read_image(file)
        np.testing.assert_array_equal(image[:, 25:], picture()[:, 25:])
        assert (image[1:, :25] == 0).all()
        np.testing.assert_array_equal(image[0, 0], np.round(picture()[0, 0] * (128 / 255)))

    def test_palette(self, file: Path) -> None:
        indexed = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
        indexed.putpalette([10, 20, 30, 200, 100, 50, 0, 255, 0])
        indexed.save(file)
        np.testing.assert_array_equal(read_image(file), [[[10, 20, 30], [200, 100, 50], [0, 255, 0]]])

    def test_palette_with_transparency(self, file: Path) -> None:
        indexed = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
        indexed.putpalette([10, 20, 30, 200, 100, 50])
        indexed.save(file, transparency=0)
        np.testing.assert_array_equal(read_image(file), [[[0, 0, 0], [200, 100, 50]]])

    @pytest.mark.parametrize("suffix", [".jpg", ".tif"])
    def test_cmyk_is_not_inverted(self, tmp_path: Path, suffix: str) -> None:
        Image.fromarray(picture()).convert("CMYK").save(tmp_path / f"print{suffix}", quality=95)
        difference = np.abs(read_image(tmp_path / f"print{suffix}").astype(int) - picture())
        assert difference.mean() < 4

    def test_exif_orientation(self, tmp_path: Path) -> None:
        """Orientation 6: stored on its side, shown turned clockwise."""
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=exif, quality=95)
        image = read_image(tmp_path / "turned.jpg")
        assert image.shape == (50, 40, 3)
        assert np.abs(image.astype(int) - np.rot90(picture(), -1)).mean() < 4

    def test_real_numbers_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "real.tif")
        with pytest.raises(UserError, match=r"real\.tif: expected 8 or 16 bits a channel, found real numbers"):
            read_image(tmp_path / "real.tif")

    def test_several_frames_are_refused(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(picture(seed)) for seed in range(3)]
        frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match=r"stack\.tif: expected one image, found a file with 3 frames"):
            read_image(tmp_path / "stack.tif")


class TestDamagedFiles:
    @pytest.mark.parametrize("suffix", [".png", ".jpg"])
    @pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
    def test_truncated(self, tmp_path: Path, suffix: str, kept: float) -> None:
        path = tmp_path / f"whole{suffix}"
        noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        assert read_image(path).shape == (80, 80, 3)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
        with pytest.raises(UserError) as caught:
            read_image(path)
        assert str(path) in str(caught.value)
        assert "damaged or truncated" in str(caught.value)
        assert "Restore it" in str(caught.value)

    def test_truncated_mask(self, file: Path) -> None:
        Image.fromarray(np.random.default_rng(0).integers(0, 2, (90, 90)).astype(np.uint8) * 255).save(file)
        file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(UserError, match=r"picture\.png: expected a mask, found a damaged or truncated file"):
            read_mask(file)

    @pytest.mark.parametrize("content", [b"", b"no picture at all"])
    def test_no_picture(self, file: Path, content: bytes) -> None:
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"picture\.png: expected an image, found a damaged"):
            read_image(file)

    def test_missing(self, file: Path) -> None:
        with pytest.raises(UserError, match=r"picture\.png: expected an image, found no such file"):
            read_image(file)

    def test_more_pixels_than_pillow_trusts(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.fromarray(picture()).save(file)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(UserError, match=r"picture\.png: .*decompression bomb"):
            read_image(file)


SHAPE = np.zeros((12, 16), bool)
SHAPE[3:8, 5:12] = True


class TestMasks:
    @pytest.mark.parametrize("foreground", [1, 255])
    def test_grey(self, file: Path, foreground: int) -> None:
        Image.fromarray(SHAPE.astype(np.uint8) * foreground).save(file)
        mask = read_mask(file)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, SHAPE)

    @pytest.mark.parametrize("foreground", [1, 255, 65535])
    def test_16_bit(self, file: Path, foreground: int) -> None:
        Image.fromarray(SHAPE.astype(np.uint16) * foreground).save(file)
        np.testing.assert_array_equal(read_mask(file), SHAPE)

    def test_1_bit(self, file: Path) -> None:
        Image.fromarray(SHAPE).convert("1").save(file)
        np.testing.assert_array_equal(read_mask(file), SHAPE)
        assert read_mask(file).view(np.uint8).max() == 1, "code in C takes other bytes for other values"

    @pytest.mark.parametrize(
        ("palette", "background"),
        [
            ([0, 0, 0, 128, 0, 0], 0),  # indices 0 and 1 in any colours
            ([0, 0, 0, 255, 255, 255], 0),
            ([255, 255, 255, 0, 0, 0], 1),  # black and white, the other way round: white is the foreground
        ],
    )
    def test_palette(self, file: Path, palette: list[int], background: int) -> None:
        indexed = Image.fromarray(np.where(SHAPE, 1 - background, background).astype(np.uint8), mode="P")
        indexed.putpalette(palette)
        indexed.save(file)
        np.testing.assert_array_equal(read_mask(file), SHAPE)

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
    def test_equal_channels(self, file: Path, mode: str) -> None:
        Image.fromarray(SHAPE.astype(np.uint8) * 255).convert(mode).save(file)
        np.testing.assert_array_equal(read_mask(file), SHAPE)

    @pytest.mark.parametrize("value", [0, 255])
    def test_one_value_only(self, file: Path, value: int) -> None:
        Image.fromarray(np.full((5, 5), value, np.uint8)).save(file)
        assert (read_mask(file) == (value == 255)).all()

    def test_grey_values_are_named(self, file: Path) -> None:
        values = SHAPE.astype(np.uint8) * 255
        values[0, :3] = [7, 128, 254]
        Image.fromarray(values).save(file)
        with pytest.raises(UserError) as caught:
            read_mask(file)
        assert str(file) in str(caught.value)
        assert "expected a binary mask (0 and 255, or 0 and 1), found the values 0, 7, 128, 254, 255." in str(
            caught.value
        )

    def test_many_grey_values_are_counted(self, file: Path) -> None:
        Image.fromarray(RAMP).save(file)
        with pytest.raises(UserError, match=r"found the values 0, 1, 2, 3, 4, 5, 6, 7 and 248 more"):
            read_mask(file)

    @pytest.mark.parametrize("values", [(0, 2), (1, 255), (0, 128)])
    def test_two_other_values(self, file: Path, values: tuple[int, int]) -> None:
        Image.fromarray(np.where(SHAPE, *values[::-1]).astype(np.uint8)).save(file)
        with pytest.raises(UserError, match=f"found the values {values[0]}, {values[1]}"):
            read_mask(file)

    def test_colours_are_refused(self, file: Path) -> None:
        Image.fromarray(np.dstack([SHAPE, ~SHAPE, SHAPE]).astype(np.uint8) * 255).save(file)
        with pytest.raises(UserError, match=r"picture\.png: expected a mask with one channel .* found colours"):
            read_mask(file)

    def test_transparency_is_refused(self, file: Path) -> None:
        alpha = np.where(SHAPE, 255, 0).astype(np.uint8)
        Image.fromarray(np.dstack([np.zeros((12, 16, 3), np.uint8), alpha])).save(file)
        with pytest.raises(
            UserError, match=r"picture\.png: expected a mask without transparency, found alpha values from 0"
        ):
            read_mask(file)

    def test_a_palette_of_many_classes_is_refused(self, file: Path) -> None:
        indexed = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
        indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        indexed.save(file)
        with pytest.raises(UserError, match=r"found colours \(rgb 0 0 0, rgb 0 128 0, rgb 128 0 0\)"):
            read_mask(file)
