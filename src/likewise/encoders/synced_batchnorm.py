"""BatchNorm over all processes. Letters in shapes: B own rows, C channels, W processes, N values per channel.

N counts the positions of the rows of all processes (N = Σ_r B_r · height · width). The forward and the backward pass
send one small message each. With it, the number of processes does not change what is learned.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from likewise.distributed import processes
from likewise.errors import LikewiseError
from likewise.kernels.numerics import at_least_float32, first_order_only, reverse_only


class SyncedBatchNorm(_BatchNorm):
    """``y = (x − μ) / √(σ² + ε) · weight + bias`` with μ and σ² of the rows of all processes, in training.

    μ = Σ x / N, σ² = Σ (x − μ)² / N, and ``running_var`` follows σ²·N/(N − 1), as in ``nn.BatchNorm1d`` and the others
    in one process (Ioffe & Szegedy 2015). It has the names in the state dict and the arguments of ``nn.BatchNorm1d``.
    In eval mode, and with one process, it is plain BatchNorm. It is for the CPU: torch's ``nn.SyncBatchNorm`` does the
    same on CUDA devices but refuses the CPU. ``synchronise`` chooses between them.

    Every process must run the same layers forwards and backwards. Its share of rows may have any length, even 0. The
    gradients of weight and bias are those of the process' own rows; sum them over the processes.

    Cost: a message of 2C + 1 numbers in the forward pass, one of 2C in the backward pass.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, ...) -> the same shape, dtype and memory format; statistics in float32 at least.

        Raises LikewiseError in training when the processes hold fewer than 2 values per channel.
        """
        if not self.training or processes.size() == 1:
            plain: Tensor = _BatchNorm.forward(self, input)
            return plain
        self._check_input_dim(input)
        mean, var, total = _statistics(input)
        if self.track_running_stats:
            self._follow(mean, var, total)
        result: Tensor = _Normalise.apply(input, self.weight, self.bias, mean, var, total, self.eps)  # type: ignore[no-untyped-call]
        return result

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, total: float) -> None:
        """Moves the running statistics towards the batch statistics; with ``momentum`` None, to the mean of all."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        pace = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), pace)
        self.running_var.lerp_((var * (total / (total - 1))).to(self.running_var.dtype), pace)


def synchronise(module: nn.Module) -> nn.Module:
    """Replaces every BatchNorm in ``module`` by BatchNorm over all processes. ``nn.SyncBatchNorm`` stays.

    Parameters and buffers stay the same objects, so an existing optimizer still updates them. Hooks of the old layers
    are lost. Returns ``module``, or its replacement where it is a BatchNorm itself.

    Raises LikewiseError, before it replaces anything, on a BatchNorm with a different ``forward`` (some of timm's also
    apply an activation).
    """
    layers = [
        (path, layer)
        for path, layer in module.named_modules(remove_duplicate=False)
        if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm | SyncedBatchNorm)
    ]
    for path, layer in layers:
        if type(layer).forward is not _BatchNorm.forward:
            raise LikewiseError(
                f"layer {path or 'itself'!r} is a {type(layer).__name__} with a different forward, so it can't be "
                "synchronised; use an encoder with plain BatchNorm, or encoder.bn_groups equal to the processes."
            )
    synced = {layer: _synced(layer) for _, layer in layers}  # a layer used in two places stays one layer
    for path, layer in layers:
        parent, _, name = path.rpartition(".")
        if path:
            setattr(module.get_submodule(parent), name, synced[layer])
    return synced[module] if isinstance(module, _BatchNorm) and module in synced else module


def waits_for_others(module: nn.Module) -> bool:
    """Whether a layer sends messages in the forward pass, so that every process must run it, with or without rows."""
    return module.training and any(isinstance(layer, nn.SyncBatchNorm | SyncedBatchNorm) for layer in module.modules())


def refuse_synchronised(module: nn.Module, groups: int) -> None:
    """Raises LikewiseError if a layer uses statistics of all processes although the batch has several ``groups``."""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.SyncBatchNorm | SyncedBatchNorm):
            raise LikewiseError(
                f"layer {path or 'itself'!r} is a {type(layer).__name__}, which normalises over all processes, but "
                f"encoder.bn_groups={groups} gives each group of a batch its own statistics; set encoder.bn_groups=1, "
                "or use plain BatchNorm."
            )


def _synced(old: _BatchNorm) -> _BatchNorm:
    on_cuda = any(tensor.is_cuda for tensor in old.state_dict().values())
    kind = nn.SyncBatchNorm if on_cuda else SyncedBatchNorm
    new = kind(old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats)
    new.weight, new.bias = old.weight, old.bias
    new.running_mean, new.running_var = old.running_mean, old.running_var
    new.num_batches_tracked = old.num_batches_tracked
    return new.train(old.training)


def _inner(x: Tensor) -> list[int]:
    """All dimensions except the channels."""
    return [0, *range(2, x.ndim)]


def _channelwise(x: Tensor) -> list[int]:
    """The shape (C, 1, ...) that broadcasts one number per channel to ``x``."""
    return [-1] + [1] * (x.ndim - 2)


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean (C,), variance (C,) and N over all processes: one triple of each process, merged as in Chan et al. 1979."""
    channels = x.shape[1]
    own = at_least_float32(x.new_zeros(1, 1 + 2 * channels))
    if x.numel():
        wide = at_least_float32(x)
        mean = wide.mean(_inner(x))
        var = (wide - mean.view(_channelwise(x))).square_().mean(_inner(x))  # torch.var is ten times slower on a CPU
        own = torch.cat([own.new_full((1,), x.numel() // channels), mean, var]).unsqueeze(0)
    triples = processes.gather_rows(own, [1] * processes.size())  # (W, 1 + 2C)
    counts, means, variances = torch.split(triples, [1, channels, channels], 1)
    total = float(counts.sum())
    if total < 2:
        raise LikewiseError(
            f"BatchNorm needs at least 2 values per channel in training, but all processes together hold {total:.0f}; "
            "raise batch_size."
        )
    shares = counts / total
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean).square())).sum(0), total


class _Normalise(torch.autograd.Function):
    """Normalises this process' rows by the statistics of all processes.

    The gradient is dx = w/σ · (dy − Σdy/N − x̂·Σ(dy·x̂)/N) with x̂ = (x − μ)/σ.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        total: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.total = total
        return functional.batch_norm(x, mean, var, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first_order_only("SyncedBatchNorm of several processes", grad, "take second derivatives in one process")
        x, weight, mean, inverse = ctx.saved_tensors
        shape, wide = _channelwise(x), at_least_float32(grad)
        centred = at_least_float32(x) - mean.view(shape)
        own = torch.stack([wide.sum(_inner(x)), (wide * centred).sum(_inner(x)) * inverse])  # (2, C): Σdy, Σ(dy·x̂)
        grad_x = None
        if ctx.needs_input_grad[0]:
            flat, tilt = processes.sum_over(own) / ctx.total
            scale = inverse if weight is None else inverse * weight
            grad_x = (wide - flat.view(shape)).addcmul_(centred, (tilt * inverse).view(shape), value=-1)
            grad_x = grad_x.mul_(scale.view(shape)).to(x.dtype)
        grad_weight = own[1] if ctx.needs_input_grad[1] else None
        grad_bias = own[0] if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, None, None, None, None

    jvp = staticmethod(reverse_only("SyncedBatchNorm of several processes", "use one process"))
