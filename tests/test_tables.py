"""Tables, tar files and folders of Hugging Face are data sets."""

import io
import json
import os
import tarfile

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from images_on_disk import content, picture, two_classes, write

from contrastax import data
from contrastax.core import UserError
from contrastax.data.dataset import encode_texts
from contrastax.data.decode import decode


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def texts(field):
  return [bytes(row).rstrip(b"\0").decode() for row in field]


ROWS = [
  {
    "question": f"what is {i}?",
    "answer": f"ä {i}",
    "price": i / 2,
    "count": i,
    "label": "xy"[i % 2],
  }
  for i in range(6)
]


def write_table(path, rows):
  names = list(rows[0])
  if path.suffix == ".parquet":
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  elif path.suffix == ".jsonl":
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  else:
    lines = [names, *([row[name] for name in names] for row in rows)]
    quoted = ('"' + str(value).replace('"', '""') + '"' for line in lines for value in line)
    width = len(names)
    cells = list(quoted)
    path.write_text(
      "\n".join(",".join(cells[i : i + width]) for i in range(0, len(cells), width)) + "\n"
    )
  return path


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def kind(request):
  return request.param


def test_the_columns_of_each_format_are_the_same_fields(tmp_path, kind):
  path = write_table(tmp_path / f"pairs.{kind}", ROWS)
  dataset = data.read(f"{kind}:{path}")
  train = dataset.train
  assert texts(train["question"]) == [row["question"] for row in ROWS]
  assert texts(train["answer"]) == [row["answer"] for row in ROWS]
  np.testing.assert_array_equal(train["price"], [row["price"] for row in ROWS])
  np.testing.assert_array_equal(train["count"], range(6))
  assert train["price"].dtype == np.float32 and train["count"].dtype.kind == "i"
  assert dataset.classes == ("x", "y") and list(train["label"]) == [0, 1] * 3


def test_a_fifth_is_held_out(tmp_path, kind):
  path = write_table(tmp_path / f"pairs.{kind}", ROWS)
  train, test, _ = data.load(f"{kind}:{path}")
  assert (len(train["count"]), len(test["count"])) == (5, 1)


def test_images_are_relative_to_the_table_and_missing_ones_are_left_out(tmp_path, kind, capsys):
  two_classes(tmp_path / "pictures", 5)
  rows = [
    {"photo": f"pictures/{'ab'[i % 2]}/{i:03d}.png", "caption": f"picture {i}"} for i in range(5)
  ]
  rows.insert(2, {"photo": "pictures/a/none.png", "caption": "nothing"})
  path = write_table(tmp_path / f"captions.{kind}", rows)
  train = data.read(f"{kind}:{path}", size=8).train
  assert texts(train["caption"]) == [f"picture {i}" for i in range(5)]
  expected = [decode(tmp_path / rows[i]["photo"], (8, 8, 3)) for i in (0, 1, 3, 4, 5)]
  np.testing.assert_array_equal(np.asarray(train["photo"]), expected)
  assert "pictures/a/none.png: no such file" in capsys.readouterr().err
  with pytest.raises(UserError, match="1 file cannot be decoded"):
    data.read(f"{kind}:{path}", broken="fail")


def test_urls_of_images_are_not_read(tmp_path, kind):
  rows = [{"photo": "https://example.org/a.png"}, {"photo": "HTTP://example.org/b.jpg"}]
  path = write_table(tmp_path / f"urls.{kind}", rows)
  with pytest.raises(UserError, match="a.png: URLs are not read; download .*b.jpg: URLs are not"):
    data.read(f"{kind}:{path}", broken="fail")


def test_a_column_split_divides_the_examples(tmp_path, kind):
  rows = [{"text": str(i) + "a", "split": "test" if i % 3 == 0 else "train"} for i in range(6)]
  dataset = data.load(f"{kind}:{write_table(tmp_path / f't.{kind}', rows)}")
  assert set(dataset.train) == {"text"}
  assert texts(dataset.test["text"]) == ["0a", "3a"]


