"""Random views of a batch, by one recipe or one per view."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from contrastax.core import Array, UserError, named


def draw_views(
  recipes: Callable | Sequence[Callable],
  key: Array,
  images: Array,
  index: Array,
  *,
  first: int = 0,
) -> list[Array]:
  """A list of views, view v by `recipes[v]`; its key is folded from `key` and v, counted from `first`.

  One recipe, not in a tuple, stands for two views. Views are [n, h, w, c], each of its
  recipe's size.
  """
  recipes = (recipes, recipes) if callable(recipes) else recipes
  if not (isinstance(recipes, tuple | list) and recipes and all(map(callable, recipes))):
    raise UserError(f"draw_views takes a recipe, or a tuple of one per view, not {recipes!r}")
  return [recipe(named(key, f"view {v}"), images, index) for v, recipe in enumerate(recipes, first)]
