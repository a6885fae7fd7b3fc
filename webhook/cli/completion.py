"""Completion of the command line, for shells and for kubectl.

    source <(podgrace completion bash)

In: the words typed so far, the last one unfinished. Out: the words that may stand there, read from
the parsers themselves: nothing is generated, so nothing can be out of date. `podgrace __complete`
speaks the protocol that kubectl speaks with `kubectl_complete-podgrace`: a word a line, then a
line with `:` and a number, 4 for "no files here", 0 for "files as well".
"""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Final

from webhook.cli.arguments import command
from webhook.cli.exits import OK

_NO_FILES: Final = 4
_FILES: Final = frozenset(("FILE", "DIR"))

_BASH: Final = """\
_podgrace() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}") line
    COMPREPLY=()
    while read -r line; do
        case $line in
            :0) compopt -o default ;;
            :*) ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <(podgrace __complete "${words[@]}" 2>/dev/null)
}
complete -F _podgrace podgrace
"""
_ZSH: Final = """\
#compdef podgrace
_podgrace() {
    local -a found
    local line files=
    while read -r line; do
        case $line in
            :0) files=1 ;;
            :*) ;;
            *) found+=("$line") ;;
        esac
    done < <(podgrace __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    compadd -a found
    if [[ -n $files ]]; then _files; fi
}
compdef _podgrace podgrace
"""
_FISH: Final = """\
function __podgrace_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (podgrace __complete $words[2..-1] 2>/dev/null)
        switch $line
            case ':0'
                __fish_complete_path (commandline -ct)
            case ':*'
            case '*'
                echo $line
        end
    end
end
complete -c podgrace -f -a '(__podgrace_complete)'
"""
SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_EXAMPLES: Final = """
source <(podgrace completion bash)
podgrace completion zsh > "${fpath[1]}/_podgrace"
podgrace completion fish > ~/.config/fish/completions/podgrace.fish
"""


def add_parser(commands: Any) -> None:
    """Add the command to the top parser's."""
    text = "Print the completion of podgrace for a shell."
    made = command(commands, "completion", run, text, _EXAMPLES)
    made.add_argument("shell", choices=tuple(SCRIPTS))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[args.shell], end="")
    return OK


def complete(words: Sequence[str], build: Callable[[str], argparse.ArgumentParser]) -> int:
    """Print what may stand in the place of the last word."""
    *before, word = words or [""]
    found, files = candidates(build(before[0] if before else ""), before, word)
    print("\n".join([*found, f":{0 if files else _NO_FILES}"]))
    return OK


def candidates(
    parser: argparse.ArgumentParser, before: Sequence[str], word: str
) -> tuple[list[str], bool]:
    """Give the words that begin with `word` and may follow `before`; and whether files may."""
    wanted: argparse.Action | None = None
    for typed in before:
        if typed == "--":
            return [], True
        commands = _commands(parser)
        if wanted is not None:
            wanted = None
        elif typed.startswith("-"):
            wanted = _option(parser, typed)
            if wanted is not None and wanted.nargs is not None:
                wanted = None
        elif typed in commands:
            parser = commands[typed]
    name, equals, value = word.partition("=")
    if equals and name.startswith("--"):
        found, files = _values(_option(parser, name))
        return [f"{name}={each}" for each in found if each.startswith(value)], files
    if wanted is not None:
        found, files = _values(wanted)
    elif word.startswith("-"):
        known = parser._option_string_actions  # noqa: SLF001 - no public way
        found, files = [name for name in known if name.startswith("--")], False
    else:
        commands = _commands(parser)
        found, files = list(commands), False
        for action in parser._get_positional_actions():  # noqa: SLF001
            if not commands:
                found += [str(each) for each in action.choices or ()]
                files = files or not action.choices
    return sorted(each for each in found if each.startswith(word)), files


def _option(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    return parser._option_string_actions.get(name)  # noqa: SLF001 - no public way


def _values(action: argparse.Action | None) -> tuple[list[str], bool]:
    """Give the values of an option, and whether a file may be one."""
    if action is None:
        return [], False
    if action.choices:
        return [str(each) for each in action.choices], False
    named = str(action.metavar or "")
    if named.startswith("{"):
        return named.strip("{}").split(","), False
    return [], named in _FILES


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Give the commands below a parser."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}
