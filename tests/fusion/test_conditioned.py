import pytest
import torch
from torch import nn

from messi_lib.consistency.sampling import sample_multistep
from messi_lib.fusion.conditioned import ConditionedDenoiser, attended_blocks, block_shapes
from messi_lib.inpainting.solvers import replacement
from tests.consistency.toys import tiny_denoiser

LATENT = 24


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def conditioned(seed=0, zero=True, **changes) -> ConditionedDenoiser:
    denoiser = tiny_denoiser(**changes)
    torch.manual_seed(seed)
    made = ConditionedDenoiser(denoiser, LATENT, inner_dim=16).eval()
    if not zero:
        for adapter in made.adapters.values():
            nn.init.normal_(adapter.out.weight, std=0.2)
    return made


def problem(n=2, side=4):
    x = torch.randn(n, 3, 16, 16, generator=generator(1))
    return x, torch.randn(n, LATENT, side, side, generator=generator(2))


def test_adapters_sit_where_the_network_attends():
    denoiser = tiny_denoiser()
    names = attended_blocks(denoiser)
    assert "middle_block" in names and len(names) == len(set(names))
    stems = [name.split(".")[0] for name in names]
    assert stems == sorted(stems, key=["input_blocks", "middle_block", "output_blocks"].index)
    channels = {name: shape[0] for name, shape in block_shapes(denoiser).items()}
    assert set(names) <= set(channels)
    made = ConditionedDenoiser(denoiser, LATENT, inner_dim=16)
    for name in names:
        assert made.adapters[name.replace(".", "_")].q.in_features == channels[name]
    # Without attention at any resolution the middle block is left.
    assert attended_blocks(tiny_denoiser(attention_resolutions=())) == ["middle_block"]


def test_starts_equal_to_the_unconditional_network_bit_for_bit():
    made = conditioned()
    x, latent = problem()
    inject = made.inject(made.condition(latent))
    for sigma in (0.01, 1.0, 80.0):
        for boundary in (True, False):
            plain = made.denoiser(x, sigma, boundary=boundary)
            assert torch.equal(made(x, sigma, boundary=boundary, inject=inject), plain)
            assert torch.equal(made(x, sigma, boundary=boundary), plain)


def test_at_first_only_the_output_projections_get_a_gradient():
    made = conditioned().train()
    x, latent = problem()
    made(x, 1.0, inject=made.inject(made.condition(latent))).square().sum().backward()
    moved = {name for name, p in made.named_parameters() if p.grad is not None and p.grad.any()}
    adapters = {name.replace(".", "_") for name in made.names}
    assert moved == {f"adapters.{a}.out.{part}" for a in adapters for part in ("weight", "bias")}


def test_a_trained_condition_changes_the_estimate():
    made = conditioned(zero=False)
    x, latent = problem()
    with torch.no_grad():
        one = made(x, 1.0, inject=made.inject(made.condition(latent)))
        other = made(x, 1.0, inject=made.inject(made.condition(latent.flip(0))))
        none = made(x, 1.0)
    assert (one - none).abs().max() > 1e-3 and (one - other).abs().max() > 1e-4


def test_the_network_and_its_state_dict_are_left_as_they_were():
    denoiser = tiny_denoiser()
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    made = ConditionedDenoiser(denoiser, LATENT, inner_dim=16)
    assert made.denoiser is denoiser and list(denoiser.state_dict()) == list(before)
    inside = {name for name in made.state_dict() if name.startswith("denoiser.")}
    assert inside == {f"denoiser.{name}" for name in before}
    assert not any(p.requires_grad for p in denoiser.parameters())
    x, latent = problem()
    made.train()
    optimizer = torch.optim.Adam([p for p in made.parameters() if p.requires_grad], lr=0.1)
    made(x, 1.0, inject=made.inject(made.condition(latent))).square().sum().backward()
    optimizer.step()
    for name, value in denoiser.state_dict().items():
        assert torch.equal(value, before[name]), name
    tiny_denoiser().load_state_dict(denoiser.state_dict(), strict=True)


def test_a_frozen_generator_has_no_dropout_while_adapters_train():
    made = conditioned(dropout=0.5)
    x, latent = problem()
    inject = made.inject(made.condition(latent))
    expected = made(x, 1.0, inject=inject)
    made.train()
    assert made.training and not made.denoiser.training
    assert torch.equal(made(x, 1.0, inject=inject), expected)


def test_keys_and_values_are_made_once_for_all_noise_levels(monkeypatch):
    made = conditioned(zero=False)
    x, latent = problem(1)
    calls = []
    for adapter in made.adapters.values():
        original = adapter.keys_values
        monkeypatch.setattr(
            adapter, "keys_values", lambda z, original=original: calls.append(1) or original(z)
        )
    condition = made.condition(latent)
    assert len(calls) == len(made.names)
    inject = made.inject(condition)
    sample_multistep(made, 2, [80.0, 5.0, 1.0, 0.2], generator(), inject=inject)
    assert len(calls) == len(made.names)  # four network calls later: none was made again
    with torch.no_grad():
        for sigma in (0.1, 30.0):
            fresh = made(x, sigma, inject=made.inject(made.condition(latent)))
            assert torch.equal(made(x, sigma, inject=inject), fresh)


def test_one_condition_serves_a_batch():
    made = conditioned(zero=False)
    x, _ = problem(3)
    _, latent = problem(1)
    with torch.no_grad():
        together = made(x, 1.0, inject=made.inject(made.condition(latent)))
        repeated = made(x, 1.0, inject=made.inject(made.condition(latent.repeat(3, 1, 1, 1))))
        torch.testing.assert_close(together, repeated, atol=1e-5, rtol=1e-5)
        with pytest.raises(ValueError, match="2 conditions for 3 images"):
            made(x, 1.0, inject=made.inject(made.condition(latent.repeat(2, 1, 1, 1))))


def test_samplers_and_solvers_take_it_for_a_denoiser():
    made = conditioned(zero=False)
    _, latent = problem(1)
    inject = made.inject(made.condition(latent))
    image = torch.rand(2, 3, 16, 16, generator=generator(3)) * 2 - 1
    hole = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hole[..., 4:12, 4:12] = True
    filled = replacement(made, image, hole, [80.0, 1.0], generator(), inject=inject)
    plain = replacement(made, image, hole, [80.0, 1.0], generator())
    kept = ~hole.expand_as(image)
    assert torch.equal(filled[kept], image[kept])
    assert (filled - plain).abs().max() > 1e-4
