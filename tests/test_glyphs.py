"""The data set `glyphs`: images, names, fonts, and the split by combinations."""

import unicodedata

import numpy as np
import pytest

from contrastax import data
from contrastax.core import UserError
from contrastax.data import glyphs
from contrastax.data.splits import frequent_classes, new_in_test, one_in


@pytest.fixture(scope="module")
def dataset():
  return data.load("glyphs")


def splits(dataset):
  return dataset.train, dataset.test


def names_of(split):
  return [unicodedata.name(chr(code)) for code in split["character"]]


def decoded(rows):
  return [bytes(row).rstrip(b"\0").decode() for row in rows]


def test_there_are_enough_images_of_bytes(dataset):
  for split, images, characters in zip(
    splits(dataset), (15_000, 3_500), (4_500, 1_000), strict=True
  ):
    assert len(split["image"]) >= images and len(np.unique(split["character"])) >= characters
    assert split["image"].dtype == np.uint8 and split["image"].shape[1:] == (32, 32, 1)
    assert (split["image"].max((1, 2, 3)) > 0).all()  # none is empty
    assert set(np.unique(split["font"])) == set(range(len(glyphs.FONTS)))
  assert len(dataset.classes) >= 15


def test_the_text_is_the_name_of_the_character_and_the_label_its_first_word(dataset):
  for split in splits(dataset):
    names = names_of(split)
    assert decoded(split["text"]) == names
    labels = {word: number for number, word in enumerate(dataset.classes)}
    assert split["label"].tolist() == [labels.get(name.split()[0], -1) for name in names]


def test_a_test_name_is_a_new_combination_of_words_of_training(dataset):
  train, test = map(set, map(names_of, splits(dataset)))
  assert not train & test
  words = {word for name in train for word in name.split()}
  assert all(words.issuperset(name.split()) for name in test)
  both = {name for name in train | test if name.startswith("LATIN SMALL LETTER A WITH")}
  assert both & train and both & test  # the letter A, with some of its marks


def test_no_image_has_two_characters(dataset):
  characters = {}
  for split in splits(dataset):
    for image, character in zip(split["image"], split["character"], strict=True):
      characters.setdefault(image.tobytes(), set()).add(int(character))
  assert max(map(len, characters.values())) == 1


def test_the_next_font_draws_the_same_character(dataset):
  for split in splits(dataset):
    other, character = split["next_font"], split["character"]
    assert (character[other] == character).all()
    alone = other == np.arange(len(other))
    counts = np.bincount(character)
    assert (alone == (counts[character] == 1)).all()
    assert (split["font"][other] != split["font"])[~alone].all()
    assert len(np.unique(other)) == len(other)  # each image is the other font of one image


def test_ink_keeps_its_place_and_its_scale(dataset):
  def image(name):
    code, font = ord(unicodedata.lookup(name)), glyphs.FONTS.index("DejaVuSans")
    for split in splits(dataset):
      for i in np.flatnonzero((split["character"] == code) & (split["font"] == font)):
        return split["image"][i, ..., 0]
    raise AssertionError(name)

  rows = {name: np.flatnonzero(image(name).any(1)) for name in ("COMMA", "APOSTROPHE")}
  assert rows["COMMA"].min() > rows["APOSTROPHE"].max()
  heights = {
    n: np.ptp(np.flatnonzero(image(f"LATIN {n} LETTER O").any(1))) for n in ("SMALL", "CAPITAL")
  }
  assert heights["SMALL"] < heights["CAPITAL"]
  columns = np.flatnonzero(image("LATIN CAPITAL LETTER O").any(0))
  assert abs(columns[0] - (31 - columns[-1])) <= 1  # centered


def test_ink_that_is_larger_than_the_image_is_shrunk(dataset):
  for path in glyphs.font_files(glyphs.FONTS):
    drawn = glyphs.draw(path, 8)
    assert drawn.image.shape[1:] == (8, 8) and drawn.image.any((1, 2)).all()
    assert (np.diff(drawn.character) > 0).all()
  # The widest characters of a font reach both edges.
  assert (dataset.train["image"][..., 0].any(1).sum(1) == 32).any()


def test_the_size_is_an_option():
  small = data.load("glyphs", size=12)
  assert small.train["image"].shape[1:] == (12, 12, 1)
  again = glyphs.load_glyphs(size=12)
  for one, other in zip(small[:2], again[:2], strict=True):
    assert all((one[name] == other[name]).all() for name in one)
  for wrong in (4, 1000, -8, "big", 12.5):
    with pytest.raises(UserError, match="size") as error:
      data.load("glyphs", size=wrong)
    assert "\n" not in str(error.value)


def test_the_fonts_are_an_option():
  one = data.load("glyphs", size=8, fonts=("STIXGeneral",))
  for split in splits(one):
    assert not split["font"].any() and len(np.unique(split["character"])) == len(split["character"])
  for wrong, text in (
    ((), "one or more different names"),
    (("STIXGeneral", "STIXGeneral"), "one or more different names"),
    (("DejaVuSan",), "did you mean 'DejaVuSans'?"),
    ((3,), "fonts"),
  ):
    with pytest.raises(UserError, match="fonts|font ") as error:
      data.load("glyphs", fonts=wrong)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_the_split_of_a_key_does_not_depend_on_the_others():
  keys = [f"key {i}" for i in range(1000)]
  chosen = one_in(5, keys)
  assert 150 < chosen.sum() < 250
  assert (one_in(5, keys[::-1]) == chosen[::-1]).all() and (
    one_in(5, keys[:10]) == chosen[:10]
  ).all()
  assert one_in(5, []).shape == (0,)


def test_a_test_example_that_repeats_a_training_example_is_left_out():
  held_out = np.array([False, False, True, True, True])
  texts, codes = ["a", "a", "a", "b", "c"], ["1", "2", "3", "1", "4"]
  assert new_in_test(held_out, texts, codes).tolist() == [True, True, False, False, True]


def test_a_rare_kind_is_no_class():
  held_out = np.array([False, False, False, True, True])
  label, classes = frequent_classes(["x", "x", "y", "y", "x"], held_out, 2)
  assert label.tolist() == [0, 0, -1, -1, 0] and classes == ("x",)
