import torch

from roomgrad.torch import Through

through = Through("served", enter="input", leave="output")
for batch in range(301):
    wind, target = 5 * torch.randn(100), 20 + 80 * torch.rand(100)  # m/s, m
    loss = (through(torch.stack([wind, target], dim=1)) - target).square().mean()
    loss.backward()
    if batch % 50 == 0:
        print(f"{batch:3} {loss:8.2f}")
