"""The networks of the learned manner: motion as codes and back, a clip's style, and the codes that a voice asks for.

All of it is our reconstruction of ERLNet's first stage (arXiv 2404.19038); its sizes and losses are not public. Public relatives:
A. van den Oord et al., "Neural discrete representation learning", 2017 (VQ-VAE); A. van den Oord et al., "Representation learning with
contrastive predictive coding", 2018.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.erlnet.parts import EXPRESSION, PARTS, POSE, ROW, Part


@dataclass(frozen=True, slots=True)
class CodeSizes:
    """How a part becomes codes.

    Args:
        frames: rows of one token.
        groups: codes of a token.
        codes: entries of a group's codebook; dimension: of an entry.
        ahead: tokens of the voice that the predictor hears ahead.
    """

    frames: int
    groups: int
    codes: int = 128
    dimension: int = 32
    ahead: int = 2


@dataclass(frozen=True, slots=True)
class MannerSizes:
    """Sizes of all networks; stored with their weights.

    Args:
        heard: numbers of a row of what is heard.
        width, layers, heads: of the transformers; reach: tokens that each layer looks back; style: numbers of a style.
        expression, pose: of the two parts.
    """

    heard: int = 68
    width: int = 64
    layers: int = 2
    heads: int = 4
    reach: int = 6
    style: int = 64
    expression: CodeSizes = field(default_factory=lambda: CodeSizes(frames=2, groups=4))
    pose: CodeSizes = field(default_factory=lambda: CodeSizes(frames=4, groups=2))

    @property
    def context(self) -> int:
        """Tokens back to which a predicted token reaches, itself among them."""
        return (self.layers + 2) * self.reach + 1

    def of(self, part: Part) -> CodeSizes:
        """Of one part."""
        return cast(CodeSizes, getattr(self, part.name))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> MannerSizes:
        """The inverse of ``dataclasses.asdict``."""
        parts = {part.name: CodeSizes(**config[part.name]) for part in PARTS}
        return cls(**{**config, **parts})


# -- transformers -----------------------------------------------------------------------------------------------------------


class LocalTransformer(nn.Module):
    """Layers in which a token sees ``back`` tokens before it, ``ahead`` after it and any prefix; places count relative to the token.

    So a piece of a stream gives what the whole would give, from ``layers * back`` tokens after its beginning on.

    Args:
        width, layers, heads: sizes.
        back, ahead: see above.
        prefix: tokens at the front that all tokens see.
    """

    def __init__(self, width: int, layers: int, heads: int, back: int, ahead: int, prefix: int = 0) -> None:
        super().__init__()
        self.heads, self.back, self.ahead, self.prefix = heads, back, ahead, prefix
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * layers))
        self.attention = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.joined = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.wide = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(layers))
        self.narrow = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(layers))
        self.dropout = nn.Dropout(0.1)
        # What a token's attention gains by the distance alone; the last one belongs to the prefix.
        self.distances = nn.Parameter(torch.zeros(layers, heads, back + ahead + 2))

    def forward(self, tokens: Tensor, present: Tensor) -> Tensor:
        """Tokens [b, prefix + n, width] and which of the n are there [b, n], 1 or 0 -> [b, prefix + n, width]."""
        batch, count = tokens.shape[0], tokens.shape[1]
        there = torch.cat([torch.ones(batch, self.prefix, device=tokens.device), present], 1)
        absent = (there[:, None, None] - 1.0) * 1e4
        seen = self._seen(count, tokens.device)
        for layer in range(len(self.attention)):
            bias = absent + self._bias(layer, seen)
            tokens = tokens + self.dropout(self._attend(layer, self.norms[2 * layer](tokens), bias))
            wide = functional.gelu(self.wide[layer](self.norms[2 * layer + 1](tokens)))
            tokens = tokens + self.dropout(self.narrow[layer](wide))
        return tokens

    def _seen(self, count: int, device: torch.device) -> Tensor:
        """Column of :attr:`distances` that each token [count] uses for each other [count]; -1 where it cannot see it."""
        places = torch.arange(count, device=device) - self.prefix
        apart, is_prefix = places[None] - places[:, None], places < 0
        column = torch.where((apart >= -self.back) & (apart <= self.ahead), apart + self.back, -1)
        column = torch.where(is_prefix[:, None], -1, column)
        return torch.where(is_prefix[None], self.back + self.ahead + 1, column)

    def _bias(self, layer: int, seen: Tensor) -> Tensor:
        return self.distances[layer][:, seen.clamp(min=0)] + torch.where(seen < 0, -1e4, 0.0)

    def _attend(self, layer: int, tokens: Tensor, bias: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        query, key, value = self.attention[layer](tokens).view(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads) + bias
        return self.joined[layer]((weights.softmax(-1) @ value).transpose(1, 2).reshape(batch, count, width))


def in_tokens(rows: Tensor, frames: int) -> Tensor:
    """[b, n * frames, d] -> [b, n, frames * d]."""
    return rows.reshape(rows.shape[0], -1, frames * rows.shape[-1])


# -- motion as codes --------------------------------------------------------------------------------------------------------


class Quantised(NamedTuple):
    """What a quantiser gives.

    Args:
        vectors: [b, n, groups * dimension], of the codebook, with the gradient of what was quantised (straight through).
        codes: int64 [b, n, groups].
        loss: of the codebook, and of the commitment of what was quantised to it.
    """

    vectors: Tensor
    codes: Tensor
    loss: Tensor


class Quantiser(nn.Module):
    """Nearest entries of one codebook per group (van den Oord et al., 2017, eq. 1 to 3); idle entries move to where tokens are.

    Args:
        groups, codes, dimension: see :class:`CodeSizes`.
        commitment: weight of that loss.
    """

    #: Share of its fair part of the tokens below which an entry is moved, and how slowly shares are counted.
    _IDLE, _KEPT = 0.1, 0.9

    def __init__(self, groups: int, codes: int, dimension: int, commitment: float = 0.25) -> None:
        super().__init__()
        self.groups, self.codes, self.commitment = groups, codes, commitment
        self.weight = nn.Parameter(torch.randn(groups, codes, dimension))
        self.used: Tensor
        self.register_buffer("used", torch.zeros(groups, codes))

    @property
    def entries(self) -> Tensor:
        """Unit vectors [groups, codes, dimension]; without a length to grow, what is quantised stays near them."""
        return functional.normalize(self.weight, dim=-1)

    def nearest(self, vectors: Tensor) -> Tensor:
        """Unit vectors [b, n, groups, dimension] -> codes [b, n, groups]."""
        return torch.einsum("bngd,gkd->bngk", vectors, self.entries).argmax(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Codes [b, n, groups] -> entries [b, n, groups * dimension]."""
        groups = torch.arange(self.groups, device=codes.device)
        return self.entries[groups, codes].flatten(-2)

    def forward(self, vectors: Tensor) -> Quantised:
        """Unit vectors of each group [b, n, groups * dimension] -> :class:`Quantised`."""
        parted = vectors.view(*vectors.shape[:2], self.groups, -1)
        with torch.no_grad():
            if self.training:
                self._move_idle(parted)
            codes = self.nearest(parted)
            if self.training:
                self._count(codes)
        chosen = self.vectors(codes)
        off = (chosen - vectors.detach()).square().sum(-1).mean() + self.commitment * (vectors - chosen.detach()).square().sum(-1).mean()
        loss = off / self.groups
        return Quantised(vectors + (chosen - vectors).detach(), codes, loss)

    def _count(self, codes: Tensor) -> None:
        shares = functional.one_hot(codes, self.codes).float().mean((0, 1)) * self.codes
        self.used.lerp_(shares, 1.0 - self._KEPT)

    def _move_idle(self, parted: Tensor) -> None:
        idle = self.used < self._IDLE
        if bool(idle.any()):
            seen = parted.flatten(0, 1).transpose(0, 1)
            drawn = seen[:, torch.randint(seen.shape[1], (self.codes,), device=seen.device)]
            self.weight.data[idle] = drawn[idle]
            self.used[idle] = 1.0


