#!/usr/bin/env python3
"""tidy.py RULE ROOT [BUILD]: checks one rule of the house style over the source tree ROOT.

Every finding is a line "file:line: what is wrong"; the exit status is 1 when there is one, 77 when
the rule cannot be checked here (then the last line says why). BUILD is a configured build folder,
which the rules `targets` and `headers` read. RULES at the end lists the rules; test_tidy.py feeds
each of them a bad tree.
"""
import ast
import json
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 1000

# Which layer's public headers a layer may include; its own and include/ are always allowed.
LAYER_EDGES = {
    "base": set(),
    "storage": {"base"},
    "models": {"base"},
    "runtime": {"base"},
    "adapters": {"base", "models", "storage"},
    "inference": {"runtime", "adapters", "models", "storage", "base"},
    "api": {"inference", "adapters", "models", "storage", "base"},
    "cli": {"api", "base"},
}
# Headers of other projects that belong to certain layers only.
FOREIGN_HEADERS = [
    (re.compile(r"^(llama|ggml|gguf|llama-[\w-]+|ggml-[\w-]+)\.h$"), {"runtime"}),
    (re.compile(r"^sqlite3\.h$"), {"storage"}),
    (re.compile(r"^(histedit|editline/readline)\.h$"), {"cli"}),
    (re.compile(r"^curl/"), {"api", "storage"}),
    (re.compile(r"^duckdb\.h$"), {"api"}),
]
# Calls that a library layer, or nobody, may make.
PROCESS_CALLS = re.compile(r"(?<![\w.>])(exit|_exit|_Exit|quick_exit|abort|system|popen)\s*\(")
UNSAFE_CALLS = re.compile(
    r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|tmpnam|mktemp)\s*\("
)
UNFINISHED = re.compile("|".join(r"\b%s\b" % ("TO" + "DO", "FIX" + "ME", "XX" + "X")[i]
                                 for i in range(3)))

# Sources of one family of processors, by the end of their names; builds for others leave them out.
PROCESSOR_FILES = {"_avx2": {"x86_64", "amd64"}, "_avx512": {"x86_64", "amd64"},
                   "_neon": {"aarch64", "arm64"}}

MIRROR_FILE = Path("tests/tidy/mirror.txt")
SOURCE_FOLDERS = ("src", "include", "tests", "examples", "bench", "cmake", "scripts", ".ci")
ROOT_FILES = ("CMakeLists.txt", "Makefile", "pins.env", "CMakePresets.json")
C_SUFFIXES = {".c", ".h", ".cpp"}
CODE_SUFFIXES = C_SUFFIXES | {".def", ".py", ".sh", ".cmake", ".js", ".ts", ".go", ".map"}


class CannotCheck(Exception):
    """A tool or a folder that the rule needs is not here."""


def source_files(root):
    """All files that people write, relative to root; data, and what is generated, left out."""
    found = [Path(name) for name in ROOT_FILES if (root / name).is_file()]
    for folder in SOURCE_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root)
            if path.is_file() and "__pycache__" not in relative.parts \
                    and not {"data", "corpus", "fixtures"} & set(relative.parts):
                found.append(relative)
    return found


def is_code(path):
    return path.suffix in CODE_SUFFIXES or path.name in ROOT_FILES + ("CMakeLists.txt",) \
        or (path.suffix == "" and path.parts[0] in ("scripts", ".ci", "bench"))


def read(root, path):
    return (root / path).read_bytes().decode("utf-8", errors="replace")


def without_comments(text, keep_strings=False):
    """C source with comments and string contents blanked; line numbers stay."""
    def blank(match):
        token = match.group(0)
        if token[0] in "\"'":
            return token if keep_strings else token[0] * 2
        return "\n" * token.count("\n") or " "
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


# ---- rules ----


def layer_of(path):
    return path.parts[1] if path.parts[0] == "src" and len(path.parts) > 2 else None


def judge_include(root, path, layer, name):
    """What is wrong with one include of a file in src/<layer>, or None."""
    for pattern, layers in FOREIGN_HEADERS:
        if pattern.match(Path(name).name if name.startswith("../") else name):
            return None if layer in layers else f"{name} belongs to {', '.join(sorted(layers))}"
    if name.startswith(".."):
        return f"{name} reaches out of the layer by path"
    top = name.split("/")[0]
    if top in LAYER_EDGES and "/" in name and top != layer and top not in LAYER_EDGES[layer]:
        return f"{layer} may not use {top} ({name})"
    return None


