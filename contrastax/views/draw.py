"""Random views of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from contrastax.core import Array, Recipe, UserError, class_error, named
from contrastax.nouns import accepts


def draw_views(
  recipes: Recipe | Sequence[Recipe],
  key: Array,
  images: Any,
  index: Array,
  *,
  first: int = 0,
) -> list[Any]:
  """Draws several views of each example.

  Args:
    recipes: a recipe, which draws two views, or a tuple or list with one recipe per view.
    key: random key. View v has a key that depends on `key` and on v.
    images: [n, h, w, c], uint8 or float in [0, 1], or any input of the recipes.
    index: [n], integers: the indices of the examples.
    first: the number v of the first view.

  Returns:
    A list of views, one per recipe.

  Raises:
    UserError: `recipes` is neither a recipe nor a sequence of recipes, a recipe does not take
      (key, x, index), or a view has another number of examples.

  Example:
    >>> import jax
    >>> from contrastax import views
    >>> images = jax.numpy.zeros((4, 8, 8, 1))
    >>> pair = views.draw_views(views.gray(8), jax.random.key(0), images, jax.numpy.arange(4))
    >>> [view.shape for view in pair]
    [(4, 8, 8, 1), (4, 8, 8, 1)]
  """
  recipes = (recipes, recipes) if callable(recipes) else recipes
  if not (isinstance(recipes, tuple | list) and recipes and all(map(callable, recipes))):
    raise UserError(
      f"draw_views: recipes must be a recipe or a tuple of one per view, not {recipes!r}"
    )
  for recipe in recipes:
    if isinstance(recipe, type):
      raise class_error(recipe)
  return [
    _draw(recipe, named(key, f"view {v}"), images, index) for v, recipe in enumerate(recipes, first)
  ]


def _draw(recipe: Recipe, key: Array, x: Any, index: Array) -> Any:
  try:
    view = recipe(key, x, index)
  except TypeError as error:
    if accepts(recipe, key, x, index):
      raise
    fault = " ".join(str(error).split())
    raise UserError(
      f"a recipe takes (key, x, index), which this one does not accept ({fault}); write a function "
      "of these three, such as lambda key, x, index: operation(x, …)"
    ) from None
  for leaf in jax.tree.leaves(view):
    if jnp.shape(leaf)[:1] != index.shape:
      raise UserError(
        f"a recipe returned an array of shape {jnp.shape(leaf)} for {len(index)} examples; the first "
        "axis of a view must have the length of the batch"
      )
  return view