class MotionCodes(nn.Module):
    """A VQ-VAE of one part of the motion: rows to codes and back, with a transformer on each side.

    Args:
        part: of the motion.
        sizes: of all networks.
    """

    def __init__(self, part: Part, sizes: MannerSizes) -> None:
        super().__init__()
        self.code = code = sizes.of(part)
        self.size = part.size
        width = sizes.width
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(part.size))
        self.register_buffer("scale", torch.ones(part.size))
        self.enter = nn.Linear(code.frames * part.size, width)
        self.encoder = LocalTransformer(width, sizes.layers, sizes.heads, sizes.reach, 1)
        self.to_codes = nn.Linear(width, code.groups * code.dimension)
        self.quantiser = Quantiser(code.groups, code.codes, code.dimension)
        self.from_codes = nn.Linear(code.groups * code.dimension, width)
        self.decoder = LocalTransformer(width, sizes.layers, sizes.heads, sizes.reach, 1)
        self.leave = nn.Linear(width, code.frames * part.size)

    @property
    def late(self) -> int:
        """Tokens after one that its rows depend on."""
        return len(self.decoder.attention)

    def normal(self, rows: Tensor) -> Tensor:
        """Rows [b, t, size] in deviations."""
        return (rows - self.mean) / self.scale

    def encode(self, rows: Tensor) -> Tensor:
        """Normal rows [b, n * frames, size] -> unit vectors of each group [b, n, groups * dimension], before they are quantised."""
        tokens = self.enter(in_tokens(rows, self.code.frames))
        vectors = self.to_codes(self.encoder(tokens, torch.ones(tokens.shape[:2], device=tokens.device)))
        return functional.normalize(vectors.view(*vectors.shape[:2], self.code.groups, -1), dim=-1).flatten(-2)

    def codes(self, rows: Tensor) -> Tensor:
        """Rows [b, n * frames, size] as measured -> codes [b, n, groups]."""
        vectors = self.encode(self.normal(rows))
        return self.quantiser.nearest(vectors.view(*vectors.shape[:2], self.code.groups, -1))

    def decode(self, vectors: Tensor, present: Tensor) -> Tensor:
        """Vectors [b, n, groups * dimension] of tokens that are there (1) or not [b, n] -> normal rows [b, n * frames, size]."""
        tokens = self.decoder(self.from_codes(vectors), present)
        return self.leave(tokens).reshape(tokens.shape[0], -1, self.size)

    def measured(self, normal: Tensor) -> Tensor:
        """The inverse of :meth:`normal`."""
        return normal * self.scale + self.mean

    def forward(self, rows: Tensor) -> tuple[Tensor, Quantised]:
        """Rows [b, n * frames, size] as measured -> the same through the codes, in deviations, and the codes."""
        quantised = self.quantiser(self.encode(self.normal(rows)))
        present = torch.ones(quantised.codes.shape[:2], device=rows.device)
        return self.decode(quantised.vectors, present), quantised


