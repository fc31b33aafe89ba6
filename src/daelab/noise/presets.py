"""The presets: noises with names of their own, and their formulas."""

# The noises of photographs over wide ranges, for training a blind denoiser. Each image draws one line.
# A camera's noise is followed by the rounding of a file or by JPEG, whose quantization shapes it.
_REAL = (
    "awgn(0..55)",  # the literature's protocol, at any level
    "awgn(0..55) > quantised",  # the same in an 8-bit file
    "camera(0.0001..0.02, 0..0.02) > quantised",  # a camera whose demosaicking leaves no trace
    "demosaicked(0.0001..0.004, 0..0.005) > (quantised | jpeg(60..98))",  # a camera in daylight
    "demosaicked(0.0001..0.02, 0..0.02) > (quantised | jpeg(30..95))",  # at a high ISO, or a telephone
    "camera(0.0001..0.01, 0..0.01) > chroma(0..12, 1..6) > (quantised | jpeg(40..95))",  # low light
    "correlated(0..35, 0.4..1.5) > (quantised | jpeg(40..95))",  # scaled, or smoothed by a camera
    "grain(0..0.12, 0.3..1.5) > (quantised | jpeg(50..95))",  # film
    "awgn(0..15) > stripes(0..0.03) > quantised",  # a scanner
    "awgn(0..15) > salt-and-pepper(0..0.05) > quantised",  # dead pixels, dust, transmission
    "awgn(0..10) > jpeg(10..95)",  # strong compression
)

# A sensor's noise as a camera develops it: gain, read, row, then the white balance, color matrix and tone curve.
_DEVELOPED = "1.4..2.6, 1.2..2.2, 0.2..1.2, 0..0.6"
_FILE = "(quantised | jpeg(70..98) | jpeg(40..90))"
# A camera's denoising smooths the colors more than the brightness. What it leaves is weak and correlated.
_PROCESSED = "luma-smoothed(0.5..1, 0.3..1) > chroma-smoothed(0.7..1, 1..5) > sharpened(0..0.8, 0.6..1.2)"

# The noises that a camera's pipeline makes, from the sensor to the file. Each image draws one line.
_CAMERA_PIPELINE = (
    f"raw(0.0001..0.003, 0..0.004, 0..0.0005, {_DEVELOPED}) > {_PROCESSED} > {_FILE}",  # a camera's own file
    f"raw(0.001..0.012, 0..0.008, 0..0.001, {_DEVELOPED}) > {_PROCESSED} > {_FILE}",  # the same at a high ISO
    f"raw(0.004..0.04, 0..0.02, 0..0.002, {_DEVELOPED}) > {_PROCESSED} > {_FILE}",  # a telephone's own file
    f"raw(0.0001..0.008, 0..0.008, 0..0.001, {_DEVELOPED}) > {_FILE}",  # developed without denoising
    f"raw(0.005..0.08, 0..0.05, 0..0.005, {_DEVELOPED}) > {_FILE}",  # the same of a telephone in low light
    f"raw(0.0001..0.01, 0..0.01, 0..0.001, {_DEVELOPED}) > resized(1..3) > {_FILE}",  # digital zoom
    f"demosaicked(0.0001..0.02, 0..0.02) > hot-pixels(0..0.003) > {_FILE}",  # bilinear, with hot pixels
    f"awgn(0..15) > salt-and-pepper-pixels(0..0.1) > {_FILE}",  # dust, dead pixels
    "salt-and-pepper-pixels(0..0.2) > quantised",
    f"none > {_FILE}",  # a good exposure
)

_DAYLIGHT = "1.4..2.6, 1.2..2.2, 0.2..1.2, 0..0.4"
# The ranges were chosen so that deviation and correlation of the noise are those of real photographs: about 4 of 255 in
# the luma and 2 in the colors; pixels 1, 2 and 4 apart correlate by about 0.5, 0.2 and 0.1 in the luma, and by
# 0.9, 0.8 and 0.5 in the colors.
_CAMERA_FILE = (
    # weak noise reduction
    f"raw(0.0001..0.002, 0..0.003, 0..0.0003, {_DAYLIGHT}) > luma-smoothed(0.2..0.9, 0.4..1.2)"
    " > chroma-smoothed(0.7..1, 1..4) > sharpened(0..0.5, 0.6..1.2) > jpeg(92..99)",
    # strong noise reduction
    f"raw(0.0005..0.006, 0..0.005, 0..0.0005, {_DAYLIGHT}) > luma-smoothed(0.7..1, 0.5..1)"
    " > chroma-smoothed(0.8..1, 1.5..6) > sharpened(0..0.8, 0.6..1.2) > jpeg(90..99)",
    # noise reduction that leaves coarse noise
    f"raw(0.001..0.01, 0..0.008, 0..0.0005, {_DAYLIGHT}) > luma-smoothed(0.8..1, 0.8..3)"
    " > chroma-smoothed(0.9..1, 2..8) > jpeg(90..99)",
)

FORMULAS = {
    "type-1": "gaussian(0.3, 0.05)",
    "type-2": "multiplicative(0.8, 0.5)",
    "type-1+2": "gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)",
    "type-2+1": "multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)",
    "table-1": "type-1 | type-2 | type-1+2 | type-2+1",
    "published-code": "type-1 | type-2 | type-1+2 | (multiplicative(0.2, 0.2) > gaussian(0.1, 0.08))",
    "real": " | ".join(_REAL),
    "camera-pipeline": " | ".join(_CAMERA_PIPELINE),
    "camera-file": " | ".join(_CAMERA_FILE),
}
