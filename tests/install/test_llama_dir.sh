#!/bin/sh
# test_llama_dir.sh BUILD SOURCE DEPS LLAMA TINY - builds hyprstream against an installed llama.cpp
# (-DLLAMA_DIR), as a distribution would: a tree of the headers and libraries of the pinned one,
# with llama-common's headers and without. TINY writes models with known answers.
set -eu

build=$1 source=$2 deps=$3 llama=$4 tiny=$5
tmp=$build/tests/tmp/llama-dir.$$
trap 'rm -rf "$tmp"' EXIT
prefix=$tmp/prefix
mkdir -p "$prefix/include" "$prefix/lib" "$tmp/home"
export HYPRSTREAM_HOME="$tmp/home" HYPRSTREAM_THREADS=1

fail() {
    echo "test_llama_dir: $*" >&2
    exit 1
}

configure() { # FOLDER OPTION...
    folder=$1
    shift
    cmake -S "$source" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DHS_TESTS=OFF \
        -DLLAMA_DIR="$prefix" "$@" >"$tmp/log" 2>&1
}

says() { # TEXT, which cmake may have broken into lines
    tr '\n' ' ' <"$tmp/log" | tr -s ' ' | grep -qF -- "$1"
}

# Nothing is there yet: the message says what is needed.
configure "$tmp/empty" && fail 'an empty LLAMA_DIR was accepted'
says 'include/llama.h and shared libraries' || fail "$(cat "$tmp/log")"

ln -s "$deps"/src/llama.cpp/include/*.h "$deps"/src/llama.cpp/ggml/include/*.h "$prefix/include/"
ln -s "$llama"/bin/lib*.so* "$prefix/lib/"

# A source of another version is no source: without llama-common's headers there is a warning.
configure "$tmp/bare" -DHS_DEPS_DIR="$tmp/none" -DHS_FLIGHT=OFF || fail "$(cat "$tmp/log")"
says 'has no usable llama-common' || fail 'no word of the missing headers'

configure "$tmp/build" -DHS_DEPS_DIR="$deps" -DHS_FLIGHT=OFF || fail "$(cat "$tmp/log")"
says "llama.cpp of $prefix, with llama-common" || fail 'llama-common is not used'
cmake --build "$tmp/build" --target hyprstream -j 2 >"$tmp/log" 2>&1 ||
    fail "$(tail -n 40 "$tmp/log")"
program=$tmp/build/bin/hyprstream
"$program" version | grep -q 'device CPU' || fail 'no CPU backend is found beside the library'
"$tiny" say "$tmp/say.gguf" 'Hello world, my friend'
answer=$("$program" chat -m "$tmp/say.gguf" Hi)
[ "$answer" = 'Hello world, my friend' ] || fail "the answer was '$answer'"
