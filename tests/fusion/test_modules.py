import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from messi_lib.consistency.attention import use_backend
from messi_lib.consistency.sampling import sample_multistep
from messi_lib.fusion.conditioned import ConditionedDenoiser, block_shapes, reading_blocks
from messi_lib.fusion.costs import (
    cost_table,
    count,
    equal_width,
    make_conditioned,
    measure_costs,
    total_flops,
)
from messi_lib.fusion.modules import MODULES, make_adapter
from messi_lib.fusion.train import fusion_loss
from messi_lib.profiles import FusionConfig, preset
from tests.consistency.toys import tiny_denoiser

LATENT, SIDE = 24, 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def config(**changes):
    return preset(FusionConfig, "smoke", inner_dim=16, **changes)


def conditioned(module, seed=0, **more) -> ConditionedDenoiser:
    denoiser = tiny_denoiser()
    torch.manual_seed(seed)
    return ConditionedDenoiser(denoiser, LATENT, inner_dim=16, module=module, **more).eval()


def opened(module, **more) -> ConditionedDenoiser:
    """One whose branches do something."""
    made = conditioned(module, **more)
    for name in made.names:
        adapter = made.adapter(name)
        if hasattr(adapter, "gate"):
            nn.init.constant_(adapter.gate, 0.5)
        else:
            nn.init.normal_(adapter.out.weight, std=0.2)
    return made


def problem(n=2, side=SIDE):
    x = torch.randn(n, 3, 16, 16, generator=generator(1))
    return x, torch.randn(n, LATENT, side, side, generator=generator(2))


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("size, grid", [((8, 8), (3, 4)), ((4, 6), (9, 9)), ((2, 2), (2, 2))])
def test_shapes(module, size, grid):
    torch.manual_seed(0)
    adapter = make_adapter(module, (32, *size), LATENT, 16, pool=2)
    h = torch.randn(3, 32, *size, generator=generator())
    for n in (1, 3):
        prepared = adapter.prepare(torch.randn(n, LATENT, *grid, generator=generator(1)))
        assert torch.equal(adapter(h, prepared), h)
    with pytest.raises(ValueError, match="2 conditions for 3 images"):
        adapter(h, adapter.prepare(torch.randn(2, LATENT, *grid)))


@pytest.mark.parametrize("module", MODULES)
def test_starts_as_the_unconditional_network_bit_for_bit_and_learns(module):
    made = conditioned(module)
    x, latent = problem()
    inject = made.inject(made.condition(latent))
    with torch.no_grad():
        for sigma in (0.01, 1.0, 80.0):
            assert torch.equal(made(x, sigma, inject=inject), made.denoiser(x, sigma))
    assert set(made.openings().values()) == {0.0}
    optimizer = torch.optim.SGD(made.adapters.parameters(), lr=0.01)
    fusion_loss(made, x.clamp(-1, 1), latent, generator()).mean().backward()
    for name in made.names:
        moved = {n for n, p in made.adapter(name).named_parameters() if p.grad.any()}
        assert moved == ({"gate"} if module == "additive" else {"out.weight", "out.bias"}), name
    optimizer.step()  # no second zero behind the first: now everything learns
    optimizer.zero_grad()
    fusion_loss(made, x.clamp(-1, 1), latent, generator()).mean().backward()
    for name, parameter in made.adapters.named_parameters():
        assert parameter.grad.any(), name
    assert min(made.openings().values()) > 0


@pytest.mark.parametrize("module", MODULES)
def test_without_a_zero_start_it_differs_at_once(module):
    made = conditioned(module, zero=False)
    x, latent = problem()
    with torch.no_grad():
        read = made(x, 1.0, inject=made.inject(made.condition(latent)))
        assert not torch.equal(read, made(x, 1.0))