# -- style ------------------------------------------------------------------------------------------------------------------


def moments(rows: Tensor) -> Tensor:
    """What a style should tell of normal rows [b, t, d]: means, logarithms of spreads and of mean speeds, [b, 3 d]."""
    speed = (rows[:, 1:] - rows[:, :-1]).abs().mean(1)
    return torch.cat([rows.mean(1), (rows.std(1) + 0.05).log(), (speed + 0.01).log()], 1)


class StyleEncoder(nn.Module):
    """A clip's motion to its style, a unit vector: a transformer over normal rows, and their mean.

    Args:
        sizes: of all networks.
    """

    #: Rows of one token.
    FRAMES = 4

    def __init__(self, sizes: MannerSizes) -> None:
        super().__init__()
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(ROW))
        self.register_buffer("scale", torch.ones(ROW))
        width = sizes.width
        self.enter = nn.Linear(self.FRAMES * ROW, width)
        self.body = LocalTransformer(width, sizes.layers, sizes.heads, sizes.reach, sizes.reach)
        self.leave = nn.Linear(2 * width, sizes.style)
        #: Keeps the code from telling one person from another by a single trait.
        self.tell = nn.Linear(sizes.style, 3 * ROW)

    def normal(self, motion: Tensor) -> Tensor:
        """Motion [b, t, 52] in deviations."""
        return (motion - self.mean) / self.scale

    def forward(self, motion: Tensor) -> Tensor:
        """Motion [b, t, 52] as measured, t a multiple of four -> styles [b, s] of length 1."""
        tokens = self.enter(in_tokens(self.normal(motion), self.FRAMES))
        tokens = self.body(tokens, torch.ones(tokens.shape[:2], device=tokens.device))
        pooled = torch.cat([tokens.mean(1), tokens.square().mean(1).sqrt()], 1)
        return functional.normalize(self.leave(pooled), dim=-1)


