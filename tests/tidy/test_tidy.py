#!/usr/bin/env python3
"""Every rule of tidy.py fires on a tree that breaks it, and only there."""
import contextlib
import io
import json
import shutil
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import tidy


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="tidy-"))
        self.addCleanup(shutil.rmtree, self.root)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def findings(self, rule, build=None):
        return list(tidy.RULES[rule](self.root, build))

    def assert_finds(self, rule, where, what, build=None):
        found = self.findings(rule, build)
        self.assertEqual(len(found), 1, found)
        self.assertIn(where, found[0])
        self.assertIn(what, found[0])

    def build_of(self, *sources):
        """A build folder whose compile_commands.json has just these sources."""
        rows = [{"directory": str(self.root), "file": str(self.root / name),
                 "command": f"cc -I{self.root}/include -I{self.root}/src/base -c {name}"}
                for name in sources]
        self.write("build/compile_commands.json", json.dumps(rows))
        return self.root / "build"


class LayerTest(TidyTest):
    def test_every_edge_of_the_table_and_no_other(self):
        for layer, allowed in tidy.LAYER_EDGES.items():
            for other in tidy.LAYER_EDGES:
                file = self.write(f"src/{layer}/a.c", f'\n#include "{other}/{other}.h"\n')
                found = self.findings("layers")
                if other == layer or other in allowed:
                    self.assertEqual(found, [])
                else:
                    self.assertEqual(found, [
                        f"src/{layer}/a.c:2: {layer} may not use {other} ({other}/{other}.h)"])
                file.unlink()

    def test_lower_layers_never_use_higher_ones(self):
        order = ["base", "storage", "inference", "api", "cli"]
        for index, layer in enumerate(order):
            self.assertFalse(tidy.LAYER_EDGES[layer] & set(order[index:]))
        self.assertIn("storage", tidy.LAYER_EDGES["api"])

    def test_llama_only_in_runtime(self):
        for header in ("llama.h", "ggml.h", "ggml-backend.h", "gguf.h", "llama-cpp.h"):
            self.write("src/runtime/a.c", f"#include <{header}>\n")
            self.write("src/inference/a.c", f'#include "{header}"\n')
            self.assert_finds("layers", "src/inference/a.c:1", "belongs to runtime")

    def test_foreign_headers(self):
        self.write("src/storage/a.c", "#include <sqlite3.h>\n")
        self.write("src/api/a.c", "#  include <sqlite3.h>\n")
        self.assert_finds("layers", "src/api/a.c:1", "belongs to storage")

    def test_paths_out_of_the_layer(self):
        self.write("src/api/a.c", '#include "../storage/registry_internal.h"\n')
        self.assert_finds("layers", "src/api/a.c:1", "out of the layer")

    def test_tables_obey_too(self):
        self.write("src/base/config.def", '#include "api/command.h"\n')
        self.assert_finds("layers", "config.def:1", "base may not use api")

    def test_comments_include_nothing(self):
        self.write("src/base/a.c", '/*\n#include "api/command.h"\n*/\n// #include "cli/x.h"\n')
        self.assertEqual(self.findings("layers"), [])

    def test_the_public_header_and_examples_stand_alone(self):
        self.write("examples/chat.c", '#include <hyprstream.h>\n#include "base/mem.h"\n')
        self.assert_finds("layers", "examples/chat.c:2", "hyprstream.h only")

    def test_unknown_layers_and_stray_cxx(self):
        self.write("src/misc/a.c", "")
        self.assert_finds("layers", "src/misc/a.c", "no layer")
        shutil.rmtree(self.root / "src")
        self.write("src/api/a.cpp", "")
        self.assert_finds("layers", "src/api/a.cpp", "C++")


