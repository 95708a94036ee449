"""The packaged model, all of it: its `world`, the `lessons` it learnt there, and its `weights`.

Who uses the library never needs to open this package. It uses the library, and is used by nothing
but the default of `slowfast_mllm.load` and by `slowfast train` with a recipe of the world.
"""

from pathlib import Path

WEIGHTS = Path(__file__).with_name("weights")
"""The folder of the packaged model: config, weights, tokenizer and processor."""
