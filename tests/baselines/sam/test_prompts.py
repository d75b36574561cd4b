"""Objects, boxes, points and jitter."""

from __future__ import annotations

import numpy as np
import torch

from baselines.sam.prompts import find_objects, jittered

MASK = torch.zeros(12, 16)
MASK[1:4, 2:9] = 1  # 3 rows, 7 columns
MASK[4, 9] = 1  # touches it by a corner
MASK[8:11, 0:3] = 1


def test_each_component_gets_a_box_of_its_outermost_pixels() -> None:
    objects = find_objects(MASK, per_component=True)
    assert objects.count == 2  # a diagonal neighbour belongs to it
    assert objects.boxes().tolist() == [[2, 1, 9, 4], [0, 8, 2, 10]]


def test_one_box_goes_around_everything() -> None:
    assert find_objects(MASK, per_component=False).boxes().tolist() == [[0, 1, 9, 10]]


def test_a_point_is_the_pixel_furthest_from_the_edge() -> None:
    points = find_objects(MASK, per_component=True).points()
    assert points[1].tolist() == [1, 9]
    for x, y in points.long().tolist():
        assert MASK[y, x] == 1
    # All of a mask is not convex, its centre lies outside: the point does not.
    ring = torch.ones(9, 9)
    ring[2:7, 2:7] = 0
    x, y = find_objects(ring, per_component=True).points()[0].long().tolist()
    assert ring[y, x] == 1


def test_nothing_in_a_mask_gives_no_prompt() -> None:
    for per_component in (True, False):
        objects = find_objects(torch.zeros(5, 6), per_component)
        assert objects.count == 0 and objects.boxes().shape == (0, 4) and objects.points().shape == (0, 2)


def test_some_of_the_objects() -> None:
    objects = find_objects(MASK, per_component=True).only([2])
    assert objects.count == 1 and objects.boxes().tolist() == [[0, 8, 2, 10]]
    assert np.array_equal(objects.labels > 0, MASK.numpy() * (np.arange(12)[:, None] > 6) > 0)


def test_jitter_moves_sides_within_its_range_and_the_image() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[20.0, 20, 40, 44]]).repeat(400, 1)
    moves = jittered(boxes, 3, (64, 64), image) - boxes
    assert set(moves.flatten().tolist()) == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    assert jittered(boxes, 0, (64, 64), image) is boxes
    edge = jittered(torch.tensor([[0.0, 0, 63, 31], [5.0, 5, 5, 5]]).repeat(200, 1), 6, (32, 64), image)
    assert edge.min() == 0 and edge[:, [0, 2]].max() == 63 and edge[:, [1, 3]].max() == 31
    assert (edge[:, 0] <= edge[:, 2]).all() and (edge[:, 1] <= edge[:, 3]).all()


def test_jitter_depends_on_the_image_alone() -> None:
    image, other = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[20.0, 20, 40, 44]]).repeat(8, 1)
    torch.manual_seed(1)
    first = jittered(boxes, 5, (64, 64), image)
    torch.manual_seed(2)
    assert torch.equal(first, jittered(boxes, 5, (64, 64), image.clone()))
    assert not torch.equal(first, jittered(boxes, 5, (64, 64), other))