def check_layers(root, build):
    del build
    for path in source_files(root):
        if path.suffix not in C_SUFFIXES | {".def"}:
            continue
        layer = layer_of(path)
        text = without_comments(read(root, path), keep_strings=True)
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            name = match.group(1)
            if layer in LAYER_EDGES:
                fault = judge_include(root, path, layer, name)
            elif path.parts[0] in ("include", "examples") and "/" in name \
                    and name.split("/")[0] in LAYER_EDGES:
                fault = f"{path.parts[0]} may use hyprstream.h only, not {name}"
            else:
                fault = None
            if fault:
                yield f"{path}:{number}: {fault}"
        if layer is not None and layer not in LAYER_EDGES:
            yield f"{path}:1: src/{layer} is no layer"
        if path.suffix == ".cpp" and layer not in (None, "runtime"):
            yield f"{path}:1: C++ outside the runtime's shim"


def c_functions(text):
    """(first line, lines) of each function: from its signature to the brace that ends it.

    In the house format only function bodies (and namespaces) open with a brace alone in column 0.
    """
    lines = without_comments(text).splitlines()
    start = None
    for index, line in enumerate(lines):
        if line == "{" and start is None:
            signature = index - 1
            while signature > 0 and re.match(r"[^\s#}]|\s+\S", lines[signature - 1]) \
                    and not re.search(r"[;}]\s*$", lines[signature - 1]):
                signature -= 1
            if not re.match(r"namespace|extern\s", lines[signature]):
                start = signature
            elif "(" in "".join(lines[signature:index]):
                start = signature
        elif line.startswith("}") and start is not None:
            yield start + 1, index - start + 1
            start = None


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno - node.lineno + 1


