"""Tables as spreadsheets write them: what is read, what is refused and why, and which rows are
labels."""

import codecs
from pathlib import Path

import pytest
from PIL import Image

from dfal.data.image_folder import Folder
from dfal.data.label_table import read_labels
from dfal.data.table_files import read_table
from dfal.errors import DfalError

PATHS = ("1.png", "2.png", "with space.png", "a/3.png", "ü.png")


def read(tmp_path: Path, content: bytes | str) -> dict[str, str]:
    file = tmp_path / "labels.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return {
        PATHS[index]: label
        for index, label in read_labels(file, tmp_path / "photos", PATHS).known.items()
    }


BOTH = {"1.png": "cat", "2.png": "dog"}
PLAIN = "path,label\n1.png,cat\n2.png,dog\n"
GOOD: dict[str, bytes | str] = {
    "plain": PLAIN,
    "without a last line break": PLAIN.rstrip(),
    "Windows": PLAIN.replace("\n", "\r\n"),
    "old Macs": PLAIN.replace("\n", "\r"),
    "empty rows at the end": PLAIN + ",\n,\n ,  \n\n",
    "empty rows at the beginning": "\n,\n" + PLAIN,
    "empty rows between": PLAIN.replace("2.png", ",\n\n2.png"),
    "empty columns at the end": "path,label,,\n1.png,cat,,\n2.png,dog,,\n",
    "empty columns before": ",path,label\n,1.png,cat\n,2.png,dog\n",
    "UTF-8 with a mark": codecs.BOM_UTF8 + PLAIN.encode(),
    "UTF-16": codecs.BOM_UTF16_LE + PLAIN.encode("utf-16-le"),
    "UTF-16 the other way": codecs.BOM_UTF16_BE + PLAIN.encode("utf-16-be"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "UTF-32": PLAIN.encode("utf-32"),
    "Unicode text, with tabs": codecs.BOM_UTF16_LE + PLAIN.replace(",", "\t").encode("utf-16-le"),
    "tabs": PLAIN.replace(",", "\t"),
    "semicolons": PLAIN.replace(",", ";"),
    "bars": PLAIN.replace(",", "|"),
    "sep=;": "sep=;\r\n" + PLAIN.replace(",", ";"),
    "sep=, in quotes": '"sep=,"\n' + PLAIN,
    "sep and a mark": codecs.BOM_UTF8 + b"sep=\t\n" + PLAIN.replace(",", "\t").encode(),
    "all quoted": '"path","label"\n"1.png","cat"\n"2.png","dog"\n',
    "blanks": " path , label \n1.png , cat\n 2.png,dog \n",
    "blanks before quotes": 'path, label\n1.png, "cat"\n"2.png", "dog"\n',
    "capitals": PLAIN.replace("path,label", "Path,LABEL"),
    "other columns": "note,label,path\nx,cat,1.png\n,dog,2.png\n",
    "a comma in a note": 'path,label,note\n1.png,cat,"a, b"\n2.png,dog,"two\nlines"\n',
    "rows that end early": "path,label,note\n1.png,cat\n2.png,dog\n",
    "the same row twice": PLAIN + "1.png,cat\n",
    "a row without a label": PLAIN + "a/3.png,\na/3.png\n",
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_spreadsheets_write_is_read(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, GOOD[kind]) == BOTH


def test_paths_may_be_written_in_many_ways(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    rows = [
        "./1.png,a",
        f"{tmp_path}/photos/2.png,b",
        "with space.png ,c",
        "a\\3.png,d",
        "u\u0308.png,e",
    ]
    assert list(read(tmp_path, "path,label\n" + "\n".join(rows)).values()) == list("abcde")
    file = tmp_path / "labels.csv"
    file.write_text(f"path,label\n{tmp_path}/link/1.png,a\n{tmp_path}/photos/2.png,b\n")
    assert read_labels(file, tmp_path / "link", PATHS).known == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("path,label\n1.png,cat\n\n9.png,dog\n", r"row 4 names '9\.png', which is not in"),
        ("sep=;\npath;label\n1.png;cat\n9.png;dog\n", r"row 3 names '9\.png'"),
        ('path,label,note\n1.png,cat,"a\nb"\n9.png,dog,\n', r"row 3 names '9\.png'"),
        ("path,label\n1.png,cat\n1.png,dog\n", r"row 3 gives '1\.png' two labels, 'cat' and 'dog'"),
        ("path,label\n1.png,cat\n,dog\n", "row 3: the label 'dog' has no path"),
        ("path,label\n1.png,cat, big\n", "row 2 has more columns than the first line names"),
        ('path,label\n1.png,"cat\n2.png,dog\n', "has a quote that is not closed"),
        ("path,label,label\n1.png,a,b\n", "has two columns label"),
        ("file,class\n1.png,a\n", "has no columns path and label, but 'file,class'"),
        ("", "has no columns path and label"),
        ("\n,,\n", "has no columns path and label"),
        (
            "path,label\n1.png,Hündin\n".encode("latin-1"),
            r"is not written in UTF-8 \(row 2\): save it as that",
        ),
        ("pfad,größe\n".encode("latin-1"), "is not written in UTF-8: save it as that"),
        (codecs.BOM_UTF16_LE + b"x", "not a table of text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "(not a table of text|not written in UTF-8)"),
        (
            b"PK\x03\x04\x14\0\x06\0\x08\0",
            "not a table of text|no columns path and label|not written in UTF-8",
        ),
        ("path,label\n1.png," + "x" * 200_000, "field larger"),
    ],
)
def test_what_is_wrong_is_one_sentence_that_names_the_row(
    tmp_path: Path, content: bytes | str, sentence: str
) -> None:
    with pytest.raises(DfalError, match=sentence) as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_an_export_gives_only_what_was_given_or_known(tmp_path: Path) -> None:
    head = "path,label,by,at,how,confidence,flagged,note\n"
    rows = [
        "1.png,cat,ada,,given,1.0,False,",
        "2.png,dog,,,Known,1.0,True,blurred",
        "with space.png,cat,network,,guessed,0.51,False,",
        "a/3.png,,ada,,declined,0.0,False,",
        "ü.png,,,,flagged,0.0,True,odd",
    ]
    assert read(tmp_path, head + "\n".join(rows)) == BOTH
    table = read_labels(tmp_path / "labels.csv", tmp_path / "photos", PATHS)
    assert table.left_out == {"guessed": 1, "declined": 1, "flagged": 1}
    assert read(tmp_path, "path,label,how\n1.png,cat,given\n2.png,dog,\n") == {"1.png": "cat"}


@pytest.mark.parametrize("more", ["", ",distance"])
def test_what_predict_wrote_is_no_label(tmp_path: Path, more: str) -> None:
    sentence = r"holds the predictions of a network.*Remove the column confidence"
    with pytest.raises(DfalError, match=sentence):
        read(tmp_path, f"path,label,confidence{more}\n1.png,cat,0.9{more and ',0.1'}\n")
    assert read(tmp_path, "path,label\n1.png,cat\n2.png,dog") == BOTH


def test_names_that_are_no_utf8_are_kept_in_paths(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path,label\n\xff\xfe.png,cat\n")
    (row,) = read_table(tmp_path / "t.csv", ("path", "label"), "the labels").rows
    assert (row["path"], row.number) == ("\udcff\udcfe.png", 2)


def test_the_folder_says_how_many_rows_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "photos" / "1.png")
    (tmp_path / "t.csv").write_text("path,label,how\n1.png,cat,guessed\n")
    with Folder.open(tmp_path / "photos", tmp_path / "cache", labels=tmp_path / "t.csv") as folder:
        assert (folder.known, folder.left_out) == ({}, {"guessed": 1})
