"""The train step of stage 3 in plain PyTorch, for comparison: the official computation, with fused
attention and AdamW. On a CUDA device: in bfloat16 by autocast, as it is or with blocks compiled.

Six passes as in the official code: image and text with both contrastive branches, then four fused
ones. It is here for its speed alone; what is trained is `models.vlmo`.
"""

import math
import time
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional as F

from vlmo_jax.bench.device import Peak
from vlmo_jax.bench.report import Report, gibibytes, setting
from vlmo_jax.bench.steps import speed, without_data
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.peak_memory import peak_bytes
from vlmo_jax.layers import relative_position
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.recipes import Recipe

IGNORED_LABEL = -100


class Block(nn.Module):
    """A block of `layers.transformer`: shared attention, then the expert of each span of tokens."""

    def __init__(self, model: ConfigDict, experts: Iterable[str]) -> None:
        super().__init__()
        width, self.num_heads = model.width, model.num_heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)
        self.q_bias, self.v_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.experts = nn.ModuleDict(
            {
                name: nn.Sequential(
                    nn.LayerNorm(width, eps=1e-6),
                    nn.Linear(width, model.mlp_dim),
                    nn.GELU(),
                    nn.Linear(model.mlp_dim, width),
                )
                for name in experts
            }
        )
        gamma = lambda: (
            nn.Parameter(torch.full((width,), model.layer_scale)) if model.layer_scale else 1.0
        )
        self.gamma_1, self.gamma_2 = gamma(), gamma()

    def forward(
        self,
        x: torch.Tensor,
        spans: tuple[tuple[str, int], ...],
        bias: torch.Tensor | None,
        padding: torch.Tensor | None,
    ) -> torch.Tensor:
        """States [B, N, D], spans ((expert, tokens), ...), and what is added to the attention
        logits: position bias and padding.
        """
        batch, tokens, width = x.shape
        qkv_bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(self.norm(x), self.qkv.weight, qkv_bias).view(
            batch, tokens, 3, self.num_heads, -1
        )
        added = [part.to(qkv.dtype) for part in (bias, padding) if part is not None]
        attended = F.scaled_dot_product_attention(
            *qkv.permute(2, 0, 3, 1, 4), attn_mask=sum(added[1:], added[0]) if added else None
        )
        x = x + self.gamma_1 * self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        parts = [
            self.experts[name](part)
            for (name, _), part in zip(spans, x.split([n for _, n in spans], dim=1), strict=True)
        ]
        return x + self.gamma_2 * torch.cat(parts, dim=1)


