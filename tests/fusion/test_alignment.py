import torch
import torch.nn.functional as F

from messi_lib.fusion.alignment import AlignedDenoiser, Alignment, aligned_loss
from messi_lib.fusion.conditioned import block_shapes
from messi_lib.fusion.train import consistency_loss
from tests.consistency.toys import tiny_denoiser


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def aligned() -> AlignedDenoiser:
    denoiser = tiny_denoiser()
    torch.manual_seed(0)
    return AlignedDenoiser(denoiser, Alignment(block_shapes(denoiser)["middle_block"][0], 24, 16))


def test_losses_written_out():
    torch.manual_seed(0)
    made = Alignment(8, 24, 16)
    h = torch.randn(2, 8, 3, 3, generator=generator())
    latent = torch.randn(2, 24, 6, 6, generator=generator(1))
    with torch.no_grad():
        cosine, similar = made(h, latent)
        ours = F.interpolate(made.mlp(h), (6, 6), mode="bilinear").flatten(2)
        for i in range(2):
            a, b = (F.normalize(t[i].flatten(1).T, dim=1) for t in (ours, latent))
            torch.testing.assert_close(cosine[i], 1 - (a * b).sum(1).mean())
            torch.testing.assert_close(similar[i], (a @ a.T - b @ b.T).square().mean())


def test_perfect_agreement_costs_nothing_and_turns_are_invisible_to_similarities():
    made = Alignment(24, 24, 16)
    made.mlp = torch.nn.Identity()
    latent = torch.randn(2, 24, 4, 4, generator=generator())
    for loss in made(latent, latent):
        torch.testing.assert_close(loss, torch.zeros(2), atol=1e-6, rtol=0)
    turn = torch.linalg.qr(torch.randn(24, 24, generator=generator(1)))[0]
    cosine, similar = made(torch.einsum("cd,bdhw->bchw", turn, latent), latent)
    assert similar.max() < 1e-6 and cosine.min() > 0.5


def test_weight_zero_is_the_plain_loss_and_the_generator_stays_an_ordinary_one():
    made, plain = aligned(), tiny_denoiser()
    images = torch.rand(3, 3, 16, 16, generator=generator()) * 2 - 1
    latent = torch.randn(3, 24, 4, 4, generator=generator(1))
    loss, _ = aligned_loss(made, images, latent, generator(2), weight=0.0)
    assert torch.equal(loss, consistency_loss(plain, images, generator(2)))
    assert made.denoiser.state_dict().keys() == plain.state_dict().keys()


def test_alignment_reaches_the_generator_and_grows_with_training():
    made = aligned()
    images = torch.rand(4, 3, 16, 16, generator=generator()) * 2 - 1
    latent = torch.randn(4, 24, 4, 4, generator=generator(1))
    optimizer = torch.optim.Adam(made.parameters(), lr=3e-3)
    seen = []
    for step in range(12):
        optimizer.zero_grad()
        loss, cosine = aligned_loss(made, images, latent, generator(step), weight=5.0)
        if step == 0:
            first = made.denoiser.unet.input_blocks[0][0].weight
            assert torch.autograd.grad(cosine.mean(), first, retain_graph=True)[0].any()
        loss.mean().backward()
        optimizer.step()
        seen.append(float(cosine.detach().mean()))
    assert seen[-1] < seen[0] - 0.05
