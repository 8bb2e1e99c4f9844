"""The data sets of `contrastax prepare`: what is read from small files of the packages' formats."""

import json

import numpy as np
import pytest

from contrastax import data
from contrastax.cli import main
from contrastax.core import UserError
from contrastax.data import prepared
from contrastax.data.prepared import debian_packages, emoji, files, packages, tuxpaint, wordnet


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("CONTRASTAX_DATA_DIR", str(tmp_path / "data"))
  return tmp_path / "data"


def decoded(rows):
  return [bytes(row).rstrip(b"\0").decode() for row in rows]


def all_of(dataset, field):
  return [text for split in dataset[:2] for text in decoded(split[field])]


# Debian packages


def debian_index(folder, count=60):
  """Writes packages of `count` sources, each with a library and its development files."""
  entries, translations = [], []
  for i in range(count):
    for kind in ("lib", "dev"):
      source = f"Source: source{i} (1.0)\n" if kind == "dev" else ""
      name = f"source{i}" if kind == "lib" else f"source{i}-dev"
      entries.append(
        f"Package: {name}\n{source}Section: games\nDescription: in short {kind} {i}\n"
        f"Description-md5: {kind}{i}\n"
      )
      long = f" It is number {i}\n of {kind}.\n .\n A second paragraph."
      translations.append(
        f"Package: {name}\nDescription-md5: {kind}{i}\nDescription-en: In short {kind} {i}\n{long}\n"
      )
  entries.append("Package: alone\nSection: games\nDescription-md5: unknown\n")
  folder.mkdir(exist_ok=True)
  (folder / "packages").write_text("\n".join(entries))
  (folder / "translations").write_text("\n".join(translations))
  return debian_packages.read(folder)


def test_packages_of_a_source_are_in_one_split(tmp_path):
  dataset = debian_index(tmp_path / "index")
  assert len(all_of(dataset, "text")) == 120
  sources = [set(split["source"].tolist()) for split in dataset[:2]]
  assert not sources[0] & sources[1] and len(sources[0] | sources[1]) == 60
  assert min(map(len, sources)) > 0
  assert dataset.classes == ("games",)
  pairs = dict(zip(all_of(dataset, "text"), all_of(dataset, "description"), strict=True))
  assert pairs["In short dev 7"] == "It is number 7 of dev. A second paragraph."


def test_an_index_without_long_descriptions_is_one_line(tmp_path):
  for name in ("packages", "translations"):
    (tmp_path / name).write_text("Package: alone\n")
  with pytest.raises(UserError, match="long description"):
    debian_packages.read(tmp_path)


# WordNet


def wordnet_files(folder, lines):
  path = folder / "usr" / "share" / "wordnet"
  path.mkdir(parents=True)
  for kind in ("noun", "verb", "adj", "adv"):
    text = "".join(lines) if kind == "noun" else ""
    (path / f"data.{kind}").write_text(f"  1 This is the license.\n{text}", encoding="latin-1")


def test_a_sense_has_words_definition_and_topic(tmp_path):
  lines = [
    f'{i:08} 05 n 02 dog{i} 0 domestic_dog 0 001 @ {i:08} n 0000 | an animal {i}; "the dog barked"  \n'
    for i in range(100)
  ]
  lines.append("00000999 00 a 01 galore(ip) 0 000 | in great numbers  \n")
  wordnet_files(tmp_path, lines)
  dataset = wordnet.read(tmp_path)
  pairs = dict(zip(all_of(dataset, "text"), all_of(dataset, "gloss"), strict=True))
  assert pairs["dog5, domestic dog"] == "an animal 5" and pairs["galore"] == "in great numbers"
  assert dataset.classes == ("noun.animal",)
  assert len(dataset.test["text"]) > 0


def test_senses_of_a_word_are_in_one_split(tmp_path):
  wordnet_files(
    tmp_path,
    [f"{i:08} 05 n 01 word{i % 40} 0 000 | meaning {i}  \n" for i in range(120)]
    + [f"{i:08} 05 n 01 Word{i % 40} 0 000 | same meaning  \n" for i in range(40)],
  )
  dataset = wordnet.read(tmp_path)
  train, test = ({text.lower() for text in decoded(split["text"])} for split in dataset[:2])
  assert not train & test and train | test == {f"word{i}" for i in range(40)}
  assert "same meaning" not in decoded(dataset.test["gloss"])


def test_a_damaged_line_of_wordnet_is_one_line(tmp_path):
  wordnet_files(tmp_path, ["00001740 03 n zz entity 0 | that which exists\n"])
  with pytest.raises(UserError, match="data.noun: line 2"):
    wordnet.read(tmp_path)


# Emoji