class Vlmo(nn.Module):
    """VLMo as stage 3 trains it; `model` is `config.model`."""

    def __init__(self, model: ConfigDict) -> None:
        super().__init__()
        width, self.depth, self.num_lower = model.width, model.depth, model.depth - model.num_upper
        grid = model.image_size // model.patch_size
        self.patch = nn.Conv2d(3, width, model.patch_size, model.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.word, self.text_norm = (
            nn.Embedding(model.vocab_size, width),
            nn.LayerNorm(width, eps=1e-12),
        )
        self.segment, self.modality_type = (nn.Parameter(torch.zeros(2, width)) for _ in range(2))
        self.table = self.image_position = self.text_position = None
        if model.position == "relative":
            rows = relative_position.num_rows(grid, model.text_positions)
            self.table = nn.Parameter(torch.zeros(rows, model.depth * model.num_heads))
            sizes = (grid, model.text_length, model.text_positions)
            for name, index in (
                ("image", relative_position.image_index(grid)),
                ("text", relative_position.text_index(*sizes)),
                ("fused", relative_position.joint_index(*sizes)),
            ):
                self.register_buffer(f"{name}_index", torch.from_numpy(index.astype(np.int64)))
        else:
            self.image_position = nn.Parameter(torch.zeros(1, grid**2 + 1, width))
            self.text_position = nn.Parameter(torch.zeros(1, model.text_length, width))
        upper = ("image", "text", "vision_language")
        self.blocks = nn.ModuleList(
            Block(model, upper[:2] if layer < self.num_lower else upper)
            for layer in range(model.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.projections = nn.ModuleDict(
            {
                f"{modality}{branch}": nn.Linear(width, width, bias=False)
                for modality in ("image", "text")
                for branch in ("", "_vl")
            }
        )
        self.logit_scale, self.logit_scale_vl = (
            nn.Parameter(torch.tensor(math.log(1 / 0.07))) for _ in range(2)
        )
        self.pooler, self.itm_head = nn.Linear(width, width), nn.Linear(width, 2)
        self.mlm_head = nn.Sequential(
            nn.Linear(width, width),
            nn.GELU(),
            nn.LayerNorm(width, eps=1e-12),
            nn.Linear(width, model.vocab_size),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=model.init_std)

    def embed_image(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens [B, P, D] of images [B, 3, S, S]."""
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        x = x if self.image_position is None else x + self.image_position
        return x + self.modality_type[1]

    def embed_text(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Tokens [B, T, D] of token ids [B, T]."""
        x = self.word(token_ids) + self.segment[0]
        x = x if self.text_position is None else x + self.text_position
        return self.text_norm(x) + self.modality_type[0]

    def biases(self, name: str) -> list[torch.Tensor | None]:
        """The position bias of each layer [1, H, N, N], or None."""
        if self.table is None:
            return [None] * self.depth
        bias = self.table[getattr(self, f"{name}_index")].permute(2, 0, 1)[None]
        return list(bias.chunk(self.depth, dim=1))

    @staticmethod
    def padding(token_mask: torch.Tensor | None) -> torch.Tensor | None:
        """What padding adds to attention logits [B, 1, 1, N], or None."""
        if token_mask is None:
            return None
        zeros = torch.zeros(token_mask.shape, device=token_mask.device)
        return zeros.masked_fill(~token_mask, -math.inf)[:, None, None]

    def encode_alone(
        self, x: torch.Tensor, modality: str, token_mask: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """First tokens of both contrastive branches, from one modality's embeddings."""
        biases, spans = self.biases(modality), ((modality, x.shape[1]),)
        padding = self.padding(token_mask)
        for block, bias in zip(
            self.blocks[: self.num_lower], biases[: self.num_lower], strict=True
        ):
            x = block(x, spans, bias, padding)
        branches = []
        for expert in (modality, "vision_language"):
            states = x
            for block, bias in zip(
                self.blocks[self.num_lower :], biases[self.num_lower :], strict=True
            ):
                states = block(states, ((expert, x.shape[1]),), bias, padding)
            branches.append(self.norm(states)[:, 0])
        return [
            F.normalize(self.projections[modality + suffix](states), dim=-1)
            for suffix, states in zip(("", "_vl"), branches, strict=True)
        ]

    def encode_fused(
        self, token_ids: torch.Tensor, token_mask: torch.Tensor, image: torch.Tensor
    ) -> torch.Tensor:
        """States of [text; image] from token ids and images."""
        text, image = self.embed_text(token_ids), self.embed_image(image)
        mask = F.pad(token_mask, (0, image.shape[1]), value=True)
        x, spans = (
            torch.cat([text, image], dim=1),
            (("text", text.shape[1]), ("image", image.shape[1])),
        )
        upper_spans = (("vision_language", x.shape[1]),)
        biases, padding = self.biases("fused"), self.padding(mask)
        for number, (block, bias) in enumerate(zip(self.blocks, biases, strict=True)):
            x = block(x, spans if number < self.num_lower else upper_spans, bias, padding)
        return self.norm(x)

    def forward(
        self, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The losses of stage 3: itc, itm, mlm."""
        ids, mask, image = batch["token_ids"], batch["token_mask"], batch["image"]
        rows = torch.arange(len(ids), device=ids.device)
        image_features, image_vl = self.encode_alone(self.embed_image(image), "image")
        text_features, text_vl = self.encode_alone(self.embed_text(ids), "text", mask)
        logits = self.logit_scale.exp() * image_features @ text_features.T
        logits_vl = self.logit_scale_vl.exp() * image_vl @ text_vl.T
        itc = sum(F.cross_entropy(x, rows) for x in (logits, logits.T, logits_vl, logits_vl.T)) / 4

        with torch.no_grad():
            alone = torch.eye(len(ids), dtype=torch.bool, device=ids.device)
            texts, images = (
                torch.multinomial(x.float().softmax(-1).masked_fill(alone, 0) + 1e-9 * ~alone, 1)[
                    :, 0
                ]
                for x in (logits, logits.T)
            )
        masked = self.encode_fused(batch["mlm_token_ids"], mask, image)[:, : ids.shape[1]]
        mlm = F.cross_entropy(
            self.mlm_head(masked).flatten(0, 1),
            batch["mlm_labels"].flatten(),
            ignore_index=IGNORED_LABEL,
        )
        pairs = ((ids, mask, image), (ids, mask, image[images]), (ids[texts], mask[texts], image))
        pooled = [torch.tanh(self.pooler(self.encode_fused(*pair)[:, 0])) for pair in pairs]
        labels = torch.tensor([1, 0, 0], device=ids.device).repeat_interleave(len(ids))
        itm = F.cross_entropy(self.itm_head(torch.cat(pooled)), labels)
        return itc, itm, mlm


def torch_batch(batch: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A batch of ours as PyTorch and the official code take it: images NCHW of -1 to 1, labels at
    every token.
    """
    labels = np.full(batch["token_ids"].shape, IGNORED_LABEL, np.int64)
    rows, columns = np.nonzero(batch["mlm_labels"] >= 0)
    labels[rows, batch["mlm_positions"][rows, columns]] = batch["mlm_labels"][rows, columns]
    return {
        "image": torch.from_numpy(
            batch["image"].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1
        ),
        "token_mask": torch.from_numpy(batch["token_mask"]),
        "mlm_labels": torch.from_numpy(labels),
        **{
            name: torch.from_numpy(batch[name].astype(np.int64))
            for name in ("token_ids", "mlm_token_ids")
        },
    }


def benchmark_peer(config: ConfigDict, *, steps: int, warmup: int, compiled: bool = True) -> Report:
    """Measures the PyTorch step of a recipe of stage 3: on CPU in float32 as it is written, on a
    CUDA device in bfloat16, with the batch halved until it fits.

    Args:
        config: ConfigDict of a recipe. Data set and tokenizer need not be set.
        steps: how many steps to measure, one after another.
        warmup: steps before them, at least 1.
        compiled: on a CUDA device, by torch.compile, which takes a minute or two.

    Returns:
        Report.

    Raises:
        ConfigError: the recipe is not one of image-text pairs.
    """
    config = without_data(config, mode="train")
    recipe = Recipe(config)
    if config.task.kind != "pair_pretrain":
        raise ConfigError(
            f"config.task.kind={config.task.kind!r} has no peer in PyTorch; use configs/stage3.py"
        )
    on_cuda = torch.cuda.is_available()
    compiled = compiled and on_cuda
    while True:
        try:
            device = "cuda" if on_cuda else "cpu"
            seconds = _time_steps(recipe, steps, warmup, device, compiled=compiled)
            break
        except torch.cuda.OutOfMemoryError:
            if config.batch_size < 2:
                raise
        torch.cuda.empty_cache()
        config.batch_size //= 2
    dtype = "bfloat16" if on_cuda else "float32"
    peak = measure_matmul(8192, device="cuda") if on_cuda else measure_matmul()
    flops = TRAINING_FACTOR * recipe.forward_flops()
    rows, record = speed(
        seconds,
        config.batch_size,
        flops,
        peak,
        per="step",
        unit=recipe.data.unit,
    )
    rows.append(("process memory", f"{gibibytes(peak_bytes())} at most"))
    device = torch.cuda.get_device_name() if on_cuda else f"CPU, {torch.get_num_threads()} threads"
    record = {
        "benchmark": "peer",
        **setting(config, dtype),
        "torch": torch.__version__,
        "torch_device": device,
        "compiled": compiled,
        **record,
        "process_peak_bytes": peak_bytes(),
    }
    return Report(
        f"PyTorch {torch.__version__} step: batch {config.batch_size}, {dtype}, {device}"
        + (", compiled blocks" if compiled else ""),
        rows,
        record,
    )


def _time_steps(
    recipe: Recipe, steps: int, warmup: int, device: str, *, compiled: bool
) -> list[float]:
    """Seconds of steps that follow one another."""
    config = recipe.config
    torch.manual_seed(config.seed)
    model = Vlmo(config.model).to(device)
    batch = {name: x.to(device) for name, x in torch_batch(recipe.synthetic_batch()).items()}
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=1e-4,
        betas=config.optimizer.betas,
        eps=1e-8,
        weight_decay=0.01,
        fused=True,
    )
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    if compiled:
        torch._dynamo.config.cache_size_limit = 64  # blocks differ by experts and by spans
        for block in model.blocks:
            block.compile(dynamic=False)  # or other spans make one slow program
    seconds = []
    for _ in range(warmup + steps):
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            itc, itm, mlm = model(batch)
            loss = itc + itm + 0.25 * mlm
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[warmup:]


def measure_matmul(size: int = 2048, repeats: int = 8, *, device: str = "cpu") -> Peak:
    """The peak to state shares of: the fastest of `repeats` square matrix products."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    x, seconds = torch.randn(size, size, dtype=dtype, device=device), []
    for _ in range(repeats):
        start = time.perf_counter()
        x @ x
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    name = str(dtype).removeprefix("torch.")
    return Peak(
        2 * size**3 / min(seconds), f"a {size} x {size} {name} matrix product measured in this run"
    )
