import pytest
import torch

from messi_lib.consistency.denoiser import Denoiser, build_denoiser, load_denoiser
from messi_lib.consistency.train import export_denoiser
from messi_lib.profiles import ConsistencyConfig, preset

from .reference import close, fixture, network
from .toys import tiny_denoiser


@pytest.mark.parametrize("boundary, key", [(False, "denoise_edm"), (True, "denoise_cm")])
def test_estimates_equal_the_public_code(boundary, key):
    entry = fixture()["diffusion"]
    denoiser = Denoiser(network("tiny")[0], image_size=32, boundary=boundary)
    x = entry["x0"] + entry["noise"] * entry["sigma4"].view(-1, 1, 1, 1)
    close(denoiser(x, entry["sigma4"]), entry[key])


def test_is_the_identity_at_sigma_min():
    denoiser = tiny_denoiser()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(denoiser(x, 0.002), x, rtol=0, atol=1e-6)
    assert not torch.allclose(denoiser(x, 0.5), x, atol=1e-2)


def test_each_image_has_its_own_noise_level():
    denoiser = tiny_denoiser().eval()
    x = torch.randn(2, 3, 16, 16)
    together = denoiser(x, torch.tensor([0.1, 10.0]))
    alone = torch.cat([denoiser(x[:1], 0.1), denoiser(x[1:], 10.0)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_export_and_load_give_the_same_function(tmp_path):
    config = preset(ConsistencyConfig, "smoke")
    denoiser = tiny_denoiser().eval()
    path = export_denoiser(tmp_path / "g.safetensors", config, denoiser.state_dict(), {"seed": "0"})
    loaded = load_denoiser(path, torch.device("cpu"))
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded(x, 1.0), denoiser(x, 1.0), atol=2e-3, rtol=2e-3)
    assert loaded.config == config and not loaded.training


def test_bad_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        load_denoiser(tmp_path / "none.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ValueError, match="torn.safetensors is no complete"):
        load_denoiser(torn)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiple of"):
        build_denoiser(preset(ConsistencyConfig, "smoke", image_size=18))
