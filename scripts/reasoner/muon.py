"""Muon: momentum, orthogonalised by a Newton-Schulz iteration (Keller Jordan, 2024).

In fp32 and batched by shape: on a CPU many times faster than torch's own, which iterates in bf16.
"""
import torch


def orthogonalise(matrices):
    """Pulls the singular values of each matrix [rows <= columns] of the batch towards 1."""
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * (gram @ gram)) @ x
    return x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters, lr: float, momentum: float = 0.95,
                 weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def direction(self, parameter, momentum: float):
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        mean = state["mean"].lerp_(parameter.grad, 1 - momentum)
        update = torch.lerp(parameter.grad, mean, momentum)
        return update if update.shape[0] <= update.shape[1] else update.t()

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for parameter in group["params"]:
                by_shape.setdefault(tuple(sorted(parameter.shape)), []).append(parameter)
            for members in by_shape.values():
                directions = [self.direction(p, group["momentum"]) for p in members]
                updates = orthogonalise(torch.stack(directions))
                for parameter, update in zip(members, updates):
                    self.apply(parameter, update, group)

    @staticmethod
    def apply(parameter, update, group):
        rows, columns = parameter.shape
        update = update if rows <= columns else update.t()
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)
