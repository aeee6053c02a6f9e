"""The numbers of every profile: presets of the configurations in `profiles`, by class and name.

Only what differs from a configuration's own defaults. Where a number was found by trying, the
comment says what was seen.
"""

from __future__ import annotations

_TINY_HIERA = (("embed_dim", 32), ("num_heads", 1), ("stages", (1, 2, 3, 1)))
# A Hiera small enough to be trained from random numbers on a CPU.
_SCRATCH_SEGMENTER = dict(
    encoder="hiera_tiny_224",
    encoder_args=(("embed_dim", 32), ("num_heads", 1), ("stages", (1, 2, 4, 2))),
    pretrained=False,
    freeze_encoder=False,
    image_size=128,
    blocks=1,
    block_heads=8,
    fpn_dim=64,
    tail=(16, 8),
    batch=16,
    lr=1e-3,
    lr_schedule="cosine",
)
# Makes the weights that ship, with COCO annotations: 7 images/s on two cores.
_SHIPPED_SEGMENTER = dict(
    encoder="tf_efficientnet_lite2",
    encoder_args=(("out_indices", (1, 2, 3, 4)),),
    freeze_encoder=False,
    frozen=("conv_stem", "bn1", "blocks.0", "blocks.1"),
    encoder_lr=0.2,
    image_size=256,
    blocks=1,
    block_heads=8,
    fpn_dim=80,
    tail=(16, 8),
    loss=(("boundary", 1.0), ("iou", 1.0)),
    strong_augment=False,
    paste=0.5,
    pitch=0.15,
    batch=16,
    lr=1e-3,
    lr_schedule="cosine",
    optimizer="adamw",
    weight_decay=0.05,
)
# On drawn scenes: what ImageNet knows is enough to begin with, so minutes do.
_LAPTOP_SEGMENTER = _SHIPPED_SEGMENTER | dict(
    encoder="tf_efficientnet_lite0", image_size=160, fpn_dim=64, paste=0.0, pitch=0.0
)
_HISTORICAL_SEGMENTER = dict(
    encoder="hiera_base_224",
    blocks=10,
    fpn_dim=256,
    tail=None,
    loss=(("bce", 1.0),),
    steps=100000,
    batch=64,
)
# 150 images/s in EDM on two cores (105 on one), 2.0M parameters. Patches of 2 px leave 16x16
# positions, and few channels where there are many positions: 64 channels there halve the speed. At
# 64 px patches of 4 px cost as little, but their 48 values do not pass through so few channels: the
# images keep specks of noise.
_SMALL_UNET = dict(
    image_size=32,
    patch=2,
    gate=True,
    model_channels=32,
    channel_mult=(1, 2, 3),
    num_res_blocks=1,
    attention_resolutions=(2, 4),
    resblock_updown=False,
    lr=1e-3,
    optimizer="adam",
    lr_schedule="cosine",
    warmup=400,
    edm_fraction=0.6,
    ect_stages=6,
)
# From the generator that ships, to one that fills holes: two stages of tuning, see its model card.
_SMALL_INPAINTER = _SMALL_UNET | dict(start="shipped", ect_stages=2)
# A layer is worth 64 px: its outline shows in a large photo. Patches of 2 px and one level more
# than _SMALL_UNET: about 50 images/s in EDM on one core.
_SMALL_LAYER = _SMALL_UNET | dict(
    image_size=64,
    channel_mult=(1, 1, 2, 3),
    attention_resolutions=(4, 8),
    edm_fraction=0.78,
    ect_stages=2,
)
_LSUN_UNET = dict(
    patch=1,
    num_res_blocks=2,
    attention_resolutions=(8, 16, 32),
    num_head_channels=64,
    use_scale_shift_norm=False,
    resblock_updown=True,
    ect_huber_c=0.24,  # 0.00054 sqrt(3 * 256^2), iCT section 3.3
    edm_p_mean=-0.4,  # more noise at higher resolution
    edm_p_std=1.4,
    ect_p_mean=-0.8,
    ect_p_std=1.8,
)

_GPU_GENERATOR = dict(
    **_LSUN_UNET,
    image_size=256,
    model_channels=128,
    channel_mult=(1, 1, 2, 2, 4, 4),
    steps=190000,
    batch=32,
    dropout=0.2,
    ect_dropout=0.2,
    augment=0.15,
    channels_last=True,
    compile=True,
    lr=1e-4,
    warmup=2000,
    save_every=5000,
    snapshots=30,
    sample_every=5000,
)

_ALL_ARMS = (
    "none", "tuned", "concatenated", "additive", "interpolate", "downsample", "tokens", "pooled",
    "film", "alignment", "pose", "everything", "shuffled", "random", "open",
)  # fmt: skip

