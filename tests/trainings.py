"""A training of seconds."""

from splitter.training.recipe import Recipe
from tests import sounds

RECIPE = Recipe(
    sizes=sounds.SMALL_SIZES,
    crop=16384,
    batch=2,
    steps=40,
    warmup=4,
    learning_rate=1e-2,
    validate_every=20,
    validation=("held/*",),
)
