"""From the boxes of each frame to objects that are followed through a clip: no weights, no pixels.

What a token of an object holds beside its class scores is said in `features_of`.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

# Centre, size, surest score, whether it is seen, colour, motion to the frame before, frames unseen.
NUM_FEATURES = 4 + 1 + 1 + 3 + 2
_CANDIDATES = 60  # boxes of a frame that are compared with each other
# Overlap of two boxes from which on they are of one thing: of the same kind, of others.
_OVERLAP, _OVERLAP_OF_OTHERS = 0.45, 0.7
_MATCH = 0.25  # likeness from which on a box goes on with a track
_ONLY = 0.3  # likeness, at least, of the only one of its kind to the only one before
_MOST_UNSEEN = 10  # frames after which a track is closed
# Of a track, see `track_features`: whether it comes, goes; how long; motion, growth; first, last.
NUM_TRACK_FEATURES = 1 + 1 + 1 + 2 + 1 + 1 + 1
_SEEN = 5  # column of `features_of` behind the class scores
_EVIDENT = 3 / 16  # of the frames must be as sure of a class as the track is
_EDGE = 2  # frames at an end of the clip: what is not seen in fewer was missed, and did not come


@dataclass(frozen=True)
class Detections:
    """What is found in one frame.

    Attributes:
        scores: (n, classes), 0..1.
        boxes: (n, 4), left, top, right, bottom as shares of the frame.
        colors: (n, 3), mean RGB of the middle of the box, 0..1.
    """

    scores: Tensor
    boxes: Tensor
    colors: Tensor


@dataclass
class Track:
    """One thing through the frames: which detection of which frame it is."""

    frames: list[int] = field(default_factory=list)
    scores: list[Tensor] = field(default_factory=list)
    boxes: list[Tensor] = field(default_factory=list)
    colors: list[Tensor] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """How much there is of it: its surest scores summed."""
        return float(sum(score.max() for score in self.scores))


def without_overlaps(scores: Tensor, boxes: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes (N, 4) that stay, the surest first; of boxes that overlap, the surest.

    A thing that may be a cat or a dog is one box with both scores.
    """
    sure = scores.amax(1)
    order = sure.argsort(descending=True)[:_CANDIDATES]
    order = order[sure[order] >= threshold]
    kinds = scores[order].argmax(1)
    most = torch.where(kinds[:, None] == kinds[None], _OVERLAP, _OVERLAP_OF_OTHERS)
    too_much = overlap(boxes[order], boxes[order]) >= most
    kept: list[int] = []
    for index in range(len(order)):
        if not too_much[index, kept].any():
            kept.append(index)
    return order[kept]


