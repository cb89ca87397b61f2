"""The checks find what they are there for. Run by `./dev check`: python3 -m unittest checks_test"""

import importlib.machinery
import importlib.util
import tempfile
import unittest
from pathlib import Path


def load(name):
    """A tool as a module: they have no .py at their end."""
    loader = importlib.machinery.SourceFileLoader(name, str(Path(__file__).parent / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


layers = load("check_layers")
text = load("check_text")
headers = load("check_headers")

HOUSE = {
    "src/CMakeLists.txt": "set(rooms base journal wire top programs)\n",
    "src/base/CMakeLists.txt": "datom_module(base LIBS fmt)\n",
    "src/base/base.h": "#include <string>\n",
    "src/base/base.cc": '#include "base/base.h"\n',
    "src/journal/CMakeLists.txt": "datom_module(journal DEPENDS base\n  TEST_DEPENDS wire)\n",
    "src/journal/journal.h": '#include "base/base.h"\n',
    "src/journal/journal.cc": '#include "journal/journal.h"\n',
    "src/journal/journal_fixture.h": '#include "wire/wire.h"\n',
    "src/journal/journal_test.cc": '#include "journal/journal_fixture.h"\n',
    "src/wire/CMakeLists.txt": "datom_module(wire DEPENDS base)  # not top\n",
    "src/wire/message.h": "#include <boost/json.hpp>\n",
    "src/wire/message.cc": '#include "wire/message.h"\n',
    "src/wire/wire.h": '#include "base/base.h"\n',
    "src/wire/wire.cc": '#include "wire/wire.h"\n',
    "src/top/CMakeLists.txt": "datom_module(top DEPENDS base journal wire)\n",
    "src/top/top.h": '#include "journal/journal.h"\n',
    "src/top/top.cc": '#include "top/top.h"\n#include "wire/message.h"\n',
    "src/programs/CMakeLists.txt":
        "add_executable(datom main.cc)\ntarget_link_libraries(datom PRIVATE datom_top)\n",
    "src/programs/main.cc": '#include "top/top.h"\n',
    "ARCHITECTURE.md": "# House\n\n| room | what |\n|---|---|\n| `programs` | `main` |\n"
                       "| `top` | all |\n| `journal`, `wire` | devices |\n| `base` | bytes |\n",
}


class LayersTest(unittest.TestCase):
    def problems(self, changes):
        """What is found in the house with `changes`: {path: text}."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {**HOUSE, **changes}.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            return list(layers.problems(folder))

    def assert_found(self, changes, words):
        found = self.problems(changes)
        self.assertTrue(any(words in problem for problem in found), f"{words!r} in {found}")

    def test_a_house_in_order_has_no_problems(self):
        self.assertEqual([], self.problems({}))

    def test_an_undeclared_include(self):
        self.assert_found({"src/journal/journal.cc": '#include "wire/wire.h"\n'},
                          'journal/journal.cc: includes "wire/wire.h"')

    def test_an_include_that_another_room_declared(self):
        self.assert_found({"src/programs/main.cc": '#include "base/base.h"\n'},
                          'programs/main.cc: includes "base/base.h"')

    def test_an_indented_include_and_one_after_a_blank(self):
        self.assert_found({"src/base/base.cc": '  #  include "top/top.h"\n'}, "does not declare top")

    def test_an_include_in_no_room(self):
        self.assert_found({"src/base/base.cc": '#include "base.h"\n'}, "is in no room")

    def test_what_tests_declare_is_not_for_programs(self):
        self.assert_found({"src/journal/journal.cc": '#include "journal/journal_fixture.h"\n'},
                          'journal/journal_fixture.h: includes "wire/wire.h"')

    def test_an_unknown_room(self):
        self.assert_found({"src/base/CMakeLists.txt": "datom_module(base DEPENDS cellar)\n"},
                          "declares cellar, which is no room")

    def test_a_circle(self):
        self.assert_found({"src/base/CMakeLists.txt": "datom_module(base DEPENDS top)\n"},
                          "circle: base -> top -> base")

    def test_a_slow_header_that_leaves_its_room(self):
        self.assert_found({"src/top/top.h": '#include "wire/message.h"\n'},
                          'top/top.h: "wire/message.h" of another room brings boost/json.hpp in')

    def test_a_slow_header_behind_another(self):
        self.assert_found({"src/wire/wire.h": '#include "wire/message.h"\n',
                           "src/top/top.h": '#include "wire/wire.h"\n'},
                          'top/top.h: "wire/wire.h" of another room')

    def test_a_header_of_nobody(self):
        self.assert_found({"src/base/attic.h": "#pragma once\n"}, "base/attic.h: nobody includes it")

    def test_a_room_built_before_its_ground(self):
        self.assert_found({"src/CMakeLists.txt": "set(rooms journal base wire top programs)\n"},
                          "lists journal before base")

    def test_a_table_of_rooms_that_lists_too_little_too_much_or_upside_down(self):
        table = ("| room | what |\n|---|---|\n| `programs` | |\n| `base` | |\n| `top` | |\n"
                 "| `journal`, `attic` | |\n")
        for words in ("lists attic, which is no room", "does not list wire",
                      "lists base no lower than journal"):
            self.assert_found({"ARCHITECTURE.md": table}, words)


class TextTest(unittest.TestCase):
    def assert_found(self, name, line, words):
        found = list(text.line_problems(name, 1, line))
        self.assertTrue(any(words in problem for problem in found), f"{words!r} in {found}")

    def test_lines(self):
        self.assert_found("src/a.cc", "// TO" "DO later", "left to do")
        self.assert_found("src/a.py", "x" * 141, "141 columns")
        self.assert_found("src/a.cc", "int a; ", "blanks at the end")
        self.assert_found("src/a_test.cc", "  std::this_thread::" "sleep_for(1s);", "sleeps")
        self.assert_found("src/a_test.cc", "  ::sleep" "(1);", "sleeps")
        self.assert_found("docs/a.md", "see /ho" "me/you/datom", "path of one machine")

    def test_a_line_in_order(self):
        for line in ("co_await timer.sleep_for(delay);", "co_await runtime::sleep(loop, 1s);",
                     "// the method's todo list is /var/lib/datom"):
            self.assertEqual([], list(text.line_problems("src/a_test.cc", 1, line)))

    def test_files(self):
        self.assertEqual(2, len(list(text.file_problems("a.h", "int a;", None))))
        self.assertEqual(1, len(list(text.file_problems("a.py", "def f(:\n", None))))


class HeadersTest(unittest.TestCase):
    def test_a_header_that_does_not_compile_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.h")
            path.write_text("#pragma once\nstd::string a();\n")
            self.assertIn("does not compile alone", headers.compile_alone(["clang++-19"], path))
            path.write_text("#pragma once\n#include <string>\nstd::string a();\n")
            self.assertEqual("", headers.compile_alone(["clang++-19"], path))

    def test_only_the_first_include_of_its_own_source_stands_for_a_compilation(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "a.cc")
            for content, first in (('#include "r/a.h"\n#include <string>\n', True),
                                   ('#include <string>\n#include "r/a.h"\n', False)):
                path.write_text(content)
                files = {"r/a.cc": headers.house.SourceFile(path)}
                self.assertEqual(first, headers.compiled_by_builds("r/a.h", files))


if __name__ == "__main__":
    unittest.main()
