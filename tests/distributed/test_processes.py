"""With one process every exchange is the value itself; processes that have no device are told in a sentence."""

import pytest
import torch

from likewise.distributed import processes
from likewise.errors import LikewiseError


def test_one_process_has_all_rows() -> None:
    x = torch.randn(3, 2)
    for found in (processes.gather_rows(x), processes.gather_constant(x), processes.among_others(x, [3])):
        assert torch.equal(found, x)
    for found in (processes.sum_over(x), processes.largest_over(x)):
        assert found is x
    before = x.clone()
    processes.add_up([x], mean=True)
    processes.from_first([x])
    assert torch.equal(x, before)
    assert processes.any_of([True, False], x.device) == [True, False]


def test_shares_are_those_of_tensor_split() -> None:
    for total in range(12):
        for parts in range(1, 6):
            sizes = [len(part) for part in torch.tensor_split(torch.arange(total), parts)]
            assert processes.shares(total, parts) == sizes
            assert processes.starts(sizes) == [sum(sizes[:part]) for part in range(parts)]


@pytest.mark.parametrize("device", ["cuda:0", "cuda"])
def test_a_process_without_a_cuda_device_is_told(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(LikewiseError, match="process 1 of this machine has no CUDA device of its own: there are 1"),
        processes.joined(device),
    ):
        pass


def test_processes_that_cannot_meet_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(LikewiseError, match=r"the processes can't meet \(.*\); start them all with torchrun"),
        processes.joined("cpu"),
    ):
        pass