class FunctionTest(TidyTest):
    @staticmethod
    def function(lines, signature="static int f(int a,\n             int b)"):
        body = lines - signature.count("\n") - 3
        return signature + "\n{\n" + "    a++;\n" * body + "}\n"

    def test_limit_and_one_more(self):
        head = "#include <x.h>\n\nstruct s {\n    int a;\n};\n\nstatic int g;\n"
        self.write("src/base/a.c", head + self.function(70) + "\n" + self.function(70))
        self.assertEqual(self.findings("functions"), [])
        self.write("src/base/a.c", head + self.function(70) + "\n" + self.function(71))
        self.assert_finds("functions", "src/base/a.c:79", "71 lines")

    def test_braces_in_strings_and_comments(self):
        self.write("src/base/a.c", "void f(void)\n{\n    g(\"\\\n}\");\n    /*\n}\n*/\n"
                   + "    h();\n" * 70 + "}\n")
        self.assertEqual(len(self.findings("functions")), 1)

    def test_cxx_namespaces_are_no_functions(self):
        self.write("src/runtime/a.cpp", "namespace\n{\n\n" + self.function(60) + "\n"
                   + self.function(60) + "\n} // namespace\n")
        self.assertEqual(self.findings("functions"), [])
        self.write("src/runtime/a.cpp", "namespace\n{\n\n" + self.function(71) + "\n}\n")
        self.assert_finds("functions", "src/runtime/a.cpp:4", "71 lines")

    def test_python_and_shell(self):
        self.write("tests/a.py", "def f():\n" + "    g()\n" * 70)
        self.assert_finds("functions", "tests/a.py:1", "71 lines")
        (self.root / "tests/a.py").unlink()
        self.write("scripts/a", "#!/bin/sh\nf() {\n" + "    g\n" * 69 + "}\n")
        self.assert_finds("functions", "scripts/a:2", "71 lines")


class ColumnTest(TidyTest):
    def test_limit_and_one_more(self):
        self.write("src/base/a.c", "x" * 100 + "\n")
        self.write("cmake/A.cmake", "x" * 100 + "\n")
        self.assertEqual(self.findings("columns"), [])
        self.write("src/base/a.c", "\n" + "x" * 101 + "\n")
        self.assert_finds("columns", "src/base/a.c:2", "101 columns")

    def test_characters_count_and_not_bytes(self):
        self.write("src/base/a.c", "ä" * 100 + "\n")
        self.assertEqual(self.findings("columns"), [])

    def test_tabs_blanks_and_carriage_returns(self):
        self.write("Makefile", "\t" + "x" * 93 + "\n")
        self.assert_finds("columns", "Makefile:1", "101 columns")
        self.write("Makefile", "x \ny\r\n")
        self.assertEqual(len(self.findings("columns")), 2)

    def test_long_files_and_nameless_ones(self):
        self.write("src/base/a.c", "x\n" * 1000)
        self.assertEqual(self.findings("columns"), [])
        self.write("src/base/a.c", "x\n" * 1001)
        self.assert_finds("columns", "src/base/a.c:1", "1001 lines")
        (self.root / "src/base/a.c").unlink()
        self.write("src/base/utils.c", "")
        self.assert_finds("columns", "src/base/utils.c:1", "named after")


class TargetTest(TidyTest):
    def test_sources_that_nothing_builds(self):
        self.write("src/base/a.c", '#include "a.h"\n')
        self.write("src/base/a.h", "")
        self.write("tests/base/test_a.c", "")
        build = self.build_of("src/base/a.c", "tests/base/test_a.c")
        self.assertEqual(self.findings("targets", build), [])
        self.write("tests/base/test_b.c", "")
        self.assert_finds("targets", "tests/base/test_b.c", "no target", build)

    def test_sources_of_other_processors(self):
        self.write("src/base/a_neon.c", "")
        self.write("src/base/a_avx2.c", "")
        build = self.build_of("src/base/b.c")
        for machine, missing in (("x86_64", "a_avx2.c"), ("aarch64", "a_neon.c")):
            with unittest.mock.patch("platform.machine", return_value=machine):
                self.assert_finds("targets", missing, "no target", build)

    def test_headers_that_nothing_includes(self):
        self.write("src/base/a.c", "")
        self.write("src/base/a.h", "")
        build = self.build_of("src/base/a.c")
        self.assert_finds("targets", "src/base/a.h", "nothing includes", build)

    def test_no_build_folder_is_said(self):
        with self.assertRaises(tidy.CannotCheck):
            self.findings("targets")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertEqual(tidy.main("targets", self.root, self.root), 77)
        self.assertIn("no build folder", said.getvalue())


