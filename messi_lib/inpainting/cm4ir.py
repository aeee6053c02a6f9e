"""draft"""
from __future__ import annotations
import torch
import torch.nn.functional as F
from .solvers import *
from .solvers import Unknown
def smooth_fill(image, hole):
    known = (~hole).to(image)
    x = torch.where(hole, 0.0, image)
    def pull(total, mass):
        if min(total.shape[-2:]) == 1 or bool((mass > 0).all()):
            return total / mass.clamp(min=1e-12)
        c = F.avg_pool2d(total, 2, ceil_mode=True, count_include_pad=False)
        m = F.avg_pool2d(mass, 2, ceil_mode=True, count_include_pad=False)
        coarse = pull(c, m)
        up = F.interpolate(coarse, total.shape[-2:], mode="bilinear", align_corners=False)
        return torch.where(mass > 0, total / mass.clamp(min=1e-12), up)
    return pull(x*known, known)
@torch.no_grad()
def cm4ir(denoiser, image, hole, sigmas, generator, *, eta=0.1, deltas=0.0, sign=-1, draws=1, calm_below=1.5, init=None, strength=None, progress=None, inject=None):
    levels = [float(s) for s in sigmas]
    noise = draw(denoiser, len(image), generator)
    unknown = Unknown(denoiser, hole, strength)
    start = smooth_fill(image, hole) if init is None else torch.where(hole, init, image)
    x = start + noise*levels[0]
    for i, s in enumerate(levels):
        est = denoiser(x, min(s*(1+deltas),80.0)).clamp(-1,1)
        z = sign * (x - est)/s
        many = len(x)//len(image)
        est = est.view(len(image), many, *image.shape[1:]).mean(1)
        z = z.view(len(image), many, *image.shape[1:])
        clean = torch.where(hole, est, image)
        if i+1 < len(levels):
            n = levels[i+1]
            many2 = draws if n < calm_below else 1
            z = z[:, :1].expand(-1, many2, -1,-1,-1) if z.shape[1] != many2 else z
            z = z.reshape(-1, *image.shape[1:])
            x = clean.repeat_interleave(many2,0) + n*(eta*draw(denoiser,len(image),generator,many2) + (1-eta**2)**.5*z)
    return clean
