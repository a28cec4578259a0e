import doctest
import json
import logging

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from filters.errors import ConfigError
from mixtures.train import SIZES, Shape, build_model, load_model, models, pick_device, save_model

TOKENS = torch.tensor([[1, 5, 9, 60, 2]])


def weights_of(model):
    return dict(model.named_parameters())


@pytest.fixture
def checkpoint(tmp_path, decoder):
    save_model(decoder(), tmp_path / "model")
    return tmp_path / "model"


def test_a_built_model_has_as_many_parameters_as_its_shape_says():
    for size, vocab_size in (("1M", 2048), (Shape(32, 48, 3, 2), 259)):
        shape = SIZES[size] if isinstance(size, str) else size
        model = build_model(size, vocab_size=vocab_size, max_length=64, seed=0)
        assert model.num_parameters() == shape.parameters(vocab_size)
        assert model.lm_head.weight is model.model.embed_tokens.weight
        assert (model.dtype, model.training) == (torch.float32, False)


def test_the_weights_depend_on_the_seed_alone_and_no_generator_is_touched(decoder):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = weights_of(decoder(seed=5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = weights_of(decoder(seed=5)), weights_of(decoder(seed=6))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if one[name].ndim == 2)


def test_the_first_weights_have_the_spread_that_the_docstring_states():
    model = build_model(Shape(256, 512, 2, 4), vocab_size=500, max_length=64, seed=0)
    block = model.model.layers[1]
    expected = {
        model.model.embed_tokens: 0.1,
        block.self_attn.q_proj: (3 * 256) ** -0.5,
        block.mlp.up_proj: (3 * 256) ** -0.5,
        block.self_attn.o_proj: (3 * 256) ** -0.5 / 2,  # sqrt(2 x 2 layers) = 2
        block.mlp.down_proj: 2 / 512**0.5,
    }
    for module, deviation in expected.items():
        assert module.weight.std().item() == pytest.approx(deviation, rel=0.02)
    assert torch.equal(model.model.norm.weight, torch.ones(256))


def test_transformers_loads_what_is_saved_and_computes_the_same(checkpoint, decoder):
    library = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    ours = load_model(checkpoint)
    with torch.no_grad():
        expected = decoder()(TOKENS, use_cache=False).logits
        assert torch.equal(ours(TOKENS, use_cache=False).logits, expected)
        assert torch.equal(library(TOKENS).logits, expected)
    assert ours.config._attn_implementation == "sdpa"
    config = json.loads((checkpoint / "config.json").read_text())
    assert [config[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == [0, 1, 2]


def test_a_half_precision_checkpoint_is_read_in_full_precision(tmp_path, decoder):
    save_model(decoder().bfloat16(), tmp_path / "half")
    assert load_model(tmp_path / "half").dtype == torch.float32


def test_the_same_model_is_saved_as_the_same_bytes(tmp_path, decoder):
    for name in ("one", "two"):
        save_model(decoder(), tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["config.json", "generation_config.json", "model.safetensors"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_saving_and_loading_say_nothing_and_leave_the_library_as_it_was(tmp_path, capfd, decoder):
    library = transformers.utils.logging
    library.set_verbosity(logging.INFO)
    try:
        save_model(decoder(), tmp_path / "model")
        load_model(tmp_path / "model")
        assert library.get_verbosity() == logging.INFO
        assert library.is_progress_bar_enabled()
    finally:
        library.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_without_all_weights_is_refused(checkpoint):
    weights = load_file(checkpoint / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"1 weights are missing, among them model\.norm\.weight; allowed: a complete"
    ):
        load_model(checkpoint)


@pytest.mark.parametrize("config", ['{"model_type": "t5"}', '{"model_type": "no-such-family"}', "{"])
def test_a_config_that_is_no_causal_language_model_is_refused(checkpoint, config):
    (checkpoint / "config.json").write_text(config)
    with pytest.raises(
        ConfigError, match=r"(?s)checkpoint .*model: .*Error: .*\. Allowed: a causal language model with"
    ):
        load_model(checkpoint)


def test_pickled_weights_are_not_read(checkpoint, decoder):
    (checkpoint / "model.safetensors").unlink()
    torch.save(decoder().state_dict(), checkpoint / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"model\.safetensors"):
        load_model(checkpoint)


def test_a_directory_without_config_and_a_size_without_shape_are_refused_with_what_is_allowed(tmp_path):
    with pytest.raises(
        ConfigError, match=r"no config\.json there; allowed: a directory written by save_model"
    ):
        load_model(tmp_path)
    with pytest.raises(ConfigError, match=r"'2T': no such size; allowed: 1M, 13M, or a Shape"):
        build_model("2T", vocab_size=259, max_length=64, seed=0)


def test_a_device_is_picked_by_name():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"device 'abacus': no such device; allowed: auto, cpu, cuda"):
        pick_device("abacus")
    with pytest.raises(ConfigError, match=r"device 'meta': no such device"):
        pick_device("meta")
    with pytest.raises(
        ConfigError, match=r"device 'cuda:99': PyTorch sees \d+ CUDA devices here; use 'auto' or 'cpu'"
    ):
        pick_device("cuda:99")


def test_the_examples_in_the_docstrings_hold():
    found = doctest.testmod(models)
    assert (found.failed, found.attempted) == (0, 3)
