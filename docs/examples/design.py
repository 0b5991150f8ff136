"""Design wind and target so that the shot of a trained trebuchet lands at 60 m.

    roomgrad up trebuchet
    python docs/examples/design.py

Gradients pass through the control model and the simulator, and neither of them learns.
"""

import torch

from roomgrad.torch import Through

LANDS_AT = 60.0  # m

shot = torch.tensor([[0.0, 40.0]], requires_grad=True)  # wind in m/s, target in m
through = Through("trebuchet", enter="input", leave="output", learn=False)
optimizer = torch.optim.Adam([shot], lr=1.0)

for _ in range(200):
    error = through(shot) - LANDS_AT
    if error.abs() < 0.05:
        break
    optimizer.zero_grad()
    error.square().mean().backward()
    optimizer.step()

wind, target = shot.detach()[0]
distance = LANDS_AT + error.item()
print(f"wind {wind:.2f} m/s, target {target:.2f} m: it lands at {distance:.2f} m")
