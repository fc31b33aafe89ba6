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

FORMULAS = {
    "type-1": "gaussian(0.3, 0.05)",
    "type-2": "multiplicative(0.8, 0.5)",
    "type-1+2": "gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)",
    "type-2+1": "multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)",
    "table-1": "type-1 | type-2 | type-1+2 | type-2+1",
    "published-code": "type-1 | type-2 | type-1+2 | (multiplicative(0.2, 0.2) > gaussian(0.1, 0.08))",
    "real": " | ".join(_REAL),
}
