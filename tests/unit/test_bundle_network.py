"""A trained network, out of a bundle, fitted to another recipe."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from tiny_recipe import squares_recipe

from edgeai.errors import BundleError, RecipeError

pytestmark = pytest.mark.compress


def write_network_bundle(root, content):
    """`root`/<the recipe's name>, a bundle that holds the recipe's (untrained, but fixed) network; the network itself."""
    from compress.networks import open_network
    from compress.quantize.tflite import convert_tflite
    from compress.recipe import parse_recipe
    from edgeai.bundle import write_bundle

    recipe = parse_recipe(content, where="here")
    network = open_network(recipe, data_root=root)
    network.save(root / "network.keras")
    name = f"{recipe.name}.tflite"
    fields = {
        "name": recipe.name,
        "task": recipe.task,
        "input": recipe.input.model_dump(mode="json"),
        "decoder": recipe.decoder.model_dump(mode="json"),
        "labels": list(recipe.labels),
        "files": [{"path": name, "format": "tflite", "precision": "float32"}],
    }
    files = {name: convert_tflite(network, "float32"), "network.keras": root / "network.keras"}
    write_bundle(root / recipe.name, fields, files)
    return network


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    return root, write_network_bundle(root, squares_recipe())


def opened(root, *, labels=("square",), size=64, where="squares", **params):
    from compress.networks import open_network
    from compress.recipe import parse_recipe

    network = {"kind": "bundle", "init": where, "params": params}
    recipe = parse_recipe(squares_recipe(size=size, labels=list(labels), network=network), where="here")
    return open_network(recipe, data_root=root)


def weights_of(network):
    return {layer.name: layer.get_weights() for layer in network.layers if layer.weights}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_same_labels_keep_every_weight_at_another_size(trained):
    root, network = trained
    bigger = opened(root, size=96)
    assert bigger.inputs[0].shape[1:] == (96, 96, 3)
    before, after = weights_of(network), weights_of(bigger)
    assert all(same(before[name], after[name]) for name in before)


def test_other_labels_start_their_scores_anew_and_keep_the_rest(trained):
    root, network = trained
    other = opened(root, labels=("cat", "dog"))
    before, after = weights_of(network), weights_of(other)
    for name in before:
        if name.startswith("class_"):
            assert after[name][0].shape[-1] == 2
            assert after[name][1] == pytest.approx([-4.595, -4.595], abs=1e-3)
        else:
            assert same(before[name], after[name]), name


def test_heads_may_start_anew_for_the_same_labels(trained):
    root, network = trained
    before, after = weights_of(network), weights_of(opened(root, keep_heads=False))
    anew = {name for name in before if not same(before[name], after[name])}
    assert anew
    assert all(name.startswith("class_") for name in anew)


def test_an_untrained_start_keeps_nothing(trained):
    root, network = trained
    before, after = weights_of(network), weights_of(opened(root, trained=False))
    kernels = [name for name in before if before[name][0].ndim == 4]
    assert not any(same(before[name][:1], after[name][:1]) for name in kernels)


def test_a_bundle_without_its_network_or_with_a_changed_one_is_told(trained, tmp_path):
    import shutil

    root, _ = trained
    with pytest.raises(BundleError):
        opened(root, where="nowhere")
    cut = tmp_path / "cut"
    shutil.copytree(root / "squares", cut)
    with (cut / "network.keras").open("r+b") as file:
        file.write(b"other")
    with pytest.raises(BundleError, match=r"network\.keras"):
        opened(tmp_path, where="cut")
    manifest = json.loads((cut / "manifest.json").read_text())
    manifest["files"] = [f for f in manifest["files"] if f["path"] != "network.keras"]
    (cut / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RecipeError, match="does not hold its network"):
        opened(tmp_path, where="cut")
    content = b"no network"
    (cut / "network.keras").write_bytes(content)
    entry = {"path": "network.keras", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"].append(entry)
    (cut / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(Exception, match="no Keras model") as told:
        opened(tmp_path, where="cut")
    assert "Traceback" not in str(told.value)


def test_the_person_detector_holds_its_network():
    from edgeai.bundle import load_bundle

    bundle = load_bundle("person-detector")
    assert bundle.path("network.keras").is_file()


def test_a_keyword_network_takes_more_frames_of_the_same_bands(tmp_path):
    from tiny_recipe import tones_recipe

    from compress.networks import open_network
    from compress.recipe import parse_recipe

    network = write_network_bundle(tmp_path, tones_recipe())
    changed = tones_recipe(labels=["word", "unknown"], network={"kind": "bundle", "init": "tones"})
    changed["input"]["frames"] = 40
    longer = open_network(parse_recipe(changed, where="here"), data_root=tmp_path)
    assert tuple(longer.inputs[0].shape[1:]) == (40, 16, 1)
    assert tuple(longer.output["keyword"].shape[1:]) == (2,)
    ours, theirs = weights_of(longer), weights_of(network)
    assert all(same(ours[name], theirs[name]) for name in theirs if name != "keyword")
    features = np.random.default_rng(0).normal(0, 0.3, (1, 40, 16, 1)).astype(np.float32)
    assert np.isfinite(np.asarray(longer(features)["keyword"])).all()
    changed["input"]["mels"] = 20
    with pytest.raises(RecipeError, match="cannot take inputs of"):
        open_network(parse_recipe(changed, where="here"), data_root=tmp_path)
