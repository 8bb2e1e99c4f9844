"""Decodes a folder with the loaders of torchvision or lightly; a worker of `benchmarks.loading`.

It needs torch, torchvision and lightly, and not contrastax. Each line of input decodes the folder
once, and the answer is the time in seconds and the number of images.
"""

import json
import sys
import time


def loader(name, folder, size, workers):
  import torch
  from torchvision import transforms

  steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
  transform = transforms.Compose(steps)
  if name == "torchvision":
    from torchvision.datasets import ImageFolder

    dataset = ImageFolder(folder, transform)
  else:
    from lightly.data import LightlyDataset

    dataset = LightlyDataset(folder, transform=transform)
  return torch.utils.data.DataLoader(
    dataset, batch_size=256, shuffle=True, num_workers=workers, persistent_workers=True
  )


def main():
  name, folder, size, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
  batches = loader(name, folder, size, workers)
  for _ in sys.stdin:
    start, count = time.perf_counter(), 0
    for batch in batches:
      count += len(batch[0])
    print(json.dumps([time.perf_counter() - start, count]), flush=True)


if __name__ == "__main__":
  main()
