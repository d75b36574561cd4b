from __future__ import annotations

import torch

from baselines.algorithms.dsu import DSU
from tests.baselines.algorithms.toy import disks, loss_of, make


def test_noise_is_as_large_as_the_variation_within_the_modality() -> None:
    algorithm = make(DSU, probability=1.0)
    batch = disks(7, modality=[0, 0, 0, 1, 1, 1, 0], domain=[0, 0, 1, 2, 2, 3, 1])
    generator = torch.Generator().manual_seed(0)
    mean, std = torch.randn(7, 3, generator=generator), torch.rand(7, 3, generator=generator) + 0.5
    mean[3:6] += 50  # the gap between modalities is not noise
    torch.manual_seed(0)
    drawn = [algorithm.style(mean, std, batch) for _ in range(4000)]
    for which, value in enumerate((mean, std)):
        samples = torch.stack([pair[which] for pair in drawn])
        for rows in ([0, 1, 2, 6], [3, 4, 5]):
            expected = value[rows].var(0).sqrt()
            torch.testing.assert_close(samples[:, rows].std(0), expected.expand(len(rows), -1), rtol=0.08, atol=0.0)
        torch.testing.assert_close(samples.mean(0), value, rtol=0.0, atol=0.1)


def test_an_image_alone_of_its_modality_keeps_its_style() -> None:
    algorithm, batch = make(DSU, probability=1.0), disks(3, modality=[0, 1, 1])
    mean, std = torch.randn(3, 4), torch.rand(3, 4)
    new_mean, new_std = algorithm.style(mean, std, batch)
    assert torch.equal(new_mean[0], mean[0]) and torch.equal(new_std[0], std[0])
    assert not torch.equal(new_mean[1], mean[1])


def test_all_feature_layers_are_changed() -> None:
    algorithm, batch = make(DSU, probability=1.0), disks(6)
    outputs, inputs = [], []
    handles = [
        algorithm.method.late.register_forward_hook(lambda m, i, output: outputs.append(output)),
        algorithm.method.last.register_forward_pre_hook(lambda m, i: inputs.append(i[0])),
    ]
    loss_of(algorithm, batch)
    for handle in handles:
        handle.remove()
    assert not torch.equal(outputs[0], inputs[0])


def test_gradients_flow_through_the_styles() -> None:
    algorithm, batch = make(DSU, probability=1.0), disks(4)
    mean = torch.randn(4, 3, requires_grad=True)
    algorithm.style(mean, mean.abs() + 1, batch)[0].sum().backward()
    assert mean.grad is not None and mean.grad.any()


def test_probability_zero_and_a_batch_of_one_are_the_method_alone() -> None:
    def bare(modalities: list[str], method: object) -> object:
        return method(modalities=modalities)  # type: ignore[operator]

    for settings, batch in (({"probability": 0.0}, disks(6)), ({"probability": 1.0}, disks(1))):
        assert torch.equal(loss_of(make(DSU, **settings), batch), loss_of(make(bare), batch))


def test_features_of_a_single_position_stay() -> None:
    algorithm, batch = make(DSU, probability=1.0), disks(4)
    features = torch.randn(4, 6, 1, 1)
    assert torch.equal(algorithm._restyled(features, 1, batch), features)