def shell_functions(text):
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\w+\(\) \{", line):
            start = number
        elif line == "}" and start is not None:
            yield start, number - start + 1
            start = None


def functions_of(root, path):
    text = read(root, path)
    if path.suffix in (".c", ".h", ".cpp"):
        return c_functions(text)
    if path.suffix == ".py" or text.startswith("#!/usr/bin/env python3"):
        return python_functions(text)
    if re.match(r"#!/bin/(ba)?sh|#!/usr/bin/env bash", text):
        return shell_functions(text)
    return ()


def check_functions(root, build):
    del build
    for path in source_files(root):
        if not is_code(path):
            continue
        for number, lines in functions_of(root, path):
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{number}: a function of {lines} lines, {FUNCTION_LINES_MAX} at most"


def check_columns(root, build):
    del build
    for path in source_files(root):
        if not is_code(path):
            continue
        lines = read(root, path).removesuffix("\n").split("\n")
        for number, line in enumerate(lines, 1):
            width = len(line.expandtabs(8))
            if width > COLUMNS_MAX and path.name != "pins.env":
                yield f"{path}:{number}: {width} columns, {COLUMNS_MAX} at most"
            if line != line.rstrip():
                yield f"{path}:{number}: blanks or a carriage return at the end of the line"
        if len(lines) > FILE_LINES_MAX:
            yield f"{path}:1: a file of {len(lines)} lines, {FILE_LINES_MAX} at most"
        if re.match(r"(utils?|helpers?|misc|common)\.", path.name):
            yield f"{path}:1: a file is named after what it holds, not {path.stem}"


def compile_commands(build):
    """{source file: arguments} of a configured build folder."""
    database = Path(build or "") / "compile_commands.json"
    if build is None or not database.is_file():
        raise CannotCheck("no build folder with compile_commands.json was given")
    return {Path(row["file"]).resolve(): shlex.split(row["command"])
            for row in json.loads(database.read_text())}


def is_of_other_processor(path):
    return any(path.stem.endswith(end) and platform.machine().lower() not in machines
               for end, machines in PROCESSOR_FILES.items())


def check_targets(root, build):
    """Source files that no target builds, headers and tables that nothing includes."""
    built = compile_commands(build)
    included = set()
    for path in source_files(root):
        if path.suffix in C_SUFFIXES | {".def"}:
            included |= {Path(name).name for name in re.findall(
                r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', read(root, path), flags=re.MULTILINE)}
    for path in source_files(root):
        if path.suffix in (".c", ".cpp") and (root / path).resolve() not in built \
                and not is_of_other_processor(path):
            yield f"{path}:1: no target builds this file"
        if path.suffix in (".h", ".def") and path.name not in included:
            yield f"{path}:1: nothing includes this file"


def header_arguments(root, path, built):
    """How to compile a header alone: as the sources beside it, or of its layer, are compiled."""
    layer = layer_of(path)
    beside = [root / path.parent, root / "src" / layer if layer else None, root / "src"]
    for folder in (folder for folder in beside if folder):
        keep = {}
        for source, arguments in sorted(built.items()):
            if folder.resolve() in source.parents and source.suffix == ".c":
                keep.update({(word,): None for word in arguments if re.match("-[ID]", word)})
                keep.update({pair: None for pair in zip(arguments, arguments[1:])
                             if pair[0] == "-isystem"})
        if keep:
            return ["cc", "-std=gnu17", *(word for words in keep for word in words)]
    return ["cc", "-std=gnu17", f"-I{root / 'include'}"]


def check_headers(root, build):
    """Headers that do not compile alone."""
    built = compile_commands(build)
    for path in source_files(root):
        if path.suffix != ".h":
            continue
        command = header_arguments(root, path, built)
        result = subprocess.run(
            [*command, "-fsyntax-only", "-x", "c", "-include", str(root / path), "/dev/null"],
            capture_output=True, text=True, check=False)
        if result.returncode != 0:
            first = next((line for line in result.stderr.splitlines() if "error" in line), "")
            yield f"{path}:1: does not compile alone: {first}"


def check_calls(root, build):
    del build
    for path in source_files(root):
        if path.suffix not in C_SUFFIXES or path.parts[0] not in ("src", "examples"):
            continue
        text = without_comments(read(root, path))
        for number, line in enumerate(text.splitlines(), 1):
            match = UNSAFE_CALLS.search(line)
            if match:
                yield f"{path}:{number}: {match.group(1)} has no bound or reports no error"
            match = PROCESS_CALLS.search(line)
            if match and layer_of(path) not in (None, "cli"):
                yield f"{path}:{number}: a library does not call {match.group(1)}"


def check_words(root, build):
    del build
    for path in source_files(root):
        for number, line in enumerate(read(root, path).splitlines(), 1):
            match = UNFINISHED.search(line)
            if match:
                yield f"{path}:{number}: {match.group(0)}: finish it, or write an issue"


def mirror_exceptions(root):
    """{source: (line number, test)} of mirror.txt."""
    path = root / MIRROR_FILE
    lines = path.read_text().splitlines() if path.is_file() else []
    return {Path(words[0]): (number, Path(words[1]), len(words) > 2)
            for number, line in enumerate(lines, 1)
            if (words := line.split()) and not line.startswith("#") and len(words) > 1}


def check_mirror(root, build):
    """Every src/**/folder/x.c has a tests/folder/test_x.c, or a line in mirror.txt that names
    another test."""
    del build
    files = set(source_files(root))
    exceptions = mirror_exceptions(root)
    sources = {path for path in files if path.parts[0] == "src" and path.suffix in (".c", ".cpp")}
    for path in sorted(sources):
        wanted = Path("tests", path.parent.name, f"test_{path.stem}.c")
        if wanted not in files and path not in exceptions:
            yield f"{path}:1: no {wanted}, nor a line in {MIRROR_FILE}"
        if wanted in files and path in exceptions:
            yield f"{MIRROR_FILE}:{exceptions[path][0]}: {path} has a test of its own now"
    for path, (number, test, has_reason) in exceptions.items():
        if path not in sources:
            yield f"{MIRROR_FILE}:{number}: there is no {path}"
        if test not in files:
            yield f"{MIRROR_FILE}:{number}: there is no {test}"
        if not has_reason:
            yield f"{MIRROR_FILE}:{number}: {path} has no reason"


def check_format(root, build):
    del build
    program = shutil.which("clang-format-14")
    if program is None:
        raise CannotCheck("clang-format-14 is not installed")
    for path in source_files(root):
        if path.suffix not in C_SUFFIXES:
            continue
        wanted = subprocess.run([program, str(root / path)], capture_output=True, text=True,
                                check=True).stdout.splitlines()
        actual = read(root, path).splitlines()
        if wanted != actual:
            number = next((i for i, pair in enumerate(zip(wanted, actual), 1)
                           if pair[0] != pair[1]), min(len(wanted), len(actual)) + 1)
            yield f"{path}:{number}: not as clang-format-14 writes it"


def check_scripts(root, build):
    del build
    program = shutil.which("shellcheck")
    if program is None:
        raise CannotCheck("shellcheck is not installed")
    for path in source_files(root):
        if not re.match(r"#!(/bin/(ba)?sh|/usr/bin/env bash)", read(root, path)):
            continue
        result = subprocess.run([program, "-x", "-f", "gcc", str(path)], cwd=root,
                                capture_output=True, text=True, check=False)
        yield from result.stdout.splitlines()


RULES = {
    "layers": check_layers,
    "functions": check_functions,
    "columns": check_columns,
    "targets": check_targets,
    "headers": check_headers,
    "calls": check_calls,
    "words": check_words,
    "mirror": check_mirror,
    "format": check_format,
    "scripts": check_scripts,
}


def main(rule, root, build=None):
    try:
        findings = list(RULES[rule](Path(root).resolve(), build))
    except CannotCheck as reason:
        print(f"SKIPPED: {reason}")
        return 77
    print("\n".join(findings) if findings else f"{rule}: nothing to complain about")
    return 1 if findings else 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in RULES:
        sys.exit(f"usage: tidy.py {'|'.join(RULES)} ROOT [BUILD]")
    sys.exit(main(*sys.argv[1:]))