@pytest.mark.parametrize("module", MODULES)
def test_what_belongs_to_the_photo_is_computed_once(module, monkeypatch):
    made = opened(module)
    _, latent = problem(1)
    calls = []
    for name in made.names:
        adapter, original = made.adapter(name), made.adapter(name).prepare
        monkeypatch.setattr(adapter, "prepare", lambda z, f=original: calls.append(1) or f(z))
    inject = made.inject(made.condition(latent))
    a = sample_multistep(made, 2, [80.0, 5.0, 1.0], generator(), inject=inject)
    assert len(calls) == len(made.names)
    b = sample_multistep(made, 2, [80.0, 5.0, 1.0], generator())
    assert (a - b).abs().max() > 1e-4  # and it is read


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("side", [3, 5])
def test_cost_formula_equals_what_torch_counts(module, side):
    made = conditioned(module, rates=(1, 2), pool=2)
    x, latent = problem(1, side)
    maps = {n: torch.randn(1, *s) for n, s in block_shapes(made.denoiser).items()}
    with use_backend("math"), torch.no_grad():
        with FlopCounterMode(display=False) as photo:
            condition = made.condition(latent)
        with FlopCounterMode(display=False) as step:
            for name in made.names:
                made.adapter(name)(maps[name], condition[name])
    counted = photo.get_total_flops(), step.get_total_flops()
    assert counted == total_flops(made, side**2) and sum(counted) > 0


@pytest.mark.parametrize("rates", [(), (1, 2)])
@pytest.mark.parametrize("channels", [24, 120])
def test_parameters_are_equal_within_a_tenth(rates, channels):
    denoiser, chosen = tiny_denoiser(), config(rates=rates)
    sizes = {}
    for module in MODULES:
        changed = config(rates=rates, module=module)
        sizes[module] = count(make_conditioned(denoiser, channels, changed).adapters)
    assert sizes["tokens"] == count(
        ConditionedDenoiser(denoiser, channels, inner_dim=16, rates=rates).adapters
    )
    assert max(sizes.values()) < 1.1 * sizes["tokens"]
    assert min(sizes.values()) > 0.9 * sizes["tokens"]
    assert equal_width("alignment", denoiser, channels, chosen) > 16


def test_interpolated_and_downsampled_are_tokens_where_the_sizes_agree():
    h = torch.randn(2, 32, 4, 4, generator=generator())
    latent = torch.randn(2, LATENT, 4, 4, generator=generator(1))
    made = {}
    for module in ("tokens", "interpolate", "downsample", "pooled"):
        torch.manual_seed(3)
        adapter = make_adapter(module, (32, 4, 4), LATENT, 16, pool=4, zero=False)
        made[module] = adapter(h, adapter.prepare(latent))
    for module, out in made.items():
        torch.testing.assert_close(out, made["tokens"], msg=module)


def test_additive_keeps_places_and_film_has_none():
    h = torch.zeros(1, 32, 6, 6)
    latent = torch.randn(1, LATENT, 6, 6, generator=generator())
    torch.manual_seed(0)
    additive = make_adapter("additive", (32, 6, 6), LATENT, 16, zero=False)
    film = make_adapter("film", (32, 6, 6), LATENT, 16, zero=False)
    for adapter, there in ((additive, True), (film, False)):
        out, turned = (adapter(h, adapter.prepare(z)) for z in (latent, latent.flip(-1)))
        torch.testing.assert_close(turned, out.flip(-1), atol=1e-5, rtol=1e-4)
        assert (out.std((2, 3)).max() > 1e-3) == there


def test_costs_are_measured_and_shown():
    costs = measure_costs(tiny_denoiser(), (LATENT, SIDE, SIDE), config(), repeats=2)
    assert [cost.module for cost in costs] == list(MODULES)
    assert all(cost.ms[0] > 0 and cost.ms[1] > 0 for cost in costs)
    lines = cost_table(costs).splitlines()
    assert len(lines) == 1 + len(MODULES) and len({len(line) for line in lines}) == 1


def test_names_and_places_that_do_not_exist():
    with pytest.raises(ValueError, match="unknown module 'token' .*use one of tokens, interpol"):
        conditioned("token")
    with pytest.raises(ValueError, match="unknown module"):
        make_conditioned(tiny_denoiser(), LATENT, config(module="cat"))
    with pytest.raises(ValueError, match=r"rates=\[16\]: the decoder has \[1, 2\]"):
        conditioned("tokens", rates=(1, 16))
    with pytest.raises(ValueError, match="pool=0"):
        conditioned("pooled", pool=0)
    names = reading_blocks(tiny_denoiser(), (2,))
    assert names[0] == "middle_block" and all("output" in name for name in names[1:])
