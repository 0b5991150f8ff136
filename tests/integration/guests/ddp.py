"""One rank of a data-parallel training through rooms.

python -m tests.integration.guests.ddp RANK FILE RUN URL, with a new file by which the ranks meet
"""

from __future__ import annotations

import sys

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from roomgrad.torch import Through
from tests.integration.guests.squares import SQUARES

WORLD = 2


def train(rank: int, file: str, run: str, url: str) -> None:
    """Print the weight that this rank has learned, and the guest as which it took part."""
    address = f"file://{file}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=WORLD)
    through = Through(SQUARES, "a", "c", run=run, redis_url=url)
    torch.manual_seed(rank)  # the first rank tells the others where to begin
    net = DistributedDataParallel(nn.Sequential(nn.Linear(1, 1), nn.Softplus()).double())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    data = TensorDataset(torch.linspace(0, 1, 32, dtype=torch.float64)[:, None])
    for epoch in range(2):
        sampler = DistributedSampler(data, WORLD, rank)
        sampler.set_epoch(epoch)
        for [x] in DataLoader(data, batch_size=4, sampler=sampler, num_workers=1):
            optimizer.zero_grad()
            (through(net(x)[:, 0]) - 2).square().mean().backward()
            optimizer.step()
    print(through._trips.guest.name, [each.tolist() for each in net.parameters()], flush=True)
    distributed.barrier()
    through.close()
    distributed.destroy_process_group()


if __name__ == "__main__":
    train(int(sys.argv[1]), *sys.argv[2:])
