#!/bin/sh
# test_install.sh BUILD SOURCE CC MODEL - installs BUILD into a folder, looks at what is there,
# moves the folder, and uses it: the program, the manual, the completions, and a program of its own
# that knows the library only through pkg-config.
set -eu

build=$1 source=$2 cc=$3 model=$4
tmp=$build/tests/tmp/install.$$
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$tmp"

fail() {
    echo "test_install: $*" >&2
    exit 1
}

must_exist() { # PATH...
    for path in "$@"; do
        [ -e "$prefix/$path" ] || fail "$path is not installed"
    done
}

expect() { # TEXT COMMAND...
    text=$1
    shift
    "$@" >"$tmp/out" 2>&1 || fail "$* ended with status $?: $(cat "$tmp/out")"
    grep -qF -- "$text" "$tmp/out" || fail "$*: no '$text' in: $(cat "$tmp/out")"
}

cmake --install "$build" --prefix "$tmp/first" >"$tmp/log" || fail "$(cat "$tmp/log")"
# The service belongs to the place it was installed to.
unit=$tmp/first/lib/systemd/system/hyprstream.service
grep -qx "ExecStart=$tmp/first/bin/hyprstream serve" "$unit" || fail "$unit starts something else"
if command -v systemd-analyze >/dev/null 2>&1; then
    systemd-analyze verify --man=no "$unit" >"$tmp/out" 2>&1 || fail "verify: $(cat "$tmp/out")"
    grep -F hyprstream.service "$tmp/out" && fail 'systemd-analyze verify has complaints'
fi
mv "$tmp/first" "$tmp/second"
prefix=$tmp/second
libdir=$(dirname "$(cd "$prefix" && find lib* -name libhyprstream.so)")
must_exist bin/hyprstream include/hyprstream.h include/hyprstream/model_pool.h \
    include/hyprstream/status.def \
    "$libdir/pkgconfig/hyprstream.pc" share/man/man1/hyprstream.1 \
    share/bash-completion/completions/hyprstream share/zsh/site-functions/_hyprstream \
    share/fish/vendor_completions.d/hyprstream.fish share/doc/hyprstream/README.md \
    share/doc/hyprstream/LICENSE share/doc/hyprstream/THIRD_PARTY.md \
    lib/systemd/system/hyprstream.service lib/sysusers.d/hyprstream.conf

# What the documents lead to is there.
for doc in README.md docs/server.md docs/cli.md; do
    folder=$prefix/share/doc/hyprstream/$(dirname "$doc")
    sed -n 's/](\([^):#]*\))/\n@\1\n/gp' "$prefix/share/doc/hyprstream/$doc" | sed -n 's/^@//p' |
        while read -r link; do
            [ -e "$folder/$link" ] || fail "$doc leads to $link, which is not installed"
        done
done

# Nothing in the moved tree may look for its libraries in the build or the first place.
for file in "$prefix/bin/hyprstream" "$prefix/$libdir"/*.so "$prefix/$libdir"/hyprstream/*.so; do
    path=$(LC_ALL=C readelf -d "$file" | sed -n 's/.*runpath: \[\(.*\)\]/\1/p')
    case $path in
    *"$build"* | *"$tmp"* | *"$source"*) fail "$file looks for libraries in $path" ;;
    esac
done

# Only the embedding API is visible, all of it.
library=$prefix/$libdir/libhyprstream.so
LC_ALL=C nm -D --defined-only --without-symbol-versions "$library" | sed -n 's/.* T //p' |
    sort >"$tmp/exported"
printf '#include <%s>\n' hyprstream.h hyprstream/model_pool.h | "$cc" -E -P -I "$prefix/include" - |
    tr '\n' ' ' | tr ';' '\n' |
    sed -n 's/.*visibility("default").*[ *]\(hs_[a-z0-9_]*\)(.*/\1/p' | sort -u >"$tmp/declared"
cmp -s "$tmp/exported" "$tmp/declared" ||
    fail "exported and declared names differ: $(diff "$tmp/exported" "$tmp/declared")"
LC_ALL=C nm -D --defined-only "$library" | grep -v ' T \| A ' &&
    fail 'more than functions is exported'

HYPRSTREAM_HOME=$tmp/home
export HYPRSTREAM_HOME
version=$(sed -n 's/^HS_VERSION=//p' "$source/pins.env")
expect "$version" "$prefix/bin/hyprstream" version
expect '.TH' cat "$prefix/share/man/man1/hyprstream.1"
for shell in bash zsh fish; do
    if command -v "$shell" >/dev/null 2>&1; then
        find "$prefix/share" -path "*$shell*" -name '*hyprstream*' -exec "$shell" -n {} + ||
            fail "$shell rejects its completion"
    fi
done

# The API alone: through pkg-config, run from where the tree lies now.
PKG_CONFIG_PATH=$prefix/$libdir/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # words on purpose
"$cc" -Wall -Wextra -Werror "$source/examples/chat.c" $(pkg-config --cflags --libs hyprstream) \
    -Wl,-rpath,"$prefix/$libdir" -o "$tmp/chat" || fail 'the example does not build'
expect "$version" pkg-config --modversion hyprstream
if [ ! -f "$model" ]; then
    echo "SKIPPED: no demo model; run 'make deps'"
    exit 77
fi
expect 'tokens' "$tmp/chat" "$model" 'Say hello.'
expect '' "$prefix/bin/hyprstream" chat --model "$model" --max-tokens 4 --temp 0 'Say hello.'
