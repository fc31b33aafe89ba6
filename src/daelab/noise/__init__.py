"""Noises as frozen values with a text form.

    noise = parse_noise("published-code")
    noisy = noise.apply(x, BatchStream(len(x), seed=0))       # in training
    noisy = noise.apply(x, IndexedStream(indices, seed=0))    # in evaluation

`x` is (N, C, H, W) float32 in [0, 1].

    base            Noise, Term, and the levels of a noise
    basic           the noises of the paper and of textbooks
    camera          the noises of cameras, scanners, film and files
    composition     one noise after the other; one of several for each image
    grammar         `parse_noise`
    jpeg            JPEG compression in PyTorch
    presets         the formulas of the named noises
    random_streams  sources of random numbers
"""

# A noise prints the name of its preset, so the presets must be loaded with the first noise.
from daelab.noise import grammar as grammar
