"""Where the suite's files are looked for."""

from pathlib import Path

from kloros.place import Place


def test_named_directories_win() -> None:
    named = {"KLOROS_CONFIG_DIR": "/c", "KLOROS_STATE_DIR": "/s", "KLOROS_RUNTIME_DIR": "/r", "HOME": "/home/me"}
    assert Place.discover(named) == Place(Path("/c"), Path("/s"), Path("/r"))


def test_staged_versions_are_where_the_suites_own_state_is() -> None:
    named = {"KLOROS_STATE_DIR": "/s/mine", "HOME": "/home/me"}
    assert Place.discover(named).suite_state == Path("/s/mine")
    assert Place.discover({**named, "KLOROS_SUITE_STATE_DIR": "/s"}).suite_state == Path("/s")


def test_a_person_without_a_runtime_directory_keeps_the_sockets_with_the_state() -> None:
    place = Place.user({"HOME": "/home/me"})
    assert place.state == Path("/home/me/.local/state/kloros")
    assert place.runtime == place.state / "run"


def test_a_persons_directories_follow_the_xdg_variables() -> None:
    place = Place.user({"HOME": "/home/me", "XDG_STATE_HOME": "/x/state", "XDG_RUNTIME_DIR": "/run/user/1"})
    assert (place.state, place.runtime) == (Path("/x/state/kloros"), Path("/run/user/1/kloros"))


def test_without_settings_of_their_own_they_get_those_of_the_package() -> None:
    assert (Place.user({"HOME": "/nowhere"}).config / "scheduler_config.toml").is_file()
