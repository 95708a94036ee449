"""The Slow-Fast model: vision tower, projector, and a language model with hybrid layers.

`encode_video` makes a `VideoMemory`; `forward` and `generate` take pixels or ready memories.
No request state is ever kept on a module. Source: arXiv 2504.01328, section 3.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils import can_return_tuple

from slowfast_mllm.model.configuration_slowfast import SlowFastConfig
from slowfast_mllm.model.generation import SlowFastGenerationMixin
from slowfast_mllm.model.object_tracks import (
    NUM_TRACK_FEATURES,
    Detections,
    is_seen,
    track_features,
)
from slowfast_mllm.model.pretrained_slowfast import SlowFastPreTrainedModel
from slowfast_mllm.model.sharding import device_of, is_split
from slowfast_mllm.model.slow_attention import SlowQueries, make_hybrid
from slowfast_mllm.model.transformers_names import CACHE, takes_either_name
from slowfast_mllm.model.video_memory import (
    IMAGE,
    TEXT,
    VIDEO,
    MemoryBatch,
    VideoMemory,
    Videos,
    each,
    each_video,
    pack_memories,
)
from slowfast_mllm.model.visual_tokens import (
    add_motion_channels,
    coarse_motion,
    fast_frames,
    object_motion,
    object_position_features,
    pool_space,
    position_features,
)

_LARGE_TOWER = 1024  # channels of its map


class MultiModalProjector(nn.Sequential):
    """Linear layers with GELU between them, from vision width to text width."""

    def __init__(self, config: SlowFastConfig) -> None:
        width = config.text_config.hidden_size
        layers: list[nn.Module] = [nn.Linear(config.vision_config.hidden_size, width)]
        for _ in range(config.projector_depth - 1):
            layers += [nn.GELU(), nn.Linear(width, width)]
        super().__init__(*layers)


class ObjectProjector(nn.Sequential):
    """From what is known of an object in a frame, and of its track, to text width."""

    def __init__(self, config: SlowFastConfig) -> None:
        width = config.text_config.hidden_size
        super().__init__(
            nn.Linear(config.object_config.hidden_size + NUM_TRACK_FEATURES, width),
            nn.GELU(),
            nn.Linear(width, width),
        )


class SlowFastModel(SlowFastPreTrainedModel):
    """Vision tower, projector and hybrid language model, without a language-model head."""

    reads_narrow = True  # takes slow keys and values in int8, on CPUs
    reads_views = True  # and those of rows that are one and the same without copying them

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.multi_modal_projector = MultiModalProjector(config)
        if config.object_config is not None:
            self.object_tower = AutoModel.from_config(config.object_config)
            self.object_projector = ObjectProjector(config)
        if config.visual_position_encoding:
            width = config.text_config.hidden_size
            motion = 16 if config.motion_features else 0
            self.visual_position_embedding = nn.Linear(width // 6 * 6 + motion, width)
        self.language_model = AutoModel.from_config(config.text_config)
        for index in config.hybrid_layers:
            make_hybrid(self.language_model, config, index)
        self.post_init()

    def init_parallel_plans(self) -> None:
        """As in transformers; where a family splits its key heads, slow ones are split alike.

        The gate looks at all heads at once: its row of weights is split, and the parts are summed.
        """
        super().init_parallel_plans()
        attention = "language_model.layers.*.self_attn"
        if self._tp_plan.get(f"{attention}.k_proj") == "colwise":
            self._tp_plan |= {
                f"{attention}.cross_attn.k_proj": "colwise",
                f"{attention}.cross_attn.v_proj": "colwise",
                f"{attention}.cross_attn.gate.proj": "rowwise",
            }

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    # ---- vision: frames to tokens to memory -------------------------------------------------

    def _encode_maps(self, frames: Tensor) -> Tensor:
        """Frames (T, C, H, W) -> vision maps (T, h, w, vision width)."""
        hidden = self.vision_tower(pixel_values=frames.to(self.dtype)).last_hidden_state
        if hidden.ndim == 4:  # a convolutional tower: (T, C, h, w)
            return hidden.permute(0, 2, 3, 1)
        patch = self.config.vision_config.patch_size
        rows, columns = frames.shape[-2] // patch, frames.shape[-1] // patch
        if hidden.shape[1] < rows * columns:
            kind = self.config.vision_config.model_type
            raise ValueError(f"vision_config: {kind!r} makes fewer tokens than patches.")
        # A transformer tower: class and register tokens, if any, stand before the patches.
        return hidden[:, -rows * columns :].unflatten(1, (rows, columns))

    def vision_maps(
        self, frames: Tensor, is_video: bool = True, inner: slice = slice(None)
    ) -> tuple[Tensor, Tensor | None]:
        """What the tower makes of frames, before any weight that belongs to the language model.

        With a frozen tower this never changes, so training computes it once per clip.

        Args:
            frames: (T, 3, H, W), normalised; all go through the tower together.
            inner: which of them are wanted; others only show what moved.

        Returns:
            maps (T', h, w, vision width) and, with `motion_features`, the motion of each slow token
            (T', h', w', 16).
        """
        config = self.config
        if config.object_config is not None:
            side = config.vision_config.image_size
            frames = F.interpolate(frames, (side, side), mode="bilinear", antialias=True)
        if not config.motion_features:
            return self._encode_maps(frames[inner]), None
        maps = self._encode_maps(add_motion_channels(frames)[inner])
        pool = config.slow_spatial_pool if is_video else 1
        rows, columns = (size // pool for size in maps.shape[1:3])
        return maps, coarse_motion(frames, rows, columns)[inner].to(maps.dtype)

    def slow_maps(
        self, maps: Tensor, motion: Tensor | None, timestamps: Tensor, is_video: bool = True
    ) -> Tensor:
        """Slow tokens where they lie, (T, h', w', D), from what `vision_maps` returned."""
        slow = self.multi_modal_projector(maps)
        if is_video:
            slow = pool_space(slow, self.config.slow_spatial_pool)
        if self.config.visual_position_encoding:
            slow = slow + self._positions(slow, motion, timestamps).to(slow.device)
        return slow

    def object_tokens(self, objects: Tensor, timestamps: Tensor) -> Tensor:
        """What `object_tower` found in the frames of a clip, (T, N, features) -> (T, N, D).

        A column is a track; zero where it is not seen.
        """
        found = self.config.object_config
        seen = is_seen(objects, found.num_classes)[..., None]
        tokens = self.object_projector(track_features(objects, found.num_classes).to(self.dtype))
        if not self.config.visual_position_encoding:
            return tokens * seen
        places = found.places_of(objects)
        width = self.config.text_config.hidden_size // 6 * 6
        features = object_position_features(timestamps.to(objects.device), places[..., :2], width)
        if self.config.motion_features:
            pool = self.config.slow_spatial_pool
            cells = self.config.vision_config.image_size // self.config.vision_config.patch_size
            motion = object_motion(places[..., 2:], cells // pool, cells // pool)
            features = torch.cat([features, motion], dim=-1)
        positions = self.visual_position_embedding(features.to(self.dtype))
        return (tokens + positions.to(tokens.device)) * seen.to(tokens.device)

    def fast_and_slow(
        self, slow: Tensor, is_video: bool = True, objects: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Slow maps (T, h', w', D) of a whole video -> fast (num_fast, D) and slow tokens.

        Tokens of objects (T, N, D) stand behind the cells of their frame; their fast tokens, one a
        track, behind those of the video.
        """
        fast = pool_space(self._fast(slow, is_video), self.config.fast_spatial_pool).flatten(0, 2)
        slow = slow.flatten(1, 2)
        if objects is not None:
            shown = (objects != 0).any(-1).sum(0).clamp(min=1)[:, None]
            fast = torch.cat([fast, objects.sum(0) / shown.to(objects.dtype)])
            slow = torch.cat([slow, objects], 1)
        return fast, slow.flatten(0, 1)

    def _fast(self, maps: Tensor, is_video: bool) -> Tensor:
        """(T, h, w, D) -> (steps, h, w, D)."""
        config = self.config
        if not is_video:
            return maps
        return fast_frames(
            maps, config.fast_frame_stride, config.fast_temporal_pool, config.min_fast_frames
        )

    @property
    def frames_at_once(self) -> int:
        """How many frames the tower gets in one go: a large one on a CPU has enough to do with one,
        and more would only take memory.
        """
        is_large = self.config.vision_config.hidden_size >= _LARGE_TOWER
        return 1 if is_large and self.device.type == "cpu" else self.config.vision_chunk_frames

    def visual_tokens(
        self,
        frames: Tensor | Iterable[Tensor],
        timestamps: Tensor | None = None,
        is_video: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Encode one video, or one image given as a single frame.

        Args:
            frames: (T, 3, H, W), normalised; or the same in chunks, so that a long video's pixels
                need never be together.
            timestamps: (T,) seconds; only used with `visual_position_encoding`. Default: one
                frame a second.

        Returns:
            fast tokens (num_fast, D) and slow tokens (num_slow, D).
        """
        if isinstance(frames, Tensor):
            frames = frames.split(self.frames_at_once)
        slow: list[Tensor] = []
        detections: list[Detections] = []
        begin = 0
        for chunk, inner in self._with_neighbours(frames):
            pixels = chunk.to(self.device)
            maps, motion = self.vision_maps(pixels, is_video, inner)
            end = begin + len(maps)
            times = torch.arange(begin, end) if timestamps is None else timestamps[begin:end]
            slow.append(self.slow_maps(maps, motion, times, is_video))
            if self.config.object_config is not None:
                detections += self.object_tower.detect(pixels[inner])
            begin = end
        objects = None
        if self.config.object_config is not None:
            times = torch.arange(begin) if timestamps is None else timestamps
            objects = self.object_tokens(self.object_tower.link(detections), times)
            objects = objects.to(slow[0].device)
        return self.fast_and_slow(torch.cat(slow), is_video, objects)

    def _with_neighbours(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, slice]]:
        """Each chunk, with the frame before and after it where motion matters, and its place."""
        last: Tensor | None = None
        coming = iter(chunks)
        chunk = next(coming, None)
        while chunk is not None:
            following = next(coming, None)
            if not self.config.motion_features:
                yield chunk, slice(None)
            else:
                before = chunk[:0] if last is None else last
                after = chunk[:0] if following is None else following[:1]
                place = slice(len(before), len(before) + len(chunk))
                yield torch.cat([before, chunk, after]), place
            last, chunk = chunk[-1:], following

    @property
    def _num_channels(self) -> int:
        """Channels of the frames given, without those that `motion_features` adds."""
        return self.config.vision_config.num_channels - 2 * self.config.motion_features

    def _positions(self, maps: Tensor, motion: Tensor | None, timestamps: Tensor) -> Tensor:
        """What is added to each visual token: when and where it is, and how things move there."""
        rows, columns, width = maps.shape[1:]
        features = position_features(timestamps.to(maps.device), rows, columns, width // 6 * 6)
        features = features.to(maps.dtype)
        if motion is not None:
            features = torch.cat([features, motion.to(features)], dim=-1)
        return self.visual_position_embedding(features)

    def remember(
        self, fast: Tensor, slow: Tensor, timestamps: Tensor, is_video: bool = True
    ) -> VideoMemory:
        """Project slow tokens to the keys and values of every hybrid layer.

        Args:
            fast: (num_fast, D). slow: (num_slow, D). timestamps: (T,) seconds.
        """
        keys, values = self.slow_keys_and_values(slow)
        kind: Literal["video", "image"] = "video" if is_video else "image"
        return VideoMemory(fast, keys, values, timestamps.float(), kind)

    def slow_keys_and_values(self, slow: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Slow tokens (S, D) -> (num_kv_heads, S, head_dim) of every hybrid layer."""
        keys, values = {}, {}
        for index in self.config.hybrid_layers:
            layer = self.language_model.layers[index]
            # A family that norms after its attention (OLMo-2) has no norm before it: nor do we.
            norm = getattr(layer, "input_layernorm", nn.Identity())
            here = slow.to(device_of(layer))  # layers may lie on several
            keys[index], values[index] = layer.self_attn.cross_attn.project(norm(here))
        return keys, values

    def encode_video(
        self, frames: Tensor | Iterable[Tensor], timestamps: Tensor | None = None
    ) -> VideoMemory:
        """Everything that later questions need of a video. Costs the vision tower once.

        Differentiable; to keep the memory without what gradients need, call it under
        `torch.no_grad()`.

        Args:
            frames: `pixel_values_videos` of one video, (T, 3, H, W), or consecutive chunks of them.
            timestamps: (T,) seconds; default one frame a second, needed with chunks.

        Raises:
            ValueError: `frames` has another shape or no frame, or there are not as many times.
        """
        if isinstance(frames, Tensor):
            if timestamps is None:
                timestamps = torch.arange(len(frames))
            frames = [frames]
        if timestamps is None:
            raise ValueError("video_timestamps: needed where frames come in chunks.")
        tokens = self.visual_tokens(self._checked(frames, timestamps), timestamps)
        return self.remember(*tokens, timestamps)

    def _checked(self, chunks: Iterable[Tensor], timestamps: Tensor) -> Iterator[Tensor]:
        """Chunks no larger than the tower should get, after their shapes are found right."""
        num_frames = 0
        for chunk in chunks:
            if chunk.ndim != 4 or chunk.shape[0] == 0 or chunk.shape[1] != self._num_channels:
                raise ValueError(
                    f"pixel_values_videos: a video is a tensor (T, {self._num_channels}, H, W) "
                    f"with T >= 1, got {tuple(chunk.shape)}; a batch is such tensors stacked or in "
                    "a list."
                )
            num_frames += len(chunk)
            if len(timestamps) >= num_frames:
                yield from chunk.split(self.frames_at_once)
        if timestamps.shape != (num_frames,):
            raise ValueError(
                f"video_timestamps: a video of {num_frames} frames needs as many times, "
                f"got a tensor of shape {tuple(timestamps.shape)}."
            )

    def encode_image(self, image: Tensor) -> VideoMemory:
        """As `encode_video`, for one image (3, H, W)."""
        if image.ndim != 3 or image.shape[0] != self._num_channels:
            raise ValueError(
                f"pixel_values: an image is a tensor ({self._num_channels}, H, W), got "
                f"{tuple(image.shape)}; a batch is such tensors stacked or in a list."
            )
        tokens = self.visual_tokens(image[None], torch.zeros(1), is_video=False)
        return self.remember(*tokens, torch.zeros(1), is_video=False)

    # ---- prompts: which positions are text, which tokens go where -----------------------------

    def token_types(self, input_ids: Tensor) -> Tensor:
        """(B, L) ids -> (B, L) TEXT, IMAGE or VIDEO (the meaning of `mm_token_type_ids`)."""
        types = torch.full_like(input_ids, TEXT)
        types = types.masked_fill(input_ids == self.config.image_token_id, IMAGE)
        return types.masked_fill(input_ids == self.config.video_token_id, VIDEO)

    def remember_all(
        self,
        token_types: Tensor,
        pixel_values_videos: Videos | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        video_timestamps: Videos | None = None,
        video_frame_mask: Videos | None = None,
        video_memory: VideoMemory | Sequence[VideoMemory] | MemoryBatch | None = None,
    ) -> MemoryBatch | None:
        """Encode what is given as pixels and line it up with the rows of the prompts."""
        if isinstance(video_memory, MemoryBatch):
            return video_memory
        memories = [video_memory] if isinstance(video_memory, VideoMemory) else video_memory or []
        if memories and (pixel_values_videos is not None or pixel_values is not None):
            raise ValueError(
                "Give either pixels (`pixel_values_videos`, `pixel_values`) or `video_memory`, not "
                "both."
            )
        memories = list(memories) + [self.encode_image(image) for image in each(pixel_values, 3)]
        videos = each_video(pixel_values_videos, video_timestamps, video_frame_mask)
        memories += [self.encode_video(frames, times) for frames, times in videos]
        if not memories:
            if (token_types != TEXT).any():
                raise ValueError(
                    "The prompt has video or image placeholders, but neither pixels "
                    "(`pixel_values_videos`, `pixel_values`) nor `video_memory` were given."
                )
            return None
        return pack_memories(token_types, memories)

    def _read_prompt(
        self, input_ids: Tensor | None, inputs_embeds: Tensor | None, types: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B, L, D) still without fast tokens, and the token types (B, L)."""
        if input_ids is not None and inputs_embeds is None:
            types = self.token_types(input_ids) if types is None else types
            # Placeholder ids may lie outside the embedding table: look something else up.
            return self.get_input_embeddings()(input_ids.masked_fill(types != TEXT, 0)), types
        if inputs_embeds is not None and input_ids is None:
            if types is None:
                types = torch.full(inputs_embeds.shape[:2], TEXT, device=inputs_embeds.device)
            return inputs_embeds, types
        raise ValueError("Give exactly one of `input_ids` and `inputs_embeds`.")

    def _put_fast_tokens(
        self, embeds: Tensor, types: Tensor, memory: MemoryBatch | None, offset: Tensor
    ) -> Tensor:
        """Embeddings (B, L, D) with fast tokens at the placeholders.

        `offset` (B,): placeholders of each row that came before these positions.
        """
        if memory is None or memory.fast_tokens is None or not memory.fast_tokens.shape[1]:
            return embeds
        rank = offset[:, None] + (types != TEXT).cumsum(1) - 1
        rank = rank.clamp(0, memory.fast_tokens.shape[1] - 1)[..., None].to(embeds.device)
        fast = memory.fast_tokens.to(embeds).gather(1, rank.expand(-1, -1, embeds.shape[-1]))
        return torch.where((types != TEXT)[..., None].to(embeds.device), fast, embeds)

    def _attending(self, types: Tensor, offset: Tensor, attention_mask: Any) -> Tensor | None:
        """(B, L), True where a position attends the slow tokens; None: everywhere."""
        if self.config.cross_attending_tokens == "all":
            return None
        attends = types == TEXT
        if self.config.cross_attending_tokens == "text_after_video":
            attends = attends & (offset[:, None] + (types != TEXT).cumsum(1) > 0)
        if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2 and types.shape[1] > 1:
            attends = attends & (attention_mask[:, -types.shape[1] :] != 0)
        return attends

    @takes_either_name
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values_videos: Videos | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        video_timestamps: Videos | None = None,
        video_frame_mask: Videos | None = None,
        video_memory: VideoMemory | Sequence[VideoMemory] | MemoryBatch | None = None,
        mm_token_type_ids: Tensor | None = None,
        fast_token_offset: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the language model over text and fast tokens; text attends the slow tokens.

        Args:
            input_ids: (B, L), one placeholder per fast token.
            inputs_embeds: (B, L, D) instead of `input_ids`; fast tokens are put in by
                `mm_token_type_ids`, all text if that is absent.
            pixel_values_videos: (num_videos, T, 3, H, W), or a list of (T, 3, H, W).
            pixel_values: (num_images, 3, H, W), or a list of (3, H, W).
            video_timestamps: (num_videos, T) seconds, or a list of (T,).
            video_frame_mask: as `video_timestamps`, 0 for frames that fill up a batch and are not
                looked at; default: all frames are.
            video_memory: what `encode_video` returned, in place of pixels: one, or a list in the
                order of the prompts.
            mm_token_type_ids: (B, L), 0 text, 1 image, 2 video; default read off `input_ids`.
            fast_token_offset: (B,) placeholders that earlier calls put into the cache.
        """
        embeds, types = self._read_prompt(input_ids, inputs_embeds, mm_token_type_ids)
        offset = types.new_zeros(types.shape[0]) if fast_token_offset is None else fast_token_offset
        memory = self.remember_all(
            types,
            pixel_values_videos,
            pixel_values,
            video_timestamps,
            video_frame_mask,
            video_memory,
        )
        attends = None if memory is None else self._attending(types, offset, attention_mask)
        if position_ids is None and isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
            position_ids = positions_of(attention_mask)[:, -types.shape[1] :]
        return self.language_model(
            inputs_embeds=self._put_fast_tokens(embeds, types, memory, offset),
            attention_mask=attention_mask,
            position_ids=position_ids,
            slow_memory=memory,
            slow_queries=SlowQueries.of(attends),
            **{CACHE: cache},
            **kwargs,
        )


class SlowFastForConditionalGeneration(SlowFastPreTrainedModel, SlowFastGenerationMixin):
    """The Slow-Fast model with a language-model head."""

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}
    _tp_plan = {"lm_head": "colwise_gather_output"}

    def __init__(self, config: SlowFastConfig) -> None:
        super().__init__(config)
        self.model = SlowFastModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.logit_scale, self.logit_cap = logit_rules(text)
        self.post_init()

    def encode_video(
        self, frames: Tensor | Iterable[Tensor], timestamps: Tensor | None = None
    ) -> VideoMemory:
        """See `SlowFastModel.encode_video`."""
        return self.model.encode_video(frames, timestamps)

    def encode_image(self, image: Tensor) -> VideoMemory:
        """See `SlowFastModel.encode_image`."""
        return self.model.encode_image(image)

    @takes_either_name
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values_videos: Videos | None = None,
        pixel_values: Tensor | Sequence[Tensor] | None = None,
        video_timestamps: Videos | None = None,
        video_frame_mask: Videos | None = None,
        video_memory: VideoMemory | Sequence[VideoMemory] | MemoryBatch | None = None,
        mm_token_type_ids: Tensor | None = None,
        fast_token_offset: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Next-token logits, and the loss when `labels` are given; see `SlowFastModel.forward`.

        Args:
            labels: (B, L), -100 where no loss is wanted, placeholders without being told; shifted
                inside.
            logits_to_keep: only this many last positions (0: all), or their indices.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            inputs_embeds=inputs_embeds,
            pixel_values_videos=pixel_values_videos,
            pixel_values=pixel_values,
            video_timestamps=video_timestamps,
            video_frame_mask=video_frame_mask,
            video_memory=video_memory,
            mm_token_type_ids=mm_token_type_ids,
            fast_token_offset=fast_token_offset,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        keep = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else None
        logits = self.lm_head(hidden[:, logits_to_keep if keep is None else keep])
        if self.logit_scale != 1:
            logits = logits * self.logit_scale
        if self.logit_cap is not None:
            logits = self.logit_cap * (logits / self.logit_cap).tanh()
        loss = None
        if labels is not None:
            if is_split(self) and torch.is_grad_enabled():
                raise ValueError(
                    "labels: a model whose heads are split over processes is not trained; load it "
                    "whole in each of them (data parallel), or train an adapter."
                )
            if input_ids is not None:
                types = mm_token_type_ids
                types = self.model.token_types(input_ids) if types is None else types
                labels = labels.masked_fill(types != TEXT, -100)
            vocab_size = self.config.text_config.vocab_size
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **{CACHE: getattr(outputs, CACHE)},
        )


def positions_of(attention_mask: Tensor) -> Tensor:
    """(B, L) mask -> positions that do not count padding.

    Slow keys carry no position, so a query's own decides what it finds: padding must not move it.
    """
    return (attention_mask.long().cumsum(1) - 1).clamp(min=0)


def logit_rules(text_config: PreTrainedConfig) -> tuple[float, float | None]:
    """The factor on the logits and the cap (or None) of families that have them.

    Gemma caps, Cohere and HyperCLOVA multiply, Granite divides.
    """
    fields = text_config.to_dict()
    scaling = fields.get("logits_scaling", 1.0)
    scale = 1 / scaling if text_config.model_type.startswith("granite") else scaling
    return fields.get("logit_scale", 1.0) * scale, fields.get("final_logit_softcapping")
