"""Every model on the same noisy images: quality, cost, and how sure each lead is."""
