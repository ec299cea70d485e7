"""The other commands, help, man page and settings of the real binary."""
import hashlib
import json
import os
import shutil
import subprocess
import time

import pytest

from conftest import BINARY, PINS, need


# ---- help and version ----

def test_help_everywhere(hs):
    overview = hs.ok("help").out
    assert hs.ok("--help").out == hs.ok().out == overview
    assert hs.ok("help", "chat").out == hs.ok("chat", "--help").out == hs.ok("-h", "chat").out
    assert hs.ok("help", "model", "rm").out == hs.ok("model", "rm", "-h").out
    assert "model verify" in hs.ok("model", "--help").out
    assert hs.run("help", "nothing").code == 2


def test_version(hs):
    assert hs.ok("--version").out == f"hyprstream {PINS['HS_VERSION']}\n"
    text = hs.ok("version").out
    assert text.startswith(f"hyprstream {PINS['HS_VERSION']}\nllama.cpp ")
    assert "device CPU" in text
    info = hs.ok("version", "--json").json
    assert info["version"] == PINS["HS_VERSION"]
    assert info["devices"][0]["memory_total_bytes"] > 0


def test_help_is_quick(hs):
    """No backend is loaded: the dynamic linker tells which libraries it opens."""

    def opened(*args):
        result = hs.run(*args, env={"LD_DEBUG": "files"})
        assert result.code == 0
        return result.err

    assert "libggml-cpu" in opened("version")  # which tells the devices
    assert "libggml-cpu" not in opened("--help")


def test_help_needs_no_home(hs):
    env = {"HYPRSTREAM_HOME": "", "HOME": ""}
    for args in (("help",), ("--version",), ("version",), ("completion", "bash")):
        assert hs.run(*args, env=env).code == 0
    assert hs.run("model", "list", env=env).code == 2
    assert hs.run("config", "path", env=env).code == 2


def test_help_despite_a_broken_config(hs):
    hs.home.mkdir()
    (hs.home / "config.toml").write_text("nonsense\n")
    assert hs.run("help").code == 0
    assert hs.ok("config", "path").out == f"{hs.home}/config.toml\n"
    assert hs.run("config", "show").code == 2


def test_man_page(hs, tmp_path):
    page = tmp_path / "hyprstream.1"
    page.write_text(hs.ok("help", "--man").out)
    need("man")
    result = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
                            env={**hs.env, "MANROFFOPT": "", "MANPAGER": "cat"},
                            capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stderr == ""
    text = subprocess.run(["man", "-l", page], capture_output=True, text=True,
                          env={**hs.env, "MANPAGER": "cat", "MANWIDTH": "80"}).stdout
    for part in ("NAME", "EXIT STATUS", "hyprstream chat", "--ctx-size", "HYPRSTREAM_CTX_SIZE",
                 "130"):
        assert part in text


# ---- mistakes ----

@pytest.mark.parametrize("args, part", [
    (("caht",), "did you mean 'hyprstream chat'?"),
    (("model",), "one of: list, show, verify, add, rm"),
    (("model", "lst"), "did you mean 'hyprstream model list'?"),
    (("chat", "--tmep", "1", "Hi"), "did you mean '--temp'?"),
    (("chat", "--temp"), "needs a value"),
    (("chat", "-5"), "'--'"),
    (("model", "list", "--temp", "1"), "no option of 'model list'"),
    (("model", "show"), "usage: hyprstream model show MODEL"),
    (("version", "x"), "takes no arguments"),
    (("completion", "tcsh"), "bash, zsh and fish"),
])
def test_wrong_use(hs, args, part):
    result = hs.run(*args)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("hyprstream: ")
    assert part in result.err


def test_json_errors(hs):
    result = hs.run("model", "show", "none", "--json")
    error = json.loads(result.err)["error"]
    assert result.code == error["exit_code"] == 3
    result = hs.run("--json", "nothing")
    assert json.loads(result.err)["error"]["status"] == "HS_INVALID_ARGUMENT"


# ---- models ----

def test_model_commands(hs, say):
    digest = hashlib.sha256(say.read_bytes()).hexdigest()
    hs.ok("model", "add", say, "--name", "tiny")
    assert hs.ok("model", "list", "--names").out == "tiny\n"
    row = hs.ok("model", "list", "--json").json[0]
    assert row["path"] == str(say.resolve()) and row["size_bytes"] == say.stat().st_size
    shown = hs.ok("model", "show", "tiny", "--json").json
    assert shown["architecture"] == "llama" and "<|im_start|>" in shown["chat_template"]
    assert sum(kind["size_bytes"] for kind in shown["tensors"]) == shown["weights_bytes"]
    assert hs.ok("model", "verify", "tiny").out == f"{digest}  {say.resolve()} (recorded)\n"
    assert hs.ok("model", "verify", "tiny", "--json").json["result"] == "as recorded"
    assert hs.ok("model", "rm", "tiny").out == "removed tiny from the list; its file stays\n"
    assert say.exists()
    assert hs.run("model", "rm", "tiny").code == 3
    assert hs.run("model", "verify", "tiny").code == 3