def test_lists_are_further_axes(tmp_path):
  rows = [{"q": "a", "vector": [i, 2.5], "negatives": ["n" * i, "é"]} for i in range(1, 4)]
  for kind in ("jsonl", "parquet"):
    train = data.read(f"{kind}:{write_table(tmp_path / f'x.{kind}', rows)}").train
    np.testing.assert_array_equal(train["vector"], [[1, 2.5], [2, 2.5], [3, 2.5]])
    assert train["negatives"].shape == (3, 2, 3)
    assert texts(train["negatives"][2]) == ["nnn", "é"]


def test_a_missing_label_is_no_label(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text("text,label\na,x\nb,\nc,y\n")
  assert list(data.read(f"csv:{path}").train["label"]) == [0, -1, 1]
  path.write_text("text,topic\na,3\nb,5\nc,3\n")
  dataset = data.read(f"csv:{path}", label="topic")
  assert dataset.classes == ("3", "5") and list(dataset.train["label"]) == [0, 1, 0]


def test_a_chosen_label_replaces_the_column_label(tmp_path):
  rows = [{"a": "x", "topic": topic, "label": "z"} for topic in "pqp"]
  for kind in ("csv", "jsonl"):
    path = write_table(tmp_path / f"t.{kind}", rows)
    dataset = data.read(f"{kind}:{path}", label="topic")
    assert dataset.classes == ("p", "q") and set(dataset.train) == {"a", "label"}
  (tmp_path / "hf").mkdir()
  write_table(tmp_path / "hf" / "train.parquet", rows)
  assert data.read(f"hf:{tmp_path}/hf", label="topic").classes == ("p", "q")


def test_numbers_of_a_csv_column(tmp_path):
  """Python reads 1_2 as 12, and an empty number must not make the column a column of texts."""
  path = tmp_path / "t.csv"
  path.write_text("id,n,label\n1_2, 7,10\n3_4,1e3,\n5_6,-2,9\n")
  train, _, classes = data.read(f"csv:{path}")
  assert texts(train["id"]) == ["1_2", "3_4", "5_6"]
  np.testing.assert_array_equal(train["n"], [7, 1000, -2])
  assert classes == ("9", "10") and list(train["label"]) == [1, -1, 0]


def test_long_values_and_marks_of_byte_order(tmp_path):
  (tmp_path / "t.csv").write_bytes("\ufeffa,b\r\n".encode() + b"x" * 200_000 + b",1\r\n")
  assert data.read(f"csv:{tmp_path}/t.csv").train["a"].shape == (1, 512)
  (tmp_path / "t.jsonl").write_bytes('\ufeff{"a": "x"}\n'.encode())
  assert texts(data.read(f"jsonl:{tmp_path}/t.jsonl").train["a"]) == ["x"]


def test_paths_that_are_no_regular_files_are_listed(tmp_path, capsys):
  """None of them may stop the program: a pipe has no end, and a lone surrogate has no bytes."""
  two_classes(tmp_path / "p", 2)
  os.mkfifo(tmp_path / "pipe.png")
  (tmp_path / "zero.png").symlink_to("/dev/zero")
  (tmp_path / "folder.png").mkdir()
  odd = ("pipe.png", "zero.png", "folder.png", "a\0b.png", "\ud800.png")
  path = write_table(tmp_path / "t.jsonl", [{"p": name} for name in ("p/a/000.png", *odd)])
  for _ in range(2):  # The second time, from the index.
    assert list(data.read(f"jsonl:{path}").train["p"].names) == ["p/a/000.png"]
    printed = capsys.readouterr().err
    assert printed.count("it is not a regular file") == 3
    assert "a\\x00b.png: the path is not valid" in printed
    assert "\\ud800.png: the path is not valid" in printed


def test_columns_selects_columns(tmp_path):
  path = write_table(tmp_path / "pairs.jsonl", ROWS)
  assert set(data.read(f"jsonl:{path}", columns=("answer",)).train) == {"answer", "label"}


def test_long_texts_are_cut_between_characters_and_counted(tmp_path, capsys):
  path = write_table(tmp_path / "t.jsonl", [{"text": "éé" * i} for i in range(1, 5)])
  train = data.read(f"jsonl:{path}", text_bytes=9).train
  assert texts(train["text"]) == ["éé", "éééé", "éééé", "éééé"]
  assert "2 of 4 texts are cut to 9 bytes" in capsys.readouterr().err


def test_encoded_texts_of_a_lone_surrogate_are_valid():
  assert encode_texts(["\udcff"]).shape == (1, 1)


WRONG = {
  "no file": ("csv:none.csv", None, "there is no file none.csv"),
  "below a file": ("csv:t.csv/u.csv", None, "t.csv/u.csv cannot be read: not a directory"),
  "suffix": ("csv:t.txt", "a", "must be a .csv, .tsv, .jsonl or .parquet file"),
  "no rows": ("csv:t.csv", "a,b\n", "has no rows"),
  "empty": ("csv:t.csv", "", "has no rows"),
  "short row": ("csv:t.csv", "a,b\n1,2\n3\n", "t.csv:3: the row has 1 values, but there are 2"),
  "twice": ("csv:t.csv", "a,a\n1,2\n", "must name the columns, each once"),
  "latin-1": ("csv:t.csv", b"a\n\xe9\n", "is not UTF-8"),
  "not json": ("jsonl:t.jsonl", '{"a": 1}\n{"a"\n', "t.jsonl:2: the line is not JSON"),
  "not an object": ("jsonl:t.jsonl", "[1]\n", "t.jsonl:1: the line must be an object"),
  "keys": ("jsonl:t.jsonl", '{"a": 1}\n{"b": 1}\n', "t.jsonl:2: the line and the first line"),
  "semicolons": ("csv:t.csv", "a;b\n1;2\n", "separate the columns by commas"),
  "empty number": ("csv:t.csv", "a,b\n1,2\n,3\n", "column 'a' has no value in row 1"),
  "large integer": ("csv:t.csv", f"a\n{10**30}\n", "does not fit into 64 bits"),
  "deep": ("jsonl:t.jsonl", "[" * 100_000, "t.jsonl:1: the line is not JSON"),
  "deep list": (
    "jsonl:t.jsonl",
    f'{{"a": {"[" * 900}1{"]" * 900}}}',
    "must contain texts, numbers",
  ),
  "null": ("jsonl:t.jsonl", '{"a": 1}\n{"a": null}\n', "column 'a' has no value in row 1"),
  "mixed": ("jsonl:t.jsonl", '{"a": 1}\n{"a": "x"}\n', "must contain texts, numbers, or lists"),
  "ragged": ("jsonl:t.jsonl", '{"a": [1]}\n{"a": [1, 2]}\n', "lists of equal length"),
  "ragged texts": ("jsonl:t.jsonl", '{"a": ["x"]}\n{"a": ["x", "y"]}\n', "as many texts"),
  "only labels": ("csv:t.csv", "label\nx\n", "has no column besides the label"),
  "quantity": ("csv:t.csv", "a,label\n1,0.5\n", "must contain classes, not 0.5"),
  "index": ("csv:t.csv", "a,index\n1,2\n", "rename the column 'index'"),
  "split": ("csv:t.csv", "a,split\n1,x\n", "must contain 'train' and 'test' only"),
  "parquet": ("parquet:t.parquet", "x", "is not an intact parquet file"),
  "folder": ("csv:sub.csv", None, "is a folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_table_is_one_line(tmp_path, monkeypatch, case):
  name, text, words = WRONG[case]
  monkeypatch.chdir(tmp_path)
  (tmp_path / "sub.csv").mkdir()
  (tmp_path / "t.csv").write_text("")
  if text is not None:
    path = tmp_path / name.partition(":")[2]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(UserError) as error:
    data.load(name)
  assert words in str(error.value) and "\n" not in str(error.value)


def test_a_date_of_nanoseconds_is_one_line(tmp_path):
  dates = pyarrow.array([1, 2], pyarrow.timestamp("ns"))
  for path in (tmp_path / "t.parquet", tmp_path / "hf" / "train.parquet"):
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"when": dates, "text": ["a", "b"]}), path)
  for name in (f"parquet:{tmp_path}/t.parquet", f"hf:{tmp_path}/hf"):
    with pytest.raises(UserError, match="values that Python cannot represent"):
      data.read(name)
  assert set(data.read(f"hf:{tmp_path}/hf", columns=("text",)).train) == {"text"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_length_of_texts_is_checked(tmp_path, kind):
  path = write_table(tmp_path / f"t.{kind}", [{"a": "xyz"}])
  with pytest.raises(UserError, match="text_bytes must be at least 1, not 0"):
    data.read(f"{kind}:{path}", text_bytes=0)


def test_a_column_that_does_not_exist(tmp_path):
  path = write_table(tmp_path / "pairs.jsonl", ROWS)
  for options in ({"columns": ("answr",)}, {"label": "answr"}):
    with pytest.raises(UserError, match="no column 'answr'; did you mean 'answer'"):
      data.load(f"jsonl:{path}", **options)


@pytest.mark.parametrize(
  "name, function",
  [
    ("csv:t.csv", "builtins.open"),
    ("webdataset:t.csv", "tarfile.open"),
    ("npz:t.csv", "numpy.load"),
  ],
)
def test_a_file_that_may_not_be_read_is_one_line(tmp_path, monkeypatch, name, function):
  (tmp_path / "t.csv").write_text("a,b\n")
  monkeypatch.chdir(tmp_path)

  def denied(path, *arguments, **options):
    raise PermissionError(13, "Permission denied", path)

  with monkeypatch.context() as context:
    context.setattr(function, denied)
    with pytest.raises(UserError) as error:
      data.load(name)
  assert str(error.value) == "t.csv cannot be read: permission denied"


# WebDataset.


def write_tar(path, samples):
  with tarfile.open(path, "w") as archive:
    for name, data_of in samples:
      entry = tarfile.TarInfo(name)
      entry.size = len(data_of)
      archive.addfile(entry, io.BytesIO(data_of))


def tar_samples(first, count):
  for i in range(first, first + count):
    yield f"d/{i:03d}.png", content(picture(i), "PNG")
    yield f"d/{i:03d}.txt", f"caption {i}".encode()
    yield f"d/{i:03d}.cls", str(i % 2).encode()
    yield f"d/{i:03d}.json", json.dumps({"year": 1990 + i}).encode()


def test_shards_are_one_data_set_with_random_access(tmp_path):
  for shard in range(3):
    write_tar(tmp_path / f"shard-{shard:02d}.tar", tar_samples(4 * shard, 4))
  for pattern in ("shard-{00..02}.tar", "shard-*.tar"):
    dataset = data.read(f"webdataset:{tmp_path}/{pattern}", size=(30, 40))
    train = dataset.train
    order = np.array([11, 0, 5])
    np.testing.assert_array_equal(
      np.asarray(train["image"][order]), [np.asarray(picture(i)) for i in order]
    )
    assert texts(train["text"][order]) == [f"caption {i}" for i in order]
    np.testing.assert_array_equal(train["year"], np.arange(1990, 2002))
    np.testing.assert_array_equal(train["label"], np.arange(12) % 2)
    assert train["image"].names[5].endswith("shard-01.tar/d/005.png")


def test_a_broken_image_leaves_its_sample_out(tmp_path, capsys):
  samples = [(n, b"x" if n == "d/001.png" else d) for n, d in tar_samples(0, 4)]
  write_tar(tmp_path / "a.tar", samples)
  train = data.read(f"webdataset:{tmp_path}/a.tar").train
  assert texts(train["text"]) == ["caption 0", "caption 2", "caption 3"]
  assert "d/001.png: the file is not an image" in capsys.readouterr().err


def test_the_index_of_a_tar_file_holds_in_every_folder(tmp_path, monkeypatch):
  write_tar(tmp_path / "a.tar", tar_samples(0, 2))
  monkeypatch.chdir(tmp_path)
  first = np.asarray(data.read("webdataset:a.tar").train["image"])
  (tmp_path / "other").mkdir()
  monkeypatch.chdir(tmp_path / "other")
  for path in ("../a.tar", tmp_path / "a.tar"):
    np.testing.assert_array_equal(data.read(f"webdataset:{path}").train["image"], first)


def test_an_index_keeps_infinite_numbers(tmp_path):
  write_tar(tmp_path / "a.tar", [("0.json", b'{"v": Infinity}'), ("1.json", b'{"v": 1}')])
  for _ in range(2):
    assert list(data.read(f"webdataset:{tmp_path}/a.tar").train["v"]) == [np.inf, 1]


def test_suffixes_in_capitals_and_files_of_no_sample(tmp_path):
  samples = [
    (name[:-3] + name[-3:].upper(), d) for name, d in tar_samples(0, 2) if "son" not in name
  ]
  write_tar(tmp_path / "a.tar", [("README", b"x"), ("LICENSE.md", b"x"), *samples])
  assert set(data.read(f"webdataset:{tmp_path}/a.tar").train) == {"image", "text", "label"}


def test_json_can_neither_replace_the_image_nor_name_another_file(tmp_path):
  entry = json.dumps({"image": ["/etc/passwd", 0, 9], "key": "0", "error_message": None}).encode()
  write_tar(tmp_path / "a.tar", [("0.png", content(picture(0), "PNG")), ("0.json", entry)])
  train = data.read(f"webdataset:{tmp_path}/a.tar", columns=("image",), size=(30, 40)).train
  np.testing.assert_array_equal(train["image"], np.asarray(picture(0))[None])


@pytest.mark.parametrize(
  "pattern, words",
  [
    ("two.tar", "the sample 0 has two images"),
    ("header.tar", "a header is damaged"),
    ("deep.tar", "nested too deeply"),
    ("list.tar", "0.json must contain a JSON object"),
    ("none.tar", "there is no file"),
    ("b-{0..2}.tar", "there is no file"),
    ("gz.tar", "without compression"),
    ("text.tar", "is not an intact tar file"),
    ("fields.tar", "give every sample the same fields"),
  ],
)
def test_a_wrong_tar_file_is_one_line(tmp_path, pattern, words):
  write_tar(tmp_path / "b-0.tar", tar_samples(0, 1))
  write_tar(tmp_path / "fields.tar", [*tar_samples(0, 1), ("1.png", content(picture(1), "PNG"))])
  with tarfile.open(tmp_path / "gz.tar", "w:gz") as archive:
    archive.add(tmp_path / "b-0.tar", "x.png")
  (tmp_path / "text.tar").write_text("text" * 1000)
  write_tar(tmp_path / "two.tar", [("0.png", b"x"), ("0.jpg", b"y")])
  write_tar(tmp_path / "deep.tar", [("0.json", b"[" * 100_000)])
  write_tar(tmp_path / "list.tar", [("0.json", b"[1]")])
  write_tar(tmp_path / "header.tar", tar_samples(0, 2))
  header = (tmp_path / "header.tar").read_bytes().replace(b"d/001.txt", b"d/001.tyt", 1)
  (tmp_path / "header.tar").write_bytes(header)
  with pytest.raises(UserError) as error:
    data.load(f"webdataset:{tmp_path}/{pattern}")
  assert words in str(error.value) and "\n" not in str(error.value)


# Hugging Face.


def hugging_face_table(first, count):
  rows = [
    {
      "image": {"bytes": content(picture(i), "PNG"), "path": f"{i}.png"},
      "caption": f"caption {i}",
      "label": i % 3,
    }
    for i in range(first, first + count)
  ]
  features = {
    "image": {"_type": "Image"},
    "caption": {"dtype": "string", "_type": "Value"},
    "label": {"names": ["cat", "dog", "emu"], "_type": "ClassLabel"},
  }
  table = pyarrow.Table.from_pylist(rows)
  metadata = {"huggingface": json.dumps({"info": {"features": features}})}
  return table.replace_schema_metadata(metadata)


def write_hugging_face(root, kind):
  """A folder as on the hub (parquet), or of `DatasetDict.save_to_disk` (arrow)."""
  for split, first, count in (("train", 0, 6), ("test", 6, 3)):
    table = hugging_face_table(first, count)
    if kind == "parquet":
      (root / "data").mkdir(parents=True, exist_ok=True)
      pyarrow.parquet.write_table(table, root / "data" / f"{split}-00000-of-00001.parquet")
    else:
      (root / split).mkdir(parents=True)
      with pyarrow.ipc.new_stream(
        str(root / split / "data-00000-of-00001.arrow"), table.schema
      ) as file:
        file.write_table(table)
  return root


@pytest.mark.parametrize("format_of_files", ["parquet", "arrow"])
def test_a_folder_of_hugging_face_keeps_splits_and_class_names(tmp_path, format_of_files):
  root = write_hugging_face(tmp_path / "set", format_of_files)
  train, test, classes = data.load(f"hf:{root}", size=(30, 40))
  assert classes == ("cat", "dog", "emu")
  assert texts(test["caption"]) == ["caption 6", "caption 7", "caption 8"]
  np.testing.assert_array_equal(train["label"], [0, 1, 2, 0, 1, 2])
  np.testing.assert_array_equal(
    np.asarray(train["image"]), [np.asarray(picture(i)) for i in range(6)]
  )


def test_columns_of_hugging_face_that_are_no_images(tmp_path):
  """Audio, paths that are pipes or devices, and a false description of the columns."""
  rows = [
    {"image": {"bytes": encoded, "path": path}, "sound": {"bytes": b"RIFF", "path": None}}
    for encoded, path in (
      (content(picture(1), "PNG"), "1.png"), (None, "/dev/zero"), (None, "a\0b"), (None, None)
    )
  ]  # fmt: skip
  (tmp_path / "set").mkdir()
  table = pyarrow.Table.from_pylist(rows)
  features = {"image": {"_type": "Image"}, "sound": {"_type": "Audio"}}
  metadata = {"huggingface": json.dumps({"info": {"features": features}})}
  pyarrow.parquet.write_table(
    table.replace_schema_metadata(metadata), tmp_path / "set" / "x.parquet"
  )
  with pytest.raises(UserError, match="column 'sound' must contain texts"):
    data.read(f"hf:{tmp_path}/set")
  images = data.read(f"hf:{tmp_path}/set", columns=("image",)).train["image"]
  assert list(images.names) == ["0:1.png"]


def test_labels_that_are_no_classes_of_hugging_face(tmp_path):
  features = {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}
  metadata = {"huggingface": json.dumps({"info": {"features": features}})}
  (tmp_path / "set").mkdir()
  for wrong in (2, -2, "a"):
    table = pyarrow.Table.from_pylist([{"text": "x", "label": wrong}])
    pyarrow.parquet.write_table(
      table.replace_schema_metadata(metadata), tmp_path / "set" / "x.parquet"
    )
    with pytest.raises(UserError, match="must contain numbers of 2 classes"):
      data.read(f"hf:{tmp_path}/set")


def test_splits_in_names_and_several_configs(tmp_path):
  for name in ("set/cifar-train.parquet", "set/cifar-test.parquet", "en/x/train.parquet"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(hugging_face_table(0, 3), tmp_path / name)
  dataset = data.read(f"hf:{tmp_path}/set")
  assert [len(part["label"]) for part in dataset[:2]] == [3, 3]
  with pytest.raises(UserError, match="the split 'train' in 2 folders"):
    data.read(f"hf:{tmp_path}")


def test_wrong_folders_of_hugging_face(tmp_path):
  write(tmp_path, {"empty/readme.md": b"", "damaged/train.parquet": b"PAR1"})
  for name, words in (
    ("none", "there is no folder"),
    ("empty", "has no parquet or arrow file"),
    ("damaged", "is not an intact file"),
  ):
    with pytest.raises(UserError, match=words):
      data.load(f"hf:{tmp_path}/{name}")
