"""Images per second of the textbook loop that the paper used; nothing of daelab but the reader of the data.

Pictures are converted one by one, noise is added image by image in Python, everything is
float32 in PyTorch's default memory layout, and each step asks for its loss and PSNR.

    python benchmarks/plain_loop.py --data-root .data
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from common import parser, pick_data, pictures, show, synchronise, whole_batches

WARM_UP = 3
"""Steps that do not count."""


class Pictures(Dataset[Tensor]):
    """Pictures that become tensors one at a time, as torchvision's CIFAR10 with ToTensor does it."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        """`images` is (N, 3, H, W)."""
        self.images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """Return one picture as a tensor."""
        return to_tensor(Image.fromarray(self.images[index]))


def to_tensor(picture: Image.Image) -> Tensor:
    """Return a picture as float32 of shape (3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
    return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def gaussian(image: Tensor, mean: float, std: float) -> Tensor:
    """Add Gaussian noise and clip."""
    return torch.clip(image + torch.normal(mean, std, image.shape), 0.0, 1.0)


def multiplicative(image: Tensor, mean: float, std: float) -> Tensor:
    """Multiply by Gaussian noise, add, and clip."""
    return torch.clip(image + image * torch.normal(mean, std, image.shape), 0.0, 1.0)


def add_noise(image: Tensor) -> Tensor:
    """One of the four noises of the paper's published code, at random."""
    kind = random.randint(1, 4)
    if kind == 1:
        return gaussian(image, 0.3, 0.05)
    if kind == 2:
        return multiplicative(image, 0.8, 0.5)
    if kind == 3:
        return multiplicative(gaussian(image, 0.2, 0.05), 0.2, 0.1)
    return gaussian(multiplicative(image, 0.2, 0.2), 0.1, 0.08)


class ModelC(nn.Module):
    """The paper's Figure 6, written out."""

    def __init__(self) -> None:
        """Create the layers of Model-C."""
        super().__init__()
        self.enc1 = nn.Conv2d(3, 32, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(32)
        self.enc2 = nn.Conv2d(32, 32, 2, stride=2)
        self.norm2 = nn.BatchNorm2d(32)
        self.enc3 = nn.Conv2d(32, 64, 3, padding=1)
        self.norm3 = nn.BatchNorm2d(64)
        self.enc4 = nn.Conv2d(64, 64, 2, stride=2)
        self.norm4 = nn.BatchNorm2d(64)
        self.dec1 = nn.ConvTranspose2d(64, 64, 2, stride=2)
        self.norm5 = nn.BatchNorm2d(64)
        self.dec2 = nn.ConvTranspose2d(64, 32, 3, padding=1)
        self.norm6 = nn.BatchNorm2d(32)
        self.dec3 = nn.ConvTranspose2d(32, 32, 2, stride=2)
        self.norm7 = nn.BatchNorm2d(32)
        self.dec4 = nn.ConvTranspose2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Denoise a batch of shape (N, 3, H, W)."""
        x = F.relu(self.norm1(self.enc1(x)))
        x = F.relu(self.norm2(self.enc2(x)))
        x = F.relu(self.norm3(self.enc3(x)))
        x = F.relu(self.norm4(self.enc4(x)))
        x = F.relu(self.norm5(self.dec1(x)))
        x = F.relu(self.norm6(self.dec2(x)))
        x = F.relu(self.norm7(self.dec3(x)))
        return torch.sigmoid(self.dec4(x))


def psnr(image: Tensor, clean: Tensor) -> Tensor:
    """Of a whole batch, in dB, with the largest value of the batch as its range."""
    return 10 * torch.log10(clean.max() ** 2 / F.mse_loss(image, clean))


class PlainLoop:
    """The loop, in pieces of as many steps as are asked for."""

    def __init__(self, images: NDArray[np.uint8], batch: int, workers: int = 0) -> None:
        """Create the loader, the network and the optimizer."""
        random.seed(0)
        torch.manual_seed(0)
        self.loader = DataLoader(Pictures(images), batch_size=batch, shuffle=True, num_workers=workers)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = ModelC().to(self.device)
        self.network.train()
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=0.005)
        self.loss = nn.MSELoss()
        self.running_loss, self.running_psnr = 0.0, torch.zeros((), device=self.device)
        self.batches = self._forever()

    def _forever(self) -> Iterator[Tensor]:
        while True:
            yield from self.loader

    def run(self, steps: int) -> tuple[int, float]:
        """Train for some steps; images and seconds."""
        began, images = time.perf_counter(), 0
        for _ in range(steps):
            images += self._step(next(self.batches))
        synchronise()
        return images, time.perf_counter() - began

    def _step(self, clean: Tensor) -> int:
        noisy = torch.stack([add_noise(image) for image in clean])
        clean, noisy = clean.to(self.device), noisy.to(self.device)
        self.optimiser.zero_grad()
        denoised = self.network(noisy)
        loss = self.loss(denoised, clean)
        loss.backward()
        self.optimiser.step()
        self.running_psnr += psnr(denoised.detach(), clean)
        self.running_loss += loss.item()
        return len(clean)


def main() -> None:
    """Run the loop once and print its speed."""
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=5_120, help="to measure with, once each")
    options.add_argument("--batch", type=int, default=128)
    options.add_argument("--workers", type=int, default=0, help="processes of the DataLoader")
    args = options.parse_args()
    name = pick_data(args)
    images = pictures(name, args.data_root, whole_batches(args.images, args.batch)).images
    loop = PlainLoop(images, args.batch, args.workers)
    loop.run(WARM_UP)
    steps = math.ceil(args.images / args.batch)
    done, seconds = loop.run(steps)
    found = {
        "images_per_second": round(done / seconds, 1),
        "images": done,
        "seconds": round(seconds, 3),
        "batch": args.batch,
        "data": name,
        "device": loop.device.type,
        "threads": torch.get_num_threads(),
        "precision": "float32",
        "loss": loop.running_loss / (WARM_UP + steps),
        "psnr_batch": float(loop.running_psnr) / (WARM_UP + steps),
    }
    human = (
        f"{done / seconds:,.0f} images/s over {done:,} images of {name}, batch {args.batch}, float32, "
        f"{torch.get_num_threads()} threads; PSNR so far {found['psnr_batch']:.2f} dB"
    )
    show(found, human, args.json)


if __name__ == "__main__":
    main()