def test_verify_finds_a_changed_byte(hs, say, tmp_path):
    path = tmp_path / "copy.gguf"
    data = bytearray(say.read_bytes())
    path.write_bytes(data)
    hs.ok("model", "add", path)
    hs.ok("model", "verify", "copy")
    data[-1] ^= 1
    path.write_bytes(data)
    result = hs.run("model", "verify", "copy")
    assert result.code == 16
    assert "SHA-256" in result.err


def test_rm_needs_force_without_a_terminal(hs, say):
    models = hs.home / "models"
    models.mkdir(parents=True)
    path = models / "mine.gguf"
    path.write_bytes(say.read_bytes())
    hs.ok("model", "list")
    assert hs.run("model", "rm", "mine").code == 2
    assert path.exists()
    hs.ok("model", "rm", "mine", "--force")
    assert not path.exists()


def test_demo_model_shown(hs, demo):
    shown = hs.ok("model", "show", demo, "--json").json
    assert shown["architecture"] == "llama"
    assert shown["n_params"] == 134515008  # the model card: 135M
    assert shown["n_ctx_train"] == 8192
    assert shown["license"] == "apache-2.0"
    text = hs.ok("model", "show", demo).out
    assert "134515008" in text or "135M" in text
    assert "of type Q4_1" in text


# ---- sessions ----

def test_session_commands(hs, say):
    assert hs.ok("session", "list", "--json").json == []
    for name in ("b", "a"):
        hs.ok("chat", "-m", say, "--session", name, "Hi")
    assert hs.ok("session", "list", "--names").out == "a\nb\n"
    assert [row["n_messages"] for row in hs.ok("session", "list", "--json").json] == [2, 2]
    assert hs.ok("session", "show", "a").out == "user:\nHi\n\nassistant:\nHello world, my friend\n"
    assert hs.run("session", "rm", "a").code == 2
    hs.ok("session", "rm", "a", "--force")
    assert hs.ok("session", "list", "--names").out == "b\n"
    assert hs.run("session", "show", "a").code == 3


# ---- tokens ----

def test_tokenize(hs, demo):
    result = hs.ok("tokenize", "-m", demo, "--json", "Hello world").json
    # GPT-2's vocabulary of SmolLM2, as its tokenizer.json has it
    assert result["tokens"] == [{"id": 19556, "piece": "Hello"}, {"id": 905, "piece": " world"}]
    special = hs.ok("tokenize", "-m", demo, "--json", "<|im_end|>").json
    assert special["tokens"] == [{"id": 2, "piece": "<|im_end|>"}]
    raw = hs.ok("tokenize", "-m", demo, "--json", "--raw", "<|im_end|>").json
    assert "".join(token["piece"] for token in raw["tokens"]) == "<|im_end|>"
    assert raw["n_tokens"] > 1
    assert hs.ok("tokenize", "-m", demo, input="Hello\n").out == '  19556  "Hello"\n'


# ---- settings ----

def test_config_show_has_the_origin(hs, tmp_path):
    hs.home.mkdir()
    (hs.home / "config.toml").write_text("# mine\ntop-k = 7\ntop-p = 0.5\n")
    env = {"HYPRSTREAM_TOP_P": "0.25", "HYPRSTREAM_SEED": "3"}
    shown = hs.ok("config", "show", "--json", "--seed", "4", env=env).json
    assert shown["top-k"] == {"value": 7, "source": "file",
                              "origin": shown["top-k"]["origin"]}
    assert "config.toml:2" in shown["top-k"]["origin"]
    assert shown["top-p"]["value"] == 0.25 and shown["top-p"]["source"] == "environment"
    assert shown["top-p"]["origin"] == "HYPRSTREAM_TOP_P"
    assert shown["seed"]["value"] == 4 and shown["seed"]["origin"] == "--seed"
    assert shown["temp"]["source"] == "default"
    assert "config.toml:2" in hs.ok("config", "show", env=env).out


def test_xdg_folders(hs, say, tmp_path):
    env = {"HYPRSTREAM_HOME": ""}
    for name in ("CONFIG", "DATA", "STATE", "CACHE"):
        env[f"XDG_{name}_HOME"] = str(tmp_path / name.lower())
    hs.ok("model", "add", say, "--name", "m", env=env)
    hs.ok("chat", "-m", "m", "--session", "s", "Hi", env=env)
    paths = hs.ok("config", "path", "--json", env=env).json
    assert paths["config_file"] == str(tmp_path / "config" / "hyprstream" / "config.toml")
    assert paths["history_file"] == str(tmp_path / "state" / "hyprstream" / "history")
    assert (tmp_path / "data" / "hyprstream" / "registry.db").exists()
    assert (tmp_path / "data" / "hyprstream" / "sessions" / "s").is_dir()
    assert not hs.home.exists()