# -- from a voice to codes --------------------------------------------------------------------------------------------------


class CodePredictor(nn.Module):
    """What is heard, and the codes so far, to the next codes; the style stands before them as a prefix.

    Args:
        part: whose codes.
        sizes: of all networks.
    """

    def __init__(self, part: Part, sizes: MannerSizes) -> None:
        super().__init__()
        self.code = code = sizes.of(part)
        width = sizes.width
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", torch.zeros(sizes.heard))
        self.register_buffer("scale", torch.ones(sizes.heard))
        self.enter = nn.Linear(code.frames * sizes.heard, width)
        # One layer, so that what is heard ahead is bounded.
        self.listen = LocalTransformer(width, 1, sizes.heads, sizes.reach, code.ahead)
        self.before = nn.Embedding(code.groups * (code.codes + 1), width)
        self.prefix = nn.Linear(sizes.style, width)
        self.body = LocalTransformer(width, sizes.layers + 1, sizes.heads, sizes.reach, 0, prefix=1)
        self.norm = nn.LayerNorm(width)
        self.beside = nn.Embedding(code.groups * code.codes, width)
        self.heads = nn.ModuleList(nn.Linear(width, code.codes) for _ in range(code.groups))
        #: For the contrastive loss between what is heard and what is moved.
        self.heard_side, self.moved_side = nn.Linear(width, 32), nn.Linear(code.groups * code.dimension, 32)

    @property
    def unknown(self) -> int:
        """The code of a token that is not known."""
        return self.code.codes

    def _offsets(self, codes: Tensor, each: int) -> Tensor:
        return codes + each * torch.arange(self.code.groups, device=codes.device)

    def heard(self, rows: Tensor, present: Tensor) -> Tensor:
        """Rows heard [b, n * frames, f] of tokens that are there [b, n] -> [b, n, width]."""
        tokens = self.enter(in_tokens((rows - self.mean) / self.scale, self.code.frames)) * present[..., None]
        return self.listen(tokens, present)

    def states(self, heard: Tensor, before: Tensor, style: Tensor, present: Tensor) -> Tensor:
        """From :meth:`heard` [b, n, width], the codes of the token before each [b, n, groups] and styles [b, s]: [b, n, width]."""
        known = self.before(self._offsets(before, self.code.codes + 1)).sum(2)
        tokens = torch.cat([self.prefix(style)[:, None], heard + known], 1)
        return self.norm(self.body(tokens, present)[:, 1:])

    def logits(self, states: Tensor, codes: Tensor) -> Tensor:
        """Of each group, given the groups before it: states [b, n, width], codes [b, n, groups] -> [b, n, groups, codes]."""
        beside = self.beside(self._offsets(codes, self.code.codes))
        answers, state = [], states
        for group, head in enumerate(self.heads):
            answers.append(head(state))
            state = state + beside[:, :, group]
        return torch.stack(answers, 2)

    def drawn(self, state: Tensor, noise: Tensor) -> Tensor:
        """One token's codes [b, groups]: of a state [b, width] the most likely ones after ``noise`` [b, groups, codes] was added."""
        codes = []
        for group, head in enumerate(self.heads):
            code = (head(state) + noise[:, group]).argmax(-1)
            state = state + self.beside(code + group * self.code.codes)
            codes.append(code)
        return torch.stack(codes, -1)

    def forward(self, rows: Tensor, before: Tensor, codes: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [b, n, groups, codes] of ``codes`` while ``before`` is known of the tokens before, and what was heard [b, n, width]."""
        present = torch.ones(codes.shape[:2], device=rows.device)
        heard = self.heard(rows, present)
        return self.logits(self.states(heard, before, style, present), codes), heard


def shifted(codes: Tensor, unknown: int) -> Tensor:
    """Codes [b, n, groups] of the token before each; ``unknown`` before the first."""
    return functional.pad(codes, (0, 0, 1, 0), value=unknown)[:, :-1]


class SpeakingStep(nn.Module):
    """One token of a stream: its codes are drawn, and the rows of a token some tokens earlier become final.

    Args:
        codes: the part's VQ-VAE.
        predictor: the part's predictor.
        context: tokens that a step is given, see :attr:`MannerSizes.context`.
    """

    def __init__(self, codes: MotionCodes, predictor: CodePredictor, context: int) -> None:
        super().__init__()
        self.context = context
        self.network = nn.ModuleDict({"codes": codes, "predictor": predictor})

    def forward(self, before: Tensor, rows: Tensor, there: Tensor, style: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Codes int64 [groups] of token i and rows [frames, size] of token i - late.

        Args:
            before: int64 [context, groups], codes of tokens i - context .. i - 1; those that are not there are unknown.
            rows: [(context + ahead) * frames, f], what is heard in tokens i - context + 1 .. i + ahead.
            there: [context + ahead], 1 for each of these that exists.
            style: [s]; zeros for none.
            noise: [groups, codes], added to the logits.
        """
        motion, predictor = cast(MotionCodes, self.network["codes"]), cast(CodePredictor, self.network["predictor"])
        context = self.context
        heard = predictor.heard(rows[None], there[None])[:, :context]
        state = predictor.states(heard, before[None], style[None], there[None, :context])[:, -1]
        code = predictor.drawn(state, noise[None])
        known = torch.cat([before[1:], code], 0)
        known = torch.where(there[:context, None] > 0.5, known, predictor.unknown)
        present = (known[:, 0] < predictor.unknown).float()
        made = motion.decode(motion.quantiser.vectors(known.clamp(max=predictor.unknown - 1))[None], present[None])
        frames, last = predictor.code.frames, context - motion.late
        return code[0], motion.measured(made)[0, (last - 1) * frames : last * frames]


class StyleOfClip(nn.Module):
    """The style of a window [t, 52] of a clip.

    Args:
        network: the encoder.
    """

    def __init__(self, network: StyleEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, motion: Tensor) -> Tensor:
        """[t, 52] -> [s]."""
        return cast(Tensor, self.network(motion[None]))[0]


def build(sizes: MannerSizes) -> nn.ModuleDict:
    """All five networks by name, with untrained weights."""
    networks: dict[str, nn.Module] = {"style": StyleEncoder(sizes)}
    for part in (EXPRESSION, POSE):
        networks[f"{part.name}_codes"] = MotionCodes(part, sizes)
        networks[f"{part.name}_predictor"] = CodePredictor(part, sizes)
    return nn.ModuleDict(networks)


def config_of(sizes: MannerSizes) -> dict[str, Any]:
    """What JSON can hold of them."""
    return asdict(sizes)
