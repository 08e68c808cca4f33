"""`aioray completion`: a script that lets a shell complete commands, options and values.

Room: cli. The completing is click's. For bash it needs help: bash takes "state=FAILED" for three
words, so what click reads is put together again, and what it answers is cut to what follows the
"=". And a key ends in "=", behind which no blank may come.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, add_completion_class, get_completion_class

from aioray.cli import COMPLETE

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["Bash", "command", "install"]


class Bash(BashComplete):
    """Completion in bash of values with "=" in them."""

    source_template = """\
%(complete_func)s() {
    local response line
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete $1)
    while IFS= read -r line; do
        case "${line%%%%,*}" in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("${line#*,}"); [[ $line == *= ]] && compopt -o nospace ;;
        esac
    done <<< "$response"
    return 0
}

%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}

%(complete_func)s_setup;
"""

    @staticmethod
    def _check_version() -> None:
        """Start no bash to ask for its version: 4.4 is ten years old."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to be completed, and that one."""
        words = os.environ["COMP_WORDS"].split()
        at = int(os.environ["COMP_CWORD"])
        before, incomplete = words[1:at], words[at] if at < len(words) else ""
        if incomplete == "=":
            incomplete = f"{before.pop()}="
        elif before and before[-1] == "=" and len(before) > 1:
            incomplete = f"{before[-2]}={incomplete}"
            del before[-2:]
        return _joined(before), incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """Return what replaces the last word, which for bash begins behind the "="."""
        head, sign, tail = item.value.partition("=")
        return f"{item.type},{tail if sign and tail else f'{head}{sign}'}"


def _joined(words: list[str]) -> list[str]:
    """Put words together with those on both sides of a "="."""
    whole: list[str] = []
    for word in words:
        if whole and (word == "=" or whole[-1].endswith("=")):
            whole[-1] += word
        else:
            whole.append(word)
    return whole


def install() -> None:
    """Let click use the classes of this module when a shell asks."""
    add_completion_class(Bash)


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    """Print the script that lets SHELL complete `aioray` commands.

    \b
    bash:  eval "$(aioray completion bash)"     in ~/.bashrc
    zsh:   eval "$(aioray completion zsh)"      in ~/.zshrc
    fish:  aioray completion fish | source      in ~/.config/fish/config.fish
    """  # noqa: D301 - click wants the character
    install()
    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(ctx.find_root().command, {}, "aioray", COMPLETE).source(), nl=False)