def overlap(some: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m)."""
    low = torch.maximum(some[:, None, :2], others[None, :, :2])
    high = torch.minimum(some[:, None, 2:], others[None, :, 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    area = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(-1) for b in (some, others)]
    return inner / (area[0][:, None] + area[1][None] - inner).clamp(min=1e-6)


def colors_of(picture: Tensor, boxes: Tensor) -> Tensor:
    """Mean RGB (n, 3) of the middle half of each box, of a picture (3, H, W) of 0..1."""
    height, width = picture.shape[-2:]
    found = []
    for left, top, right, bottom in boxes.tolist():
        rows = _middle(top, bottom, height)
        found.append(picture[:, rows, _middle(left, right, width)].float().mean((1, 2)))
    return torch.stack(found) if found else picture.new_zeros(0, 3)


def _middle(low: float, high: float, length: int) -> slice:
    """The middle half of a span, at least a pixel of it."""
    first = min(int((0.75 * low + 0.25 * high) * length), length - 1)
    return slice(first, max(int((0.25 * low + 0.75 * high) * length), first + 1))


def follow(detections: list[Detections], most: int) -> list[Track]:
    """Tracks through the frames of a clip, at most `most`, those of which there is most first."""
    tracks: list[Track] = []
    for frame, found in enumerate(detections):
        still = [t for t in tracks if frame - t.frames[-1] <= _MOST_UNSEEN]
        likeness = _likeness(still, found)
        taken: set[int] = set()
        going_on: set[int] = set()
        pairs = (likeness > _MATCH).nonzero().tolist()
        for row, column in sorted(pairs, key=lambda pair: -float(likeness[pair[0], pair[1]])):
            if row in going_on or column in taken:
                continue
            going_on.add(row)
            taken.add(column)
            _append(still[row], frame, found, column)
        for column in range(len(found.boxes)):
            if column not in taken:
                tracks.append(Track())
                _append(tracks[-1], frame, found, column)
    return sorted(tracks, key=lambda track: -track.weight)[:most]


def _append(track: Track, frame: int, found: Detections, index: int) -> None:
    track.frames.append(frame)
    track.scores.append(found.scores[index])
    track.boxes.append(found.boxes[index])
    track.colors.append(found.colors[index])


def _likeness(tracks: list[Track], found: Detections) -> Tensor:
    """(tracks, n): by place, what it is, and colour; what is far away is not alike."""
    if not tracks or not len(found.boxes):
        return torch.zeros(len(tracks), len(found.boxes))
    boxes = torch.stack([t.boxes[-1] for t in tracks])
    scores = torch.stack([t.scores[-1] for t in tracks])
    colors = torch.stack([t.colors[-1] for t in tracks])
    kinds = torch.nn.functional.cosine_similarity(scores[:, None], found.scores[None], dim=-1)
    centres, others = ((b[:, :2] + b[:, 2:]) / 2 for b in (boxes, found.boxes))
    sizes = (boxes[:, 2:] - boxes[:, :2]).amax(1)
    others_sizes = (found.boxes[:, 2:] - found.boxes[:, :2]).amax(1)
    size = torch.maximum(sizes[:, None], others_sizes[None])
    near = (1 - torch.cdist(centres, others) / (0.08 + size)).clamp(min=0)
    colour = 1 - (colors[:, None] - found.colors[None]).abs().mean(-1)
    place = torch.maximum(overlap(boxes, found.boxes), 0.7 * near)
    likeness = place * (0.3 + 0.7 * kinds) * colour
    # What moves fast is far from where it was: the only dog is the dog, wherever it is.
    before, now = scores.argmax(1), found.scores.argmax(1)
    same = before[:, None] == now[None]
    alone = same & (same.sum(0, keepdim=True) == 1) & (same.sum(1, keepdim=True) == 1)
    return torch.where(alone, likeness.clamp(min=_ONLY), likeness)


def features_of(tracks: list[Track], num_frames: int, num_objects: int, num_classes: int) -> Tensor:
    """Tokens (num_frames, num_objects, num_classes + NUM_FEATURES); zero where nothing is.

    Class scores; centre x and y, width and height as shares of the frame; the surest score;
    1 where it is seen; mean RGB of 0..1; how far its centre moved since the frame before.
    """
    device = tracks[0].boxes[0].device if tracks else None
    tokens = torch.zeros(num_frames, num_objects, num_classes + NUM_FEATURES, device=device)
    for column, track in enumerate(tracks):
        boxes = torch.stack(track.boxes)
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        frames = torch.tensor(track.frames, device=device)
        moved = torch.zeros_like(centres)
        apart = (frames[1:] - frames[:-1])[:, None]
        moved[1:] = (centres[1:] - centres[:-1]) / apart
        scores = torch.stack(track.scores)
        parts = [scores, centres, boxes[:, 2:] - boxes[:, :2], scores.amax(1, keepdim=True),
                 torch.ones_like(centres[:, :1]), torch.stack(track.colors), moved]  # fmt: skip
        tokens[frames, column] = torch.cat(parts, 1).to(tokens.dtype)
    return tokens


def is_seen(objects: Tensor, num_classes: int) -> Tensor:
    """Where tokens of `features_of` (T, N, features) hold something: bool (T, N)."""
    return objects[..., num_classes + _SEEN] > 0


def evidence_of(objects: Tensor, num_classes: int) -> Tensor:
    """The class scores that three of sixteen frames reach, float32 (N, num_classes), of tokens of
    `features_of` (T, N, features)."""
    shown = objects[..., :num_classes].float() * is_seen(objects, num_classes)[..., None]
    sure = max(1, round(_EVIDENT * len(objects)))
    return shown.topk(sure, dim=0).values[-1]


def track_features(objects: Tensor, num_classes: int) -> Tensor:
    """What a clip tells of each track, beside what each frame does.

    Args:
        objects: (T, N, num_classes + NUM_FEATURES), as `features_of` makes them.

    Returns:
        (T, N, num_classes + NUM_FEATURES + NUM_TRACK_FEATURES), zero where nothing is. Class scores
        are those of `evidence_of`, in every frame of a track; behind the features
        of the frame: 1 where the track begins within the clip, 1 where it ends there; of the whole
        track the share of frames that show it, how far it moves, x and y as shares of the frame,
        the logarithm of how much its box grows, when it is first and last seen as a share of the
        clip.
    """
    total = len(objects)
    seen = is_seen(objects, num_classes)
    shown = objects.float() * seen[..., None]
    evidence = evidence_of(objects, num_classes)
    frame = torch.arange(total, device=objects.device)[:, None]
    first = torch.where(seen, frame, total).amin(0)
    last = torch.where(seen, frame, -1).amax(0)
    comes = (frame == first) & (first >= _EDGE)
    goes = (frame == last) & (last < total - _EDGE)
    count = seen.sum(0).clamp(min=1)
    mean = (frame * seen).sum(0) / count
    apart = (frame - mean) * seen
    box = shown[..., num_classes : num_classes + 4]
    size = box[..., 2:].clamp(min=1e-3).log().mean(-1, keepdim=True)
    path = torch.cat([box[..., :2], size], -1)
    slope = (apart[..., None] * path).sum(0) / apart.square().sum(0).clamp(min=1)[:, None]
    span = (last - first).clamp(min=0)[:, None]
    share = torch.stack([count / total, first / total, (last + 1) / total], -1)
    whole = torch.cat([share[:, :1], slope * span, share[:, 1:]], -1)
    parts = [evidence.expand(total, -1, -1), shown[..., num_classes:], comes[..., None],
             goes[..., None], whole.expand(total, -1, -1)]  # fmt: skip
    return torch.cat(parts, -1).to(objects.dtype) * seen[..., None]