LISTING = """# group: Smileys & Emotion
# subgroup: face-smiling
1F600                                      ; fully-qualified     # 😀 E1.0 grinning face
263A FE0F                                  ; fully-qualified     # ☺️ E0.6 smiling face
263A                                       ; unqualified         # ☺ E0.6 smiling face
# group: People & Body
1F468 1F3FD 200D 1F680                     ; fully-qualified     # man astronaut
1F469 200D 1F680                           ; fully-qualified     # woman astronaut
1F3C3 1F3FB 200D 2640 FE0F                 ; fully-qualified     # woman running
"""


def test_emoji_have_groups_and_families():
  found = [*emoji.emoji_of(LISTING)]
  assert [each.group for each in found] == ["Smileys & Emotion"] * 2 + ["People & Body"] * 3
  assert found[0].characters == "😀" and emoji.plain(found[1].characters) == "☺"
  families = [emoji.family(each.characters) for each in found]
  assert families[2] == families[3] == "🧑\u200d🚀" and families[4] == "🏃"
  assert len(set(families)) == 4


def test_names_and_keywords_are_read(tmp_path):
  for kind, lines in (
    ("annotations", '<annotation cp="☺">face | smile</annotation>'
                    '<annotation cp="☺" type="tts">smiling face</annotation>'
                    '<annotation cp="x">no name</annotation>'),
    ("annotationsDerived", '<annotation cp="👍🏽" type="tts">thumbs up: medium</annotation>'),
  ):  # fmt: skip
    (tmp_path / kind).mkdir()
    (tmp_path / kind / "en.xml").write_text(f"<ldml><annotations>{lines}</annotations></ldml>")
  assert emoji.english_names(tmp_path) == {
    "☺": ("smiling face", "face, smile"),
    "👍🏽": ("thumbs up: medium", ""),
  }


# Tux Paint


def stamps(folder, *, count=40, speech=True):
  from PIL import Image

  place = folder / "usr" / "share" / "tuxpaint" / "stamps" / "animals" / "far away"
  place.mkdir(parents=True)
  for i in range(count):
    Image.new("RGBA", (30 + i, 20), (255, 0, 0, 255)).save(place / f"[{i}].png")
    text = f"A cow {i // 2}.\nfr.utf8=Une vache {i}é.\nde_AT.utf8=Kuh\n" if i else ""
    (place / f"[{i}].txt").write_text(text, encoding="utf-8")
    if speech and i % 2:
      soundfile = pytest.importorskip("soundfile")
      tone = np.sin(np.arange(44_100 * (5 if i == 1 else 1)) * 0.05)
      soundfile.write(place / f"[{i}]_desc_fr.ogg", np.stack([tone, tone], 1), 44_100)
  (place / "[1]_mirror.png").write_bytes(b"has no caption")
  return tuxpaint.read(folder)


def test_stamps_have_captions_images_and_speech(tmp_path):
  dataset = stamps(tmp_path)
  pairs = dict(zip(all_of(dataset, "text_fr"), all_of(dataset, "text"), strict=True))
  assert pairs["Une vache 7é."] == "A cow 3." and pairs[""] == ""
  train, test = (set(decoded(split["text"])) for split in dataset[:2])
  assert test and not train & test  # stamps of a caption are in one split
  assert dataset.classes == ("animals",)
  for split in dataset[:2]:
    assert split["image"].shape[1:] == (64, 64, 3)
    assert (split["image"][:, 32, 32] == [255, 0, 0]).all()
    assert (split["image"][:, 0, 0] == 255).all()
    assert split["speech"].dtype == np.int16 and split["speech"].shape[1] == 48_000
  by_text = {}
  for split in dataset[:2]:
    for text, length, speech in zip(
      decoded(split["text_fr"]), split["speech_length"], split["speech"], strict=True
    ):
      by_text[text] = length, speech
  assert by_text["Une vache 1é."][0] == 48_000  # cut to 3 seconds
  length, speech = by_text["Une vache 3é."]
  assert abs(length - 16_000) < 2_000 and not speech[length:].any()
  # The tone has 0.05 · 44,100 / 2π cycles per second.
  spectrum = np.abs(np.fft.rfft(speech[:length].astype(float)))
  assert abs(spectrum.argmax() * 16_000 / length - 351) < 2
  assert by_text["Une vache 2é."][0] == 0


