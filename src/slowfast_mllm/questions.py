"""Questions that are asked where nobody says one; nothing is imported."""

DESCRIBE = "What happens in the video?"