PRESETS: dict[str, dict[str, dict]] = {
    "SegmentationConfig": {
        "smoke": dict(
            encoder="hiera_tiny_224",
            encoder_args=_TINY_HIERA,
            pretrained=False,
            freeze_encoder=False,
            image_size=64,
            blocks=1,
            block_heads=4,
            fpn_dim=32,
            tail=(16, 8),
            steps=12,
            batch=8,
            images=64,
            warmup=4,
            log_every=4,
            save_every=6,
        ),
        "laptop": dict(**_LAPTOP_SEGMENTER, steps=800, images=3000, log_every=50, save_every=100),
        "overnight": dict(
            **_SHIPPED_SEGMENTER, steps=6000, images=4000, log_every=50, save_every=250
        ),
        "gpu": dict(steps=40000, batch=64, lr=1e-3, lr_schedule="cosine", images=64000),
        "image_a": _HISTORICAL_SEGMENTER,
        "image_b": _HISTORICAL_SEGMENTER,
        # networks by name, for the chapter that compares them
        "historical": _HISTORICAL_SEGMENTER,
        "default": {},
        "embedded": _SHIPPED_SEGMENTER,
        "scratch": dict(**_SCRATCH_SEGMENTER, steps=300, images=1200),
    },
    "ConsistencyConfig": {
        "smoke": dict(
            image_size=16,
            patch=2,
            gate=True,
            model_channels=32,
            channel_mult=(1, 2),
            num_res_blocks=1,
            steps=12,
            batch=8,
            images=64,
            warmup=4,
            log_every=4,
            save_every=6,
            ect_stages=2,
        ),
        "laptop": dict(
            **_SMALL_UNET, steps=600, batch=32, images=2000, log_every=25, save_every=100
        ),
        "overnight": dict(
            **_SMALL_UNET, steps=10000, batch=32, images=16000, log_every=50, save_every=200,
            sample_every=1000,
        ),
        "gpu": _GPU_GENERATOR,
        "image_a": dict(
            **_LSUN_UNET,
            image_size=256,
            model_channels=256,
            channel_mult=(1, 1, 2, 2, 4, 4),
            steps=100000,
            batch=16,
            channels_last=True,
            ema_device="cpu",
            ema_every=10,
            lr=1e-4,
            warmup=2000,
            save_every=5000,
            snapshots=30,
            sample_every=5000,
        ),
        "image_b": dict(
            **_LSUN_UNET,
            image_size=512,
            model_channels=192,
            channel_mult=(0.5, 1, 1, 2, 2, 4, 4),
            steps=150000,
            batch=4,
            channels_last=True,
            ema_device="cpu",
            ema_every=10,
            lr=1e-4,
            warmup=2000,
            save_every=5000,
            snapshots=30,
            sample_every=5000,
        ),
    },
    "InpainterConfig": {
        "smoke": dict(
            image_size=16, patch=2, gate=True, model_channels=32, channel_mult=(1, 2),
            num_res_blocks=1, steps=12, batch=8, images=64, warmup=4, log_every=4, save_every=6,
            ect_stages=2,
        ),
        "laptop": _SMALL_INPAINTER
        | dict(steps=400, batch=32, images=2000, warmup=40, log_every=25, save_every=100),
        "overnight": dict(
            **_SMALL_INPAINTER, steps=7000, batch=32, images=16000, log_every=50, save_every=200,
            sample_every=500,
        ),
        # from a generator of the same profile: --start runs/NAME/generator.safetensors
        "gpu": _GPU_GENERATOR | dict(steps=60000, augment=0.0, ect_stages=4),
    },
    "LayerConfig": {
        "smoke": dict(
            image_size=16, patch=2, gate=True, model_channels=32, channel_mult=(1, 2),
            num_res_blocks=1, steps=12, batch=8, images=64, warmup=4, log_every=4, save_every=6,
            ect_stages=2,
        ),
        "laptop": _SMALL_LAYER
        | dict(steps=400, batch=32, images=2000, warmup=40, log_every=25, save_every=100),
        "overnight": dict(
            **_SMALL_LAYER, steps=5000, batch=32, images=20000, log_every=50, save_every=250,
            sample_every=500,
        ),
        "gpu": _GPU_GENERATOR | dict(steps=200000, augment=0.0),
    },
    "FusionConfig": {
        "smoke": dict(steps=6, batch=4, warmup=2, log_every=2, save_every=3),
        "laptop": dict(steps=150, batch=16, warmup=20, log_every=10, save_every=50),
        "overnight": dict(steps=4000, batch=32),
        "gpu": dict(steps=20000, batch=32, inner_dim=128),
    },
    "FusionStudyConfig": {
        "smoke": dict(
            steps=6, batch=4, warmup=2, log_every=2, save_every=3, arms=("none", "tokens"),
            primary=("tokens", "none"), seeds=1, images=16, held_out=8, level=3, inner_dim=16,
            solver_steps=2,
        ),
        "laptop": dict(
            steps=400, batch=16, warmup=20, log_every=20, save_every=100, level=3, inner_dim=32,
            rates=(1, 2), images=512,
        ),
        "overnight": dict(
            steps=4000, batch=32, level=3, inner_dim=32, rates=(1, 2), images=8192, held_out=256,
        ),
        "gpu": dict(
            steps=20000, batch=32, inner_dim=128, images=16384, held_out=256, arms=_ALL_ARMS,
        ),
    },
    "ReplaceConfig": {"smoke": dict(steps=2, draws=2), "laptop": {}, "overnight": {}, "gpu": {}},
}
