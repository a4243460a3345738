"""What a person reads when a file of theirs is wrong: the file, the line, the key and the cure."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from services.runtime import yaml_file
from services.runtime.errors import SettingsError
from services.runtime.yaml_file import convert, parse, read, read_mapping

FILE = Path("city.yaml")


class Lamp(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    lamp_id: str
    kind: Literal["light", "strobe"] = "light"
    power_w: Annotated[float, Meta(gt=0)] = 30.0
    opened_on: str | None = None


class City(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    lamps: tuple[Lamp, ...] = ()
    notes: dict[str, int] = {}


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as refused:
        convert(parse(text, FILE), City)
    return str(refused.value)


def test_a_file_becomes_its_type() -> None:
    city = convert(parse("name: 도시\nlamps:\n  - {lamp_id: l1, power_w: 12}\n", FILE), City)
    assert city == City(name="도시", lamps=(Lamp(lamp_id="l1", power_w=12.0),))


def test_a_date_stays_the_text_it_was_written_as() -> None:
    city = convert(parse("lamps: [{lamp_id: l1, opened_on: 2026-05-01}]", FILE), City)
    assert city.lamps[0].opened_on == "2026-05-01"


def test_an_empty_file_is_an_empty_mapping() -> None:
    assert convert(parse("# nothing yet\n", FILE), City) == City()


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_key() -> None:
    text = "lamps:\n  - lamp_id: l1\n    kind: light\n    powerw: 3\n"
    assert refusal(text) == "city.yaml:4: lamps[0].powerw: unknown key: did you mean 'power_w'?"


def test_an_unknown_key_that_is_like_none_lists_the_known_ones() -> None:
    assert refusal("zzz: 1") == "city.yaml:1: zzz: unknown key: the known keys are lamps, name, notes"


def test_a_missing_key_is_named_at_the_entry_that_lacks_it() -> None:
    text = "lamps:\n  - lamp_id: l1\n  - kind: light\n"
    assert refusal(text) == "city.yaml:3: lamps[1]: the key 'lamp_id' is missing: add it"


def test_a_value_of_another_type_is_named_with_the_type_wanted() -> None:
    text = "name: x\nlamps:\n  - lamp_id: l1\n    power_w: bright\n"
    assert refusal(text) == "city.yaml:4: lamps[0].power_w: expected float, got str"


def test_a_value_out_of_bounds_is_named_with_the_bound() -> None:
    assert refusal("lamps: [{lamp_id: l1, power_w: 0}]") == "city.yaml:1: lamps[0].power_w: expected float > 0.0"


def test_a_word_that_is_not_allowed_lists_those_that_are_and_is_not_repeated() -> None:
    text = "lamps:\n  - lamp_id: l1\n    kind: hunter2\n"
    assert refusal(text) == "city.yaml:3: lamps[0].kind: must be one of light, strobe"


def test_a_wrong_value_in_a_free_mapping_names_the_mapping() -> None:
    assert refusal("name: x\nnotes:\n  a: 1\n  b: two\n").startswith("city.yaml:2: notes: expected int")


def test_a_key_written_twice_names_both_lines() -> None:
    assert refusal("name: a\nlamps: []\nname: b\n") == "city.yaml:3: name: written twice, first in line 1: remove one"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("name: [1, 2\n", "city.yaml:2: not YAML", id="an open bracket"),
        pytest.param("name: 'a\n", "city.yaml:2: not YAML", id="an open quote"),
        pytest.param("a: &x 1\nb: *x\n", "city.yaml:1: b: aliases are not read", id="an alias"),
        pytest.param("a: !!binary aGk=\n", "city.yaml:1: a: tags such as", id="a scalar tag"),
        pytest.param("a: !!set {x, y}\n", "city.yaml:1: a: tags such as", id="a mapping tag"),
        pytest.param("? [a]\n: 1\n", "city.yaml:1: a key must be text", id="a list as a key"),
        pytest.param("a: \x07\n", "city.yaml: not YAML", id="a control character"),
        pytest.param("[" * 5000, "city.yaml: nested too deep", id="nesting without end"),
    ],
)
def test_what_is_not_plain_yaml_is_refused(text: str, said: str) -> None:
    assert refusal(text).startswith(said)


def test_a_syntax_error_does_not_quote_the_file() -> None:
    assert "hunter2" not in refusal("password: [hunter2\nname: b\n")


def test_a_syntax_error_says_what_to_look_for_and_not_what_the_parser_wanted() -> None:
    said = refusal("lamps:\n - a\n b: 1\n")
    assert said.startswith("city.yaml:3: not YAML here or in the lines above; look for")
    assert "block end" not in said


def test_each_entry_of_a_list_keeps_its_line() -> None:
    located = parse("lamps:\n  - lamp_id: a\n  - lamp_id: b\n", FILE)
    second = list(located.entries("lamps"))[1]
    error = second.error("a second lamp of this id", "lamp_id")
    assert str(error) == "city.yaml:3: lamps[1].lamp_id: a second lamp of this id"
    assert convert(second, Lamp) == Lamp(lamp_id="b")


def test_entries_of_a_key_that_is_not_written_are_none() -> None:
    assert list(parse("name: a", FILE).entries("lamps")) == []


def test_entries_of_a_key_that_is_no_list_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"city\.yaml:2: lamps: must be a list"):
        list(parse("name: a\nlamps: 3\n", FILE).entries("lamps"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml: no such file"):
        read_mapping(tmp_path / "absent.yaml")


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_mapping(tmp_path)


def test_a_file_that_is_not_utf_8_is_named_with_the_byte(tmp_path: Path) -> None:
    (tmp_path / "city.yaml").write_bytes(b"name: \xb5\xb5\n")
    with pytest.raises(SettingsError, match=r"city\.yaml: not UTF-8 at byte 6"):
        read_mapping(tmp_path / "city.yaml")


def test_a_file_whose_top_is_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "city.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="must be a mapping"):
        read_mapping(tmp_path / "city.yaml")


def test_read_reads_a_file_as_its_type(tmp_path: Path) -> None:
    (tmp_path / "city.yaml").write_text("name: a\n", encoding="utf-8")
    assert read(tmp_path / "city.yaml", City) == City(name="a")


def test_a_file_without_end_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "FILE_BYTES_MAX", 3)
    (tmp_path / "city.yaml").write_text("name: a\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="split it"):
        read_mapping(tmp_path / "city.yaml")