def test_missing_soundfile_is_one_line_before_the_download(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
  monkeypatch.setattr(packages.subprocess, "run", None)
  assert main(["prepare", "tuxpaint"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "pip install 'contrastax[audio]'" in error


# The file and the command


@pytest.fixture
def small(monkeypatch):
  """A data set `wordnet` that needs no download."""
  split = {"text": np.array([[97, 0]], np.uint8), "label": np.array([0], np.int32)}
  dataset = data.Dataset(split, {**split, "label": np.array([-1], np.int32)}, ("x",))
  made = files.Preparation(lambda folder: {"wordnet-base": "3"}, lambda folder: dataset, "free")
  monkeypatch.setitem(prepared.PREPARED, "wordnet", made)
  return dataset


def test_a_prepared_data_set_is_loaded_by_its_name(small, folder, capsys):
  assert main(["prepare", "wordnet"]) == 0
  printed = capsys.readouterr().out
  assert "1 training and 1 test examples" in printed and "license of the data: free" in printed
  loaded = data.load("wordnet")
  assert loaded.classes == ("x",)
  for one, other in zip(loaded[:2], small[:2], strict=True):
    assert one.keys() == other.keys()
    for name in one:
      np.testing.assert_array_equal(one[name], other[name])
      assert one[name].dtype == other[name].dtype
  with np.load(folder / "wordnet.npz") as file:
    about = json.loads(str(file["about"]))
  assert about == {"name": "wordnet", "license": "free", "versions": {"wordnet-base": "3"}}
  assert [path.name for path in folder.iterdir()] == ["wordnet.npz"]
  assert main(["prepare", "wordnet"]) == 0 and "exists" in capsys.readouterr().out


@pytest.mark.parametrize("name", prepared.PREPARED)
def test_what_is_not_prepared_names_the_command(name, folder):
  with pytest.raises(UserError) as error:
    data.load(name)
  assert str(error.value) == (
    f"the data set {name} is not prepared in {folder}; run: contrastax prepare {name}"
  )


def test_a_damaged_file_is_one_line(small, folder):
  folder.mkdir()
  np.savez(folder / "emoji.npz", image=np.zeros(3))
  (folder / "wordnet.npz").write_bytes(b"damaged")
  for name in ("emoji", "wordnet"):
    with pytest.raises(
      UserError, match=rf"is damaged; remove it, and run: contrastax prepare {name}"
    ):
      data.load(name)


def test_a_data_set_of_the_user_is_converted(tmp_path, capsys):
  np.savez(tmp_path / "x.npz", image=np.zeros((10, 4, 4, 3), np.uint8))
  out = tmp_path / "shards"
  assert main(["prepare", f"npz:{tmp_path}/x.npz", f"--out={out}"]) == 0
  assert data.load(f"arrayrecord:{out}").train["image"].shape[1:] == (4, 4, 3)
  capsys.readouterr()
  assert main(["prepare", "folder:photos"]) == 2
  assert "--out=" in capsys.readouterr().err


def test_packages_with_other_files_are_one_line(folder, monkeypatch, capsys):
  empty = files.Preparation(lambda folder: {"wordnet-base": "9"}, wordnet.read, "free")
  monkeypatch.setitem(prepared.PREPARED, "wordnet", empty)
  assert main(["prepare", "wordnet"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "cannot be read from wordnet-base 9" in error
  assert not [*folder.iterdir()]


def test_an_unknown_name_names_the_nearest(capsys):
  assert main(["prepare", "emojis"]) == 2
  assert capsys.readouterr().err == (
    "error: the data set 'emojis' cannot be prepared; did you mean 'emoji'?\n"
  )


def test_a_folder_that_cannot_be_written_is_one_line(small, tmp_path, monkeypatch, capsys):
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("CONTRASTAX_DATA_DIR", str(tmp_path / "file" / "data"))
  assert main(["prepare", "wordnet"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and "cannot be written" in error and "CONTRASTAX_DATA_DIR" in error


def test_a_failed_download_is_one_line_and_leaves_nothing(folder, monkeypatch, capsys, tmp_path):
  program = tmp_path / "bin" / "apt-get"
  program.parent.mkdir()
  program.write_text("#!/bin/sh\necho 'E: no such package' >&2\nexit 100\n")
  program.chmod(0o755)
  monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
  assert main(["prepare", "emoji"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and error.endswith("failed: E: no such package\n")
  assert not [*folder.iterdir()]
  monkeypatch.setenv("PATH", str(tmp_path))
  assert main(["prepare", "emoji"]) == 2
  assert "apt-get, which downloads the data, is not on the PATH" in capsys.readouterr().err


@pytest.mark.full
@pytest.mark.parametrize(
  "name, least",
  [("debian_packages", 50_000), ("wordnet", 110_000), ("emoji", 3_000), ("tuxpaint", 700)],
)
def test_the_real_data_sets(name, least, capsys):
  """Downloads the packages with apt-get."""
  assert main(["prepare", name]) == 0
  dataset = data.load(name)
  sizes = [len(split["label"]) for split in dataset[:2]]
  assert sum(sizes) >= least and sizes[1] >= 0.05 * sizes[0]
  data.Resident(dataset.train, batch_size=8).batch(0)
  if name == "emoji":
    families = [set(split["family"].tolist()) for split in dataset[:2]]
    assert not families[0] & families[1]
    images = [{image.tobytes() for image in split["image"]} for split in dataset[:2]]
    assert not images[0] & images[1]