class HeaderTest(TidyTest):
    def test_a_header_that_needs_another(self):
        self.write("src/base/a.c", "")
        self.write("src/base/a.h", "#include <stddef.h>\nsize_t a(void);\n")
        build = self.build_of("src/base/a.c")
        self.assertEqual(self.findings("headers", build), [])
        self.write("src/base/b.h", "size_t b(void);\n")
        self.assert_finds("headers", "src/base/b.h", "does not compile alone", build)


class CallTest(TidyTest):
    def test_libraries_do_not_end_the_process(self):
        for call in ("exit(1)", "abort()", 'system("ls")', "_exit(0)"):
            self.write("src/base/a.c", f"    {call};\n")
            self.assert_finds("calls", "src/base/a.c:1", "does not call")
        self.write("src/base/a.c", '    // exit(1)\n    f("abort()");\n    a.exit(b);\n'
                   "    hs_exit(1);\n")
        self.write("src/cli/main.c", "    exit(1);\n")
        self.assertEqual(self.findings("calls"), [])

    def test_unbounded_calls_anywhere(self):
        self.write("src/cli/main.c", "    strcpy(a, b);\n    hs_strcpy(a, b);\n")
        self.assert_finds("calls", "src/cli/main.c:1", "strcpy")


class WordTest(TidyTest):
    def test_unfinished_work(self):
        for word in ("TO" "DO", "FIX" "ME", "XX" "X"):
            self.write("scripts/a", f"# {word}: later\n")
            self.assert_finds("words", "scripts/a:1", word)
        self.write("scripts/a", "mktemp /tmp/a.XX" "XXXX\n")
        self.assertEqual(self.findings("words"), [])


class MirrorTest(TidyTest):
    def test_every_source_has_a_test(self):
        self.write("src/base/a.c", "")
        self.assert_finds("mirror", "src/base/a.c:1", "test_a.c")
        self.write("tests/base/test_a.c", "")
        self.assertEqual(self.findings("mirror"), [])
        self.write("src/api/http/a.c", "")
        self.assert_finds("mirror", "src/api/http/a.c:1", "tests/http/test_a.c")
        self.write("tests/http/test_a.c", "")
        self.write("src/runtime/b.cpp", "")
        self.assert_finds("mirror", "src/runtime/b.cpp:1", "tests/runtime/test_b.c")

    def test_exceptions_name_a_test_and_a_reason(self):
        self.write("src/base/a.c", "")
        self.write("tests/base/test_b.c", "")
        self.write("tests/tidy/mirror.txt", "# why\n\nsrc/base/a.c tests/base/test_b.c one walk\n")
        self.assertEqual(self.findings("mirror"), [])
        self.write("tests/tidy/mirror.txt", "src/base/a.c tests/base/test_b.c\n")
        self.assert_finds("mirror", "mirror.txt:1", "no reason")
        self.write("tests/tidy/mirror.txt", "src/base/a.c tests/base/test_c.c one walk\n")
        self.assert_finds("mirror", "mirror.txt:1", "there is no tests/base/test_c.c")

    def test_exceptions_that_are_not_needed(self):
        self.write("src/base/a.c", "")
        self.write("tests/base/test_a.c", "")
        self.write("tests/tidy/mirror.txt", "src/base/a.c tests/base/test_a.c one walk\n")
        self.assert_finds("mirror", "mirror.txt:1", "has a test of its own")
        self.write("tests/tidy/mirror.txt", "src/base/b.c tests/base/test_a.c one walk\n")
        self.assert_finds("mirror", "mirror.txt:1", "there is no src/base/b.c")


class FormatTest(TidyTest):
    @unittest.skipUnless(shutil.which("clang-format-14"), "clang-format-14 is not installed")
    def test_format(self):
        self.write(".clang-format", "BasedOnStyle: LLVM\n")
        self.write("src/base/a.c", "int a;\n")
        self.assertEqual(self.findings("format"), [])
        self.write("src/base/a.c", "int a;\nint  b;\n")
        self.assert_finds("format", "src/base/a.c:2", "clang-format")

    @unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
    def test_scripts(self):
        self.write("scripts/a", "#!/bin/sh\nrm $1\n")
        self.assert_finds("scripts", "scripts/a:2", "SC2086")


if __name__ == "__main__":
    unittest.main()
