"""The rooms of the house as the build declares them, and who includes whom."""

import re
from pathlib import Path

_MODULE = re.compile(r"datom_module\(\s*(\w+)([^)]*)\)")
_PROGRAM = re.compile(r"add_executable\(\s*\w+\s+([^)]*)\)")
_LINKED = re.compile(r"target_link_libraries\([^)]*\)")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
_KEYWORDS = ("DEPENDS", "LIBS", "TEST_DEPENDS")


class Room:
    """One folder: what it may include, and its files by their path below the include folder."""

    def __init__(self, name, folder, depends, test_depends):
        self.name = name
        self.folder = folder
        self.depends = depends
        self.test_depends = test_depends
        self.files = {}

    def add_files(self, base):
        for path in sorted(self.folder.rglob("*")):
            if path.suffix in (".h", ".cc"):
                self.files[path.relative_to(base).as_posix()] = SourceFile(path)


class SourceFile:
    def __init__(self, path):
        self.path = path
        found = _INCLUDE.findall(path.read_text())
        self.includes = [name for quote, name in found if quote == '"']
        self.library_includes = [name for quote, name in found if quote == "<"]

    @property
    def is_header(self):
        return self.path.suffix == ".h"

    @property
    def is_test(self):
        return self.path.stem.endswith("_test")


def _without_comments(text):
    return re.sub(r"#.*", "", text)


def _arguments(text):
    """The words after each keyword of datom_module."""
    found = {keyword: [] for keyword in _KEYWORDS}
    current = None
    for word in text.split():
        if word in found:
            current = found[word]
        elif current is not None:
            current.append(word)
    return found


def _room(folder):
    """The room that the folder's CMakeLists.txt declares; None where it declares none."""
    text = _without_comments((folder / "CMakeLists.txt").read_text())
    module = _MODULE.search(text)
    if module:
        arguments = _arguments(module.group(2))
        return Room(module.group(1), folder, arguments["DEPENDS"], arguments["TEST_DEPENDS"])
    if _PROGRAM.search(text):
        # A folder of programs depends on the rooms that these are linked with.
        linked = " ".join(_LINKED.findall(text))
        return Room(folder.name, folder, re.findall(r"\bdatom_(\w+)", linked), [])
    return None


def read_rooms(top):
    """{name: Room} of src/* and of sim."""
    top = Path(top)
    rooms = {}
    for folder in [*sorted((top / "src").iterdir()), top / "sim"]:
        if (folder / "CMakeLists.txt").is_file():
            room = _room(folder)
            if room:
                room.add_files(folder.parent)
                rooms[room.name] = room
    return rooms


def all_files(rooms):
    """{path below the include folder: SourceFile} of all rooms."""
    return {name: file for room in rooms.values() for name, file in room.files.items()}


def only_for_tests(rooms):
    """Names of files that no program is made of: tests, and headers that only tests reach."""
    files = all_files(rooms)
    reached = set()
    waiting = [name for name, file in files.items() if not file.is_header and not file.is_test]
    while waiting:
        name = waiting.pop()
        if name not in reached and name in files:
            reached.add(name)
            waiting += files[name].includes
    return set(files) - reached