# ---- completions ----

COMPLETIONS = [
    ("", {"chat", "model", "session", "help"}, {"list"}),
    ("mo", {"model"}, {"chat"}),
    ("model ", {"list", "show", "verify", "add", "rm"}, {"chat"}),
    ("model show ", {"alpha", "beta"}, {"list"}),
    ("model show a", {"alpha"}, {"beta"}),
    ("chat --temp 1 -m ", {"alpha", "beta"}, set()),
    ("chat --session ", {"work"}, set()),
    ("session show ", {"work"}, set()),
    ("chat --flash-attn ", {"auto", "on", "off"}, set()),
    ("chat --top", {"--top-k", "--top-p"}, {"--temp"}),
    ("completion ", {"bash", "zsh", "fish"}, set()),
    ("model list --", {"--json", "--names"}, {"--temp"}),
    ("adapter ", {"add", "list", "show", "history", "rename", "tag", "rm"}, {"chat"}),
    ("help ", {"chat", "model", "session"}, {"list"}),
    ("help model ", {"list", "show", "verify", "add", "rm"}, {"chat", "model"}),
    ("help model sh", {"show"}, {"list"}),
]


@pytest.fixture
def completed(hs, say, cycle):
    hs.ok("model", "add", say, "--name", "alpha")
    hs.ok("model", "add", cycle, "--name", "beta")
    hs.ok("chat", "-m", "alpha", "--session", "work", "Hi")
    env = {**hs.env, "PATH": f"{BINARY.parent}:{hs.env['PATH']}"}

    def script(shell):
        need(shell)
        path = hs.folder / f"completion.{shell}"
        path.write_text(hs.ok("completion", shell).out)
        return path, env
    return script


def check(words, offered):
    line, wanted, unwanted = words
    assert wanted <= offered, (line, offered)
    assert not unwanted & offered, (line, offered)


def test_bash_completion(completed):
    path, env = completed("bash")
    for words in COMPLETIONS:
        line = "hyprstream " + words[0]
        script = f"""
            source {path}
            read -ra COMP_WORDS <<< '{line}'
            [[ '{line}' == *' ' ]] && COMP_WORDS+=('')
            COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
            _hyprstream
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        result = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True,
                                text=True)
        assert result.stderr == ""
        check(words, set(result.stdout.split()))


def test_bash_knows_values_after_equals(completed):
    path, env = completed("bash")
    script = f"""
        source {path}
        COMP_WORDS=(hyprstream chat --color = a) COMP_CWORD=4
        _hyprstream
        echo "${{COMPREPLY[@]}}"
        complete -p hyprstream
    """
    result = subprocess.run(["bash", "--norc", "-c", script], env=env, capture_output=True,
                            text=True)
    assert result.stdout == "auto always\ncomplete -F _hyprstream hyprstream\n"


def test_fish_completion(completed):
    path, env = completed("fish")
    fish_home = path.parent / "fish"
    fish_home.mkdir()
    env = {**env, "XDG_CONFIG_HOME": str(fish_home), "XDG_DATA_HOME": str(fish_home),
           "HOME": str(fish_home)}
    for words in COMPLETIONS:
        script = f"source {path}; complete -C 'hyprstream {words[0]}'"
        result = subprocess.run(["fish", "--no-config", "-c", script], env=env,
                                capture_output=True, text=True)
        assert result.stderr == ""
        check(words, {line.split("\t")[0] for line in result.stdout.splitlines()})




def test_zsh_completion(hs, completed):
    import pexpect
    path, env = completed("zsh")
    folder = path.parent / "zfunc"
    folder.mkdir()
    shutil.copy(path, folder / "_hyprstream")  # as a file in fpath, the way users have it
    env = {**env, "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "dumb"}
    # a widget that prints what compadd was given, instead of a menu on the screen
    setup = f"""
        fpath=({folder} $fpath)
        autoload -Uz compinit && compinit -u -D
        compadd() {{
            local -a found
            builtin compadd -O found "$@"
            print -rl -- $found >> $offered
            builtin compadd "$@"
        }}
    """
    (folder / "setup").write_text(setup)
    child = pexpect.spawn("zsh", ["-f", "-i"], env=env, encoding="utf-8", timeout=60,
                          dimensions=(60, 200))
    hs.terminals.append(child)
    child.sendline(f"PS1='ready> '; unsetopt beep; LISTMAX=1000; source {folder}/setup")
    child.expect("ready> .*ready> ")
    for i, words in enumerate(COMPLETIONS):
        offered = folder / f"offered-{i}"  # what an earlier Tab still adds goes to its own file
        child.sendline(f"\x15offered={offered}")
        child.expect("ready> ")
        offered.write_text("")
        child.send(f"\x15hyprstream {words[0]}\t")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            got = set(offered.read_text().split("\n")) - {""}
            if words[1] <= {word.split(":")[0] for word in got}:
                break
            time.sleep(0.1)
        check(words, {word.split(":")[0] for word in got})
