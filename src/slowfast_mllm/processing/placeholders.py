"""How many placeholders a video or image has in a prompt, and in which order times stand between.

The counterpart of `slowfast_mllm.model.visual_tokens`, on sizes instead of tensors of features.
"""

from dataclasses import dataclass

from torch import Tensor

from slowfast_mllm.model.visual_tokens import fast_frames, num_fast_frames


@dataclass(frozen=True)
class TokenLayout:
    """The fields of the model's config that decide how many fast tokens there are.

    Attributes:
        patch_size: pixels per cell of the vision tower's map, of frames as they are given.
        num_objects: tokens of objects behind those of all steps.
    """

    patch_size: int
    slow_spatial_pool: int
    fast_frame_stride: int
    fast_temporal_pool: int
    fast_spatial_pool: int
    min_fast_frames: int
    num_objects: int = 0

    def image_tokens(self, height: int, width: int) -> int:
        """Tokens of an image of that many pixels; images are not pooled before the split."""
        return self._cells(height, width, self.fast_spatial_pool) + self.num_objects

    def video_tokens(self, num_frames: int, height: int, width: int) -> int:
        """Fast tokens of a video of that many pixels a frame."""
        return self._steps(num_frames) * self._step_tokens(height, width) + self.num_objects

    def video_text(self, token: str, times: Tensor | None, num_frames: int, *size: int) -> str:
        """The placeholders of a video.

        Args:
            token: one placeholder.
            times: (T,) seconds of the frames: the mean time of each fast step, like `[2.5s]`, is
                put before its tokens; None: no times.
            *size: height and width of a frame in pixels.
        """
        cells, objects = token * self._step_tokens(*size), token * self.num_objects
        if times is None:
            return cells * self._steps(num_frames) + objects
        # The model's own pooling, applied to times instead of frames.
        means = fast_frames(
            times.float().view(-1, 1, 1, 1),
            self.fast_frame_stride,
            self.fast_temporal_pool,
            self.min_fast_frames,
        )
        return "".join(f"[{mean:.1f}s]{cells}" for mean in means.flatten().tolist()) + objects

    def _steps(self, num_frames: int) -> int:
        return num_fast_frames(
            num_frames, self.fast_frame_stride, self.fast_temporal_pool, self.min_fast_frames
        )

    def _step_tokens(self, height: int, width: int) -> int:
        return self._cells(height, width, self.slow_spatial_pool, self.fast_spatial_pool)

    def _cells(self, height: int, width: int, *pools: int) -> int:
        """Tokens of one map: patches, then one rounding down per pooling."""
        rows, columns = height // self.patch_size, width // self.patch_size
        for pool in pools:
            rows, columns = rows // pool, columns // pool
        return rows * columns
